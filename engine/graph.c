/* SPDX-License-Identifier: MIT
 *
 * The forward pass, top to bottom: graph_eval at the end reads like the model's own description.
 */
#include "engine/graph.h"

#include <stddef.h>
#include <stdlib.h>

#define BYTES(count) ((uint64_t)(count) * sizeof(float))

/* ---------------------------------------------------------------------------------------------------- buffers */

/* Attention and feed-forward come one after the other: their buffers share memory. */
enum phase { ALWAYS, ATTENTION, FEED_FORWARD, PHASES };

struct buffer_rule {
    const char *label;
    size_t at;      /* in struct graph */
    uint64_t width; /* floats (or u32) a token; 0 = not needed by this model */
    uint64_t rows;
    enum phase phase;
};

enum { N_BUFFERS = 20, ALIGNMENT = 256 };

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static void buffer_rules(const struct shape *s, uint32_t batch, struct buffer_rule *out)
{
    uint64_t heads = s->n_head, hd = s->n_kda ? heads * s->kda_dim : 0, d = s->n_kda ? s->kda_dim : 0;
    uint64_t hnp = s->n_mla ? heads * (s->nope + s->rope) : 0, hv = s->n_mla ? heads * s->vdim : 0;
    /* What MLA has of queries beyond those of KDA lies where KDA has its keys. */
    uint64_t wide = hnp > 2 * hd ? hnp - hd : hd;
    uint64_t row = s->n_mla ? s->kv_lora + s->rope : 0, experts = s->n_expert ? batch : 0;
    const struct buffer_rule rules[N_BUFFERS] = {
        {"token ids", offsetof(struct graph, ids), 1, batch, ALWAYS},
        {"residual", offsetof(struct graph, x), s->n_embd, batch, ALWAYS},
        {"normalised", offsetof(struct graph, a), s->n_embd, batch, ALWAYS},
        {"q", offsetof(struct graph, q), hd, batch, ATTENTION},
        {"k", offsetof(struct graph, k), wide, batch, ATTENTION},
        {"o", offsetof(struct graph, o), most(hd, hv), batch, ATTENTION},
        {"f_a", offsetof(struct graph, f_a), d, batch, ATTENTION},
        {"f", offsetof(struct graph, f), hd, batch, ATTENTION},
        {"g_a", offsetof(struct graph, g_a), d, batch, ATTENTION},
        {"beta", offsetof(struct graph, beta), s->n_kda ? heads : 0, batch, ATTENTION},
        {"c", offsetof(struct graph, c), row, batch, ATTENTION},
        {"turns", offsetof(struct graph, turns), s->rope, s->rotates ? batch : 0, ALWAYS},
        {"q_a", offsetof(struct graph, q_a), s->q_lora, batch, ATTENTION},
        {"q_a normalised", offsetof(struct graph, q_n), s->q_lora, batch, ATTENTION},
        {"gate", offsetof(struct graph, gate), most(s->n_ff, s->n_ff_shared), batch, FEED_FORWARD},
        {"up", offsetof(struct graph, up), most(s->n_ff, s->n_ff_shared), batch, FEED_FORWARD},
        {"router", offsetof(struct graph, router), s->n_expert, experts, FEED_FORWARD},
        {"chosen experts", offsetof(struct graph, chosen), s->n_used, experts, FEED_FORWARD},
        {"expert weights", offsetof(struct graph, weight), s->n_used, experts, FEED_FORWARD},
        {"logits", offsetof(struct graph, logits), s->n_vocab, LOGIT_ROWS, ALWAYS},
    };
    for (size_t i = 0; i < N_BUFFERS; i++) out[i] = rules[i];
}

static uint64_t *buffer_at(struct graph *g, const struct buffer_rule *rule)
{
    return (uint64_t *)(void *)((char *)g + rule->at);
}

/* Where each buffer begins. Returns the size of all. */
static uint64_t buffers_place(const struct buffer_rule rules[N_BUFFERS], uint64_t at[N_BUFFERS])
{
    uint64_t end[PHASES] = {0};
    for (enum phase phase = ALWAYS; phase < PHASES; phase++) {
        if (phase != ALWAYS) end[phase] = end[ALWAYS];
        for (size_t i = 0; i < N_BUFFERS; i++) {
            const uint64_t bytes = BYTES(rules[i].width * rules[i].rows);
            if (rules[i].phase != phase) continue;
            at[i] = end[phase];
            end[phase] += (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        }
    }
    return most(end[ATTENTION], end[FEED_FORWARD]);
}

uint64_t graph_bytes(const struct shape *s, uint32_t batch)
{
    struct buffer_rule rules[N_BUFFERS];
    uint64_t at[N_BUFFERS];
    buffer_rules(s, batch, rules);
    return buffers_place(rules, at);
}

int graph_open(struct graph *g, struct backend *backend, const struct model *model, uint32_t batch, struct error *error)
{
    *g = (struct graph){.backend = backend, .model = model, .batch = batch};
    struct buffer_rule rules[N_BUFFERS];
    uint64_t at[N_BUFFERS];
    buffer_rules(&model->shape, batch, rules);
    const uint64_t bytes = buffers_place(rules, at);
    int rc = backend->ops->prepare(backend, &model->shape, batch, error);
    if (!rc) rc = backend->ops->alloc(backend, (size_t)bytes, "activations", &g->buffers, error);
    for (size_t i = 0; !rc && i < N_BUFFERS; i++)
        if (rules[i].width && rules[i].rows) *buffer_at(g, &rules[i]) = g->buffers + at[i];
    if (!g->q) g->q = g->k;
    /* The delta rule is done with a token's values when it has the token's output, and with all keys before output
     * gates are made. */
    g->v = g->o;
    g->z = g->k;
    if (rc || !model->shape.rotates) return rc;
    g->turns_host = malloc((size_t)BYTES((uint64_t)batch * model->shape.rope));
    return g->turns_host ? 0 : error_set(error, ERROR_FAILED, "Out of memory for the positions of a batch.");
}

void graph_close(struct graph *g)
{
    if (!g->model) return;
    if (g->buffers) g->backend->ops->release(g->backend, g->buffers);
    free(g->turns_host);
    *g = (struct graph){0};
}

/* ----------------------------------------------------------------------------------------------------- layers */

static void matmul_one(struct graph *g, uint64_t x, const struct weight *w, uint64_t y, bool add, uint32_t n)
{
    const struct matmul_job job = {w, y, add};
    g->backend->ops->matmul(g->backend, x, &job, 1, n);
}

static void norm(struct graph *g, const struct weight *gain, uint32_t n)
{
    const struct shape *s = &g->model->shape;
    g->backend->ops->rms_norm(g->backend, g->x, gain->addr, g->a, n, s->n_embd, s->eps);
}

/* a = rms_norm(x), and products of a. */
static void norm_matmul(struct graph *g, const struct weight *gain, const struct matmul_job *jobs, uint32_t count,
                        uint32_t n)
{
    g->backend->ops->norm_matmul(g->backend, &(struct norm_matmul){.n = n,
                                                                   .x = g->x,
                                                                   .gain = gain->addr,
                                                                   .a = g->a,
                                                                   .eps = g->model->shape.eps,
                                                                   .jobs = jobs,
                                                                   .count = count});
}

/* What a KDA layer does between its projections. */
static struct kda_block kda_of(const struct graph *g, const struct layer *l, const struct graph_step *step)
{
    const struct shape *s = &g->model->shape;
    const uint64_t inner = (uint64_t)s->n_head * s->kda_dim;
    const uint32_t n = step->n, n_head = s->n_head, dim = s->kda_dim;
    return (struct kda_block){
        .f_b = &l->f_b,
        .g_b = &l->g_b,
        .f_a = g->f_a,
        .g_a = g->g_a,
        .conv = {.n = n,
                 .n_head = n_head,
                 .dim = dim,
                 .x = {g->q, g->k, g->v},
                 .kernel = {l->conv[0].addr, l->conv[1].addr, l->conv[2].addr},
                 .history = step->state->history + BYTES(l->index * 3 * inner * 3),
                 .y = {g->q, g->k, g->v}},
        .gate =
            {.n = n, .n_head = n_head, .dim = dim, .f = g->f, .dt = l->dt.addr, .a = l->decay.addr, .beta = g->beta},
        .delta = {.n = n,
                  .n_head = n_head,
                  .dim = dim,
                  .q = g->q,
                  .k = g->k,
                  .v = g->v,
                  .g = g->f,
                  .beta = g->beta,
                  .state = step->state->kda + BYTES(l->index * inner * dim),
                  .o = g->o},
        .out = {.n = n, .n_head = n_head, .dim = dim, .o = g->o, .gain = l->out_norm.addr, .z = g->z, .eps = s->eps},
    };
}

/* x += KDA(norm(x)) */
static void kda_layer(struct graph *g, const struct layer *l, const struct graph_step *step)
{
    const struct backend_ops *ops = g->backend->ops;
    const struct kda_block block = kda_of(g, l, step);
    const struct matmul_job in[] = {
        {.w = &l->attn_q, .y = g->q}, {.w = &l->attn_k, .y = g->k}, {.w = &l->attn_v, .y = g->v},
        {.w = &l->f_a, .y = g->f_a},  {.w = &l->g_a, .y = g->g_a},  {.w = &l->beta, .y = g->beta},
    };

    norm_matmul(g, &l->attn_norm, in, 6, step->n);
    if (!ops->kda_block || !ops->kda_block(g->backend, &block)) {
        matmul_one(g, g->f_a, &l->f_b, g->f, false, step->n);
        ops->kda_conv(g->backend, &block.conv);
        ops->kda_gate(g->backend, &block.gate);
        ops->kda_delta(g->backend, &block.delta);
        matmul_one(g, g->g_a, &l->g_b, g->z, false, step->n);
        ops->kda_out(g->backend, &block.out);
    }
    matmul_one(g, g->o, &l->attn_out, g->x, true, step->n);
}

/* q and c of norm(x). */
static void mla_project(struct graph *g, const struct layer *l, uint32_t n)
{
    const struct backend_ops *ops = g->backend->ops;
    const struct shape *s = &g->model->shape;
    bool compressed = l->q_a.addr != 0;
    const struct matmul_job in[] = {
        {.w = compressed ? &l->q_a : &l->attn_q, .y = compressed ? g->q_a : g->q},
        {.w = &l->kv_a, .y = g->c},
    };
    norm_matmul(g, &l->attn_norm, in, 2, n);
    if (!compressed) return;
    ops->rms_norm(g->backend, g->q_a, l->q_a_norm.addr, g->q_n, n, s->q_lora, s->eps);
    matmul_one(g, g->q_n, &l->attn_q, g->q, false, n);
}

/* x += MLA(norm(x)) */
static void mla_layer(struct graph *g, const struct layer *l, const struct graph_step *step)
{
    const struct backend_ops *ops = g->backend->ops;
    const struct shape *s = &g->model->shape;

    mla_project(g, l, step->n);
    if (s->rotates)
        ops->rope(g->backend, &(struct rope){.n = step->n,
                                             .n_head = s->n_head,
                                             .kv_lora = s->kv_lora,
                                             .nope = s->nope,
                                             .rope = s->rope,
                                             .q = g->q,
                                             .c = g->c,
                                             .turns = g->turns,
                                             .scale = s->query_scale});
    ops->mla_store(g->backend, &(struct mla_store){.n = step->n,
                                                   .first = step->first,
                                                   .layer = l->index,
                                                   .kv_lora = s->kv_lora,
                                                   .rope = s->rope,
                                                   .c = g->c,
                                                   .gain = l->kv_norm.addr,
                                                   .eps = s->eps,
                                                   .rows = &step->state->rows});
    ops->mla_attend(g->backend, &(struct mla_attend){.n = step->n,
                                                     .first = step->first,
                                                     .layer = l->index,
                                                     .n_head = s->n_head,
                                                     .kv_lora = s->kv_lora,
                                                     .nope = s->nope,
                                                     .rope = s->rope,
                                                     .vdim = s->vdim,
                                                     .q = g->q,
                                                     .k_b = &l->k_b,
                                                     .v_b = &l->v_b,
                                                     .rows = &step->state->rows,
                                                     .o = g->o,
                                                     .form = MLA_AUTO});
    matmul_one(g, g->o, &l->attn_out, g->x, true, step->n);
}

/* x += down(silu(gate a) * up a), a = norm(x) */
static void dense_ffn(struct graph *g, const struct layer *l, uint32_t n)
{
    const struct matmul_job in[] = {{.w = &l->gate, .y = g->gate}, {.w = &l->up, .y = g->up}};
    norm_matmul(g, &l->ffn_norm, in, 2, n);
    g->backend->ops->swiglu(g->backend, g->gate, g->up, g->gate, n, g->model->shape.n_ff);
    matmul_one(g, g->gate, &l->down, g->x, true, n);
}

static struct moe_block moe_of(const struct graph *g, const struct layer *l, uint32_t n)
{
    const struct shape *s = &g->model->shape;
    const bool shared = s->n_ff_shared != 0;
    return (struct moe_block){
        .x = g->x,
        .gain = l->ffn_norm.addr,
        .eps = s->eps,
        .router = &l->router,
        .gate_sh = shared ? &l->gate_sh : NULL,
        .up_sh = shared ? &l->up_sh : NULL,
        .down_sh = shared ? &l->down_sh : NULL,
        .gate = g->gate,
        .up = g->up,
        .route = {.n = n,
                  .n_expert = s->n_expert,
                  .n_used = s->n_used,
                  .logits = g->router,
                  .bias = l->router_bias.addr,
                  .chosen = g->chosen,
                  .weight = g->weight,
                  .scale = s->expert_scale,
                  .gating = s->gating,
                  .raw = !s->expert_norm,
                  .n_group = s->n_group,
                  .n_group_used = s->n_group_used},
        .experts = {.n = n,
                    .n_used = s->n_used,
                    .x = g->a,
                    .chosen = g->chosen,
                    .weight = g->weight,
                    .gate = &l->gate_exps,
                    .up = l->up_exps.addr ? &l->up_exps : NULL,
                    .down = &l->down_exps,
                    .y = g->x,
                    .spare = g->gate,
                    .spare_bytes = shape_spare(s, g->batch)},
    };
}

/* x += shared(a) + sum over the chosen experts of weight * expert(a), a = norm(x) */
static void moe_ffn(struct graph *g, const struct layer *l, uint32_t n)
{
    const struct backend_ops *ops = g->backend->ops;
    const struct moe_block block = moe_of(g, l, n);
    const struct matmul_job in[] = {
        {.w = &l->router, .y = g->router}, {.w = &l->gate_sh, .y = g->gate}, {.w = &l->up_sh, .y = g->up}};

    if (ops->moe_block && ops->moe_block(g->backend, &block)) return;
    norm_matmul(g, &l->ffn_norm, in, block.down_sh ? 3 : 1, n);
    if (block.down_sh) {
        ops->swiglu(g->backend, g->gate, g->up, g->gate, n, l->down_sh.n_in);
        matmul_one(g, g->gate, &l->down_sh, g->x, true, n);
    }
    ops->moe_route(g->backend, &block.route);
    ops->moe_experts(g->backend, &block.experts);
}

/* -------------------------------------------------------------------------------------------------- the model */

/* A timeline begins with a state of zeros. */
static void zero_state(struct graph *g, const struct graph_state *state)
{
    const struct shape *s = &g->model->shape;
    uint64_t inner = (uint64_t)s->n_head * s->kda_dim;
    if (!s->n_kda) return;
    g->backend->ops->fill(g->backend, state->kda, 0, (size_t)BYTES(s->n_kda * inner * s->kda_dim));
    g->backend->ops->fill(g->backend, state->history, 0, (size_t)BYTES(s->n_kda * 3 * inner * 3));
}

/* Logits of the last token; a = norm(x) of all of them, for graph_all_logits. */
static void output(struct graph *g, uint32_t n)
{
    const struct model *m = g->model;
    const struct matmul_job job = {.w = &m->output, .y = g->logits};
    if (n == 1) {
        norm_matmul(g, &m->output_norm, &job, 1, n);
        return;
    }
    norm(g, &m->output_norm, n);
    matmul_one(g, g->a + BYTES((uint64_t)(n - 1) * m->shape.n_embd), &m->output, g->logits, false, 1);
}

static void record(struct graph *g, const struct graph_step *step)
{
    const struct model *m = g->model;
    uint32_t n = step->n;
    if (step->first == 0) zero_state(g, step->state);
    g->backend->ops->embed(g->backend, &m->embedding, g->ids, g->x, n);
    for (uint32_t i = 0; i < m->shape.n_layer; i++) {
        const struct layer *l = &m->layers[i];
        if (l->is_mla)
            mla_layer(g, l, step);
        else
            kda_layer(g, l, step);
        if (l->is_moe)
            moe_ffn(g, l, n);
        else
            dense_ffn(g, l, n);
    }
    output(g, n);
}

/* Tells the device the positions of a batch, where they matter; that of a single token travels with it. */
static int upload_turns(struct graph *g, const struct graph_step *step, struct error *error)
{
    const uint64_t count = (uint64_t)step->n * g->model->shape.rope;
    if (!g->turns_host) return 0;
    rotation_fill(&g->model->rotation, step->first, step->n, g->turns_host);
    if (step->n == 1) return 0;
    return g->backend->ops->upload(g->backend, g->turns, g->turns_host, (size_t)BYTES(count), error);
}

static int record_step(struct graph *g, const struct graph_step *step, struct error *error)
{
    struct backend *b = g->backend;
    int rc = upload_turns(g, step, error);
    if (!rc) rc = b->ops->begin(b, error);
    if (rc) return rc;
    b->ops->put(b, g->ids, step->ids, step->n * sizeof *step->ids);
    if (g->turns_host && step->n == 1) b->ops->put(b, g->turns, g->turns_host, (size_t)BYTES(g->model->shape.rope));
    record(g, step);
    b->ops->fetch(b, step->logits, g->logits, BYTES(g->model->shape.n_vocab));
    return 0;
}

/* ------------------------------------------------------------------------------------------------ one step ahead */
/* After a token of an answer comes, most often, another one: all but its id is known, and is recorded while the device
 * is busy. */

static bool ahead_is(const struct graph *g, const struct graph_step *step)
{
    const struct graph_ahead *a = &g->ahead;
    return a->batch && a->batch == g->backend->ops->recorded(g->backend) && step->n == 1 &&
           a->step.first == step->first && a->step.state == step->state && a->step.logits == step->logits;
}

/* A failure to record is left to the step itself, which then records again. */
static void ahead_record(struct graph *g, const struct graph_step *step)
{
    struct error error;
    struct graph_ahead *a = &g->ahead;
    a->step = (struct graph_step){
        .state = step->state, .ids = &a->id, .first = step->first + 1, .n = 1, .logits = step->logits};
    a->batch = record_step(g, &a->step, &error) ? 0 : g->backend->ops->recorded(g->backend);
}

static bool ahead_pays(const struct graph_step *step)
{
    return step->n == 1 && step->first > 0;
}

int graph_eval(struct graph *g, const struct graph_step *step, struct error *error)
{
    const struct backend_ops *ops = g->backend->ops;
    if (!ops->start) {
        int rc = record_step(g, step, error);
        return rc ? rc : ops->submit(g->backend, error);
    }
    int rc = ahead_is(g, step) ? 0 : record_step(g, step, error);
    g->ahead.id = step->ids[0];
    g->ahead.batch = 0;
    if (!rc) rc = ops->start(g->backend, error);
    if (rc) return rc;
    if (ahead_pays(step)) ahead_record(g, step);
    return ops->finish(g->backend, error);
}

int graph_all_logits(struct graph *g, uint32_t n, float *logits, struct error *error)
{
    struct backend *b = g->backend;
    const struct shape *s = &g->model->shape;
    for (uint32_t t = 0; t < n; t += LOGIT_ROWS) {
        uint32_t rows = n - t < LOGIT_ROWS ? n - t : LOGIT_ROWS;
        int rc = b->ops->begin(b, error);
        if (rc) return rc;
        matmul_one(g, g->a + BYTES((uint64_t)t * s->n_embd), &g->model->output, g->logits, false, rows);
        if ((rc = b->ops->submit(b, error)) || (rc = b->ops->download(b, logits + (size_t)t * s->n_vocab, g->logits,
                                                                      BYTES((uint64_t)rows * s->n_vocab), error)))
            return rc;
    }
    return 0;
}
