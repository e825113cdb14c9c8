/* SPDX-License-Identifier: MIT
 *
 * What backends do in fewer steps for one token, against the same done step by step on the C twin: a norm and products
 * of several formats, KDA between its projections, a mixture of experts from norm to residual.
 */
#include "tests/op_weight.h"

#include <stdio.h>

/* ------------------------------------------------------------------------------------------- norm and products */

enum { JOBS = 8 };

static void norm_products(struct check *c, const char *const *formats, uint32_t n_in, uint32_t n)
{
    static const uint32_t outs[JOBS] = {9, 70, 17, 33, 25, 8, 12, 100};
    struct check_weight w[JOBS];
    struct check_buffer *x = check_floats(c, (size_t)n * n_in, 2), *gain = check_floats(c, n_in, 1);
    struct check_buffer *a = check_output(c, (size_t)n * n_in), *y[JOBS];
    struct matmul_job jobs[JOBS];
    float *normal = malloc((size_t)n * n_in * sizeof *normal);
    double *want_a = check_doubles(c, (size_t)n * n_in);
    assert_non_null(normal);
    for (uint32_t t = 0; t < n; t++) {
        double squares = 0;
        for (uint32_t i = 0; i < n_in; i++) squares += pow((double)x->host[t * n_in + i], 2);
        for (uint32_t i = 0; i < n_in; i++) {
            const size_t at = (size_t)t * n_in + i;
            want_a[at] = (double)x->host[at] * (double)gain->host[i] / sqrt(squares / n_in + (double)1e-5f);
            normal[at] = (float)want_a[at];
        }
    }
    for (uint32_t j = 0; j < JOBS; j++) {
        w[j] = check_weight(c, formats[j % 2], n_in, outs[j], 1);
        y[j] = j == 4 ? check_floats(c, (size_t)n * outs[j], 1) : check_output(c, (size_t)n * outs[j]);
        jobs[j] = (struct matmul_job){&w[j].w, y[j]->addr, j == 4};
    }
    check_begin(c);
    c->ops->norm_matmul(
        c->backend,
        &(struct norm_matmul){
            .n = n, .x = x->addr, .gain = gain->addr, .a = a->addr, .eps = 1e-5f, .jobs = jobs, .count = JOBS});
    check_submit(c);
    char what[128];
    snprintf(what, sizeof what, "norm and products, %s and %s, in %u, n %u", formats[0], formats[1], n_in, n);
    check_nmse(c, a, want_a, 1e-12, what);
    for (uint32_t j = 0; j < JOBS; j++) {
        double *want = check_doubles(c, y[j]->count);
        for (uint32_t t = 0; t < n; t++)
            for (uint32_t r = 0; r < outs[j]; r++)
                want[t * outs[j] + r] = check_dot(&w[j], 0, r, normal + (size_t)t * n_in) +
                                        (j == 4 ? (double)y[j]->host[t * outs[j] + r] : 0);
        check_nmse(c, y[j], want, 1e-11, what);
        check_weight_free(c, &w[j]);
    }
    free(normal);
    check_reset(c);
}

static void test_norm_products(void **state)
{
    for (size_t f = 0; f < CHECK_FORMATS; f++) {
        const char *const formats[] = {check_formats[f], "F32"};
        const uint32_t block = quant_format_named(check_formats[f])->block_len;
        const uint32_t odd = block == 1 ? 37 : block;
        norm_products(*state, formats, odd, 1);
        norm_products(*state, formats, block == 256 ? 9 * 256 : 9 * 32, 1);
        norm_products(*state, formats, odd, 1 + (uint32_t)f % 4);
    }
    norm_products(*state, (const char *const[]){"Q4_K", "Q6_K"}, 4096, 1);
    norm_products(*state, (const char *const[]){"Q8_0", "F32"}, 9216, 1);
    norm_products(*state, (const char *const[]){"Q8_0", "F32"}, 16384, 1); /* too long for shared memory */
}

/* --------------------------------------------------------------------------------------------------------- KDA */

struct kda_case {
    const char *format;
    uint32_t n_head, dim;
};

struct kda {
    struct check_weight f_b, g_b;
    struct check_buffer *x[3], *kernel[3], *history, *f_a, *g_a, *f, *z, *beta, *dt, *a, *gain, *state, *o;
    struct kda_block op;
};

static void kda_make(struct check *c, const struct kda_case *k, struct kda *m)
{
    const uint32_t h = k->n_head, d = k->dim, width = h * d;
    *m = (struct kda){
        .f_b = check_weight(c, k->format, d, width, 1),
        .g_b = check_weight(c, k->format, d, width, 1),
        .history = check_floats(c, 9ul * width, 1),
        .f_a = check_floats(c, d, 0.2f),
        .g_a = check_floats(c, d, 0.2f),
        .f = check_output(c, width),
        .z = check_output(c, width),
        .beta = check_floats(c, h, 1),
        .dt = check_floats(c, width, 1),
        .a = check_floats(c, h, 1),
        .gain = check_floats(c, d, 1),
        .state = check_floats(c, (size_t)width * d, 1),
        .o = check_output(c, width),
    };
    for (uint32_t i = 0; i < h; i++) m->a->host[i] = -fabsf(m->a->host[i]);
    check_changed(c, m->a);
    for (uint32_t i = 0; i < 3; i++) {
        m->x[i] = check_floats(c, width, 1);
        m->kernel[i] = check_floats(c, 4ul * width, 0.5f);
    }
    const uint64_t q = m->x[0]->addr, key = m->x[1]->addr, v = m->x[2]->addr;
    m->op = (struct kda_block){
        .f_b = &m->f_b.w,
        .g_b = &m->g_b.w,
        .f_a = m->f_a->addr,
        .g_a = m->g_a->addr,
        .conv = {1,
                 h,
                 d,
                 {q, key, v},
                 {m->kernel[0]->addr, m->kernel[1]->addr, m->kernel[2]->addr},
                 m->history->addr,
                 {q, key, v}},
        .gate = {1, h, d, m->f->addr, m->dt->addr, m->a->addr, m->beta->addr},
        .delta = {1, h, d, q, key, v, m->f->addr, m->beta->addr, m->state->addr, m->o->addr},
        .out = {1, h, d, m->o->addr, m->gain->addr, m->z->addr, 1e-5f},
    };
}

/* Convolution, SiLU and norm of one head of q, k (stream 0, 1) or v. */
static void kda_stream(const struct kda *m, uint32_t stream, uint32_t dim, uint32_t head, double *y)
{
    const uint32_t width = (uint32_t)m->x[0]->count;
    double squares = 0;
    for (uint32_t d = 0; d < dim; d++) {
        const uint32_t ch = head * dim + d;
        const float *before = m->history->host + 3ul * (stream * width + ch), *tap = m->kernel[stream]->host + 4ul * ch;
        double sum = (double)tap[3] * (double)m->x[stream]->host[ch];
        for (uint32_t i = 0; i < 3; i++) sum += (double)tap[i] * (double)before[i];
        y[d] = sum / (1 + exp(-sum));
        squares += y[d] * y[d];
    }
    if (stream == 2) return;
    for (uint32_t d = 0; d < dim; d++) y[d] *= (stream ? 1 : 1 / sqrt(dim)) / sqrt(squares + 1e-6);
}

/* One head: its state is replaced, its part of o written. */
static void kda_head(struct check *c, const struct kda *m, uint32_t dim, uint32_t head, double *state, double *o)
{
    double *y = check_doubles(c, 4ul * dim), *q = y, *k = y + dim, *v = y + 2 * dim, *read = y + 3 * dim, squares = 0;
    const double beta = 1 / (1 + exp(-(double)m->beta->host[head]));
    for (uint32_t i = 0; i < 3; i++) kda_stream(m, i, dim, head, y + (size_t)i * dim);
    for (uint32_t i = 0; i < dim; i++) {
        const uint32_t row = head * dim + i;
        const double f = check_dot(&m->f_b, 0, row, m->f_a->host) + (double)m->dt->host[row];
        const double decay = exp((double)m->a->host[head] * log1p(exp(f)));
        for (uint32_t j = 0; j < dim; j++) read[j] += k[i] * (state[i * dim + j] *= decay);
    }
    for (uint32_t i = 0; i < dim; i++)
        for (uint32_t j = 0; j < dim; j++) {
            state[i * dim + j] += beta * k[i] * (v[j] - read[j]);
            o[j] += q[i] * state[i * dim + j];
        }
    for (uint32_t j = 0; j < dim; j++) squares += o[j] * o[j];
    for (uint32_t j = 0; j < dim; j++) {
        const double z = check_dot(&m->g_b, 0, head * dim + j, m->g_a->host);
        o[j] *= (double)m->gain->host[j] / sqrt(squares / dim + (double)1e-5f) / (1 + exp(-z));
    }
}

static void kda_by_steps(struct check *c, const struct kda_block *op)
{
    const struct matmul_job f = {.w = op->f_b, .y = op->gate.f}, z = {.w = op->g_b, .y = op->out.z};
    c->ops->matmul(c->backend, op->f_a, &f, 1, 1);
    c->ops->matmul(c->backend, op->g_a, &z, 1, 1);
    c->ops->kda_conv(c->backend, &op->conv);
    c->ops->kda_gate(c->backend, &op->gate);
    c->ops->kda_delta(c->backend, &op->delta);
    c->ops->kda_out(c->backend, &op->out);
}

/* Whether it went in one. */
static bool kda(struct check *c, const struct kda_case *k)
{
    const uint32_t width = k->n_head * k->dim;
    struct kda m;
    char what[96];
    kda_make(c, k, &m);
    double *state = check_doubles(c, (size_t)width * k->dim), *o = check_doubles(c, width);
    double *after = check_doubles(c, 9ul * width);
    for (size_t i = 0; i < m.state->count; i++) state[i] = (double)m.state->host[i];
    for (uint32_t h = 0; h < k->n_head; h++)
        kda_head(c, &m, k->dim, h, state + (size_t)h * k->dim * k->dim, o + (size_t)h * k->dim);
    for (uint32_t i = 0; i < 3 * width; i++) {
        after[3 * i] = (double)m.history->host[3 * i + 1];
        after[3 * i + 1] = (double)m.history->host[3 * i + 2];
        after[3 * i + 2] = (double)m.x[i / width]->host[i % width];
    }
    check_begin(c);
    const bool block = c->ops->kda_block && c->ops->kda_block(c->backend, &m.op);
    if (!block) kda_by_steps(c, &m.op);
    check_submit(c);
    snprintf(what, sizeof what, "kda %s, H %u, D %u, %s", k->format, k->n_head, k->dim, block ? "in one" : "by steps");
    check_nmse(c, m.o, o, 1e-11, what);
    check_nmse(c, m.state, state, 1e-12, what);
    check_nmse(c, m.history, after, 0, what);
    check_weight_free(c, &m.f_b);
    check_weight_free(c, &m.g_b);
    check_reset(c);
    return block;
}

static void test_kda(void **state)
{
    static const struct kda_case cases[] = {
        {"F32", 3, 40},     {"F32", 1, 32},   {"F16", 4, 72},  {"BF16", 2, 128},
        {"Q8_0", 32, 128},  {"Q8_0", 3, 64},  {"Q4_0", 5, 96}, {"Q5_1", 2, 160},
        {"IQ4_NL", 1, 128}, {"MXFP4", 2, 64}, {"F32", 2, 120}, {"F32", 2, 136}, /* by steps: too wide */
    };
    const size_t count = sizeof cases / sizeof *cases;
    size_t whole = 0;
    for (size_t i = 0; i < count; i++) whole += kda(*state, &cases[i]);
    printf("kda: %zu of %zu in one\n", whole, count);
}

/* ----------------------------------------------------------------------------------------------------- experts */

struct moe_case {
    const char *router, *exps, *down, *sh, *down_sh; /* formats; sh NULL = no shared expert */
    bool fused;
    uint32_t n_embd, n_ff, n_ff_sh, n_expert, n_used;
    bool ties;
};

struct moe {
    struct check_weight router, gate, up, down, gate_sh, up_sh, down_sh;
    struct check_buffer *x, *gain, *a, *logits, *bias, *chosen, *weight, *gate_y, *up_y;
    struct moe_block op;
};

static void moe_make(struct check *c, const struct moe_case *k, struct moe *m)
{
    const uint32_t e = k->n_embd, f = k->n_ff;
    *m = (struct moe){
        .router = check_weight(c, k->router, e, k->n_expert, 1),
        .gate = check_weight(c, k->exps, e, k->fused ? 2 * f : f, k->n_expert),
        .down = check_weight(c, k->down, f, e, k->n_expert),
        .x = check_floats(c, e, 1),
        .gain = check_floats(c, e, 0.1f),
        .a = check_output(c, e),
        .logits = check_output(c, k->n_expert),
        .bias = check_floats(c, k->n_expert, 0.1f),
        .chosen = check_output(c, k->n_used),
        .weight = check_output(c, k->n_used),
        .gate_y = check_output(c, k->n_ff_sh + 1),
        .up_y = check_output(c, k->n_ff_sh + 1),
    };
    if (!k->fused) m->up = check_weight(c, k->exps, e, f, k->n_expert);
    if (k->sh) {
        m->gate_sh = check_weight(c, k->sh, e, k->n_ff_sh, 1);
        m->up_sh = check_weight(c, k->sh, e, k->n_ff_sh, 1);
        m->down_sh = check_weight(c, k->down_sh, k->n_ff_sh, e, 1);
    }
    if (k->ties) {
        memset(m->gain->host, 0, e * sizeof(float)); /* all logits 0 */
        for (uint32_t i = 0; i < k->n_expert; i++) m->bias->host[i] = (float)(i % 3);
        check_changed(c, m->gain);
        check_changed(c, m->bias);
    }
    m->op = (struct moe_block){
        .x = m->x->addr,
        .gain = m->gain->addr,
        .eps = 1e-5f,
        .router = &m->router.w,
        .gate_sh = k->sh ? &m->gate_sh.w : NULL,
        .up_sh = k->sh ? &m->up_sh.w : NULL,
        .down_sh = k->sh ? &m->down_sh.w : NULL,
        .gate = m->gate_y->addr,
        .up = m->up_y->addr,
        .route = {.n = 1,
                  .n_expert = k->n_expert,
                  .n_used = k->n_used,
                  .logits = m->logits->addr,
                  .bias = m->bias->addr,
                  .chosen = m->chosen->addr,
                  .weight = m->weight->addr,
                  .scale = 2.446f,
                  .n_group = 1,
                  .n_group_used = 1},
        .experts = {.n = 1,
                    .n_used = k->n_used,
                    .x = m->a->addr,
                    .chosen = m->chosen->addr,
                    .weight = m->weight->addr,
                    .gate = &m->gate.w,
                    .up = k->fused ? NULL : &m->up.w,
                    .down = &m->down.w,
                    .y = m->x->addr},
    };
}

static double silu(double x)
{
    return x / (1 + exp(-x));
}

static void expert_add(const struct check_weight *gate, uint32_t gate_row, const struct check_weight *up,
                       uint32_t up_row, const struct check_weight *down, uint32_t mat, double weight, const float *a,
                       double *y)
{
    const uint32_t f = down->w.n_in;
    float *h = malloc(f * sizeof *h);
    assert_non_null(h);
    for (uint32_t r = 0; r < f; r++)
        h[r] = (float)(silu(check_dot(gate, mat, gate_row + r, a)) * check_dot(up, mat, up_row + r, a));
    for (uint32_t r = 0; r < down->w.n_out; r++) y[r] += weight * check_dot(down, mat, r, h);
    free(h);
}

/* y of the experts that were chosen, and those experts the best indeed. */
static void moe_want(struct check *c, const struct moe_case *k, const struct moe *m, double *y)
{
    float *a = malloc(k->n_embd * sizeof *a);
    bool *taken = calloc(k->n_expert, sizeof *taken);
    double squares = 0, sum = 0, *score = check_doubles(c, k->n_expert);
    uint32_t chosen[64];
    assert_true(a && taken);
    for (uint32_t i = 0; i < k->n_embd; i++) squares += pow((double)m->x->host[i], 2);
    for (uint32_t i = 0; i < k->n_embd; i++) {
        a[i] = (float)((double)m->x->host[i] * (double)m->gain->host[i] / sqrt(squares / k->n_embd + (double)1e-5f));
        y[i] = (double)m->x->host[i];
    }
    for (uint32_t e = 0; e < k->n_expert; e++) score[e] = 1 / (1 + exp(-check_dot(&m->router, 0, e, a)));
    check_read(c, m->chosen, "chosen");
    for (uint32_t j = 0; j < k->n_used; j++) {
        uint32_t best = k->n_expert;
        for (uint32_t e = 0; e < k->n_expert; e++)
            if (!taken[e] && (best == k->n_expert ||
                              score[e] + (double)m->bias->host[e] > score[best] + (double)m->bias->host[best]))
                best = e;
        memcpy(&chosen[j], &m->chosen->result[j], sizeof chosen[j]);
        assert_int_equal(chosen[j], best);
        taken[best] = true;
        sum += score[best];
    }
    for (uint32_t j = 0; j < k->n_used; j++)
        expert_add(&m->gate, 0, k->fused ? &m->gate : &m->up, k->fused ? k->n_ff : 0, &m->down, chosen[j],
                   score[chosen[j]] * (double)2.446f / sum, a, y);
    if (k->sh) expert_add(&m->gate_sh, 0, &m->up_sh, 0, &m->down_sh, 0, 1, a, y);
    free(taken);
    free(a);
}

static void moe_by_steps(struct check *c, const struct moe_block *op)
{
    const struct backend_ops *ops = c->ops;
    const struct matmul_job in[] = {
        {.w = op->router, .y = op->route.logits}, {.w = op->gate_sh, .y = op->gate}, {.w = op->up_sh, .y = op->up}};
    const struct matmul_job down = {.w = op->down_sh, .y = op->x, .add = true};
    ops->norm_matmul(c->backend, &(struct norm_matmul){.n = 1,
                                                       .x = op->x,
                                                       .gain = op->gain,
                                                       .a = op->experts.x,
                                                       .eps = op->eps,
                                                       .jobs = in,
                                                       .count = op->down_sh ? 3 : 1});
    if (op->down_sh) {
        ops->swiglu(c->backend, op->gate, op->up, op->gate, 1, op->down_sh->n_in);
        ops->matmul(c->backend, op->gate, &down, 1, 1);
    }
    ops->moe_route(c->backend, &op->route);
    ops->moe_experts(c->backend, &op->experts);
}

/* Whether it went in one. */
static bool moe(struct check *c, const struct moe_case *k)
{
    struct moe m;
    char what[160];
    moe_make(c, k, &m);
    check_begin(c);
    const bool block = c->ops->moe_block && c->ops->moe_block(c->backend, &m.op);
    if (!block) moe_by_steps(c, &m.op);
    check_submit(c);
    double *want = check_doubles(c, k->n_embd);
    moe_want(c, k, &m, want);
    snprintf(what, sizeof what, "moe %s/%s, shared %s/%s, %u of %u, %u x %u, %s", k->exps, k->down,
             k->sh ? k->sh : "none", k->sh ? k->down_sh : "", k->n_used, k->n_expert, k->n_embd, k->n_ff,
             block ? "in one" : "by steps");
    check_nmse(c, m.x, want, 1e-10, what);
    struct check_weight *const weights[] = {&m.router, &m.gate, &m.up, &m.down, &m.gate_sh, &m.up_sh, &m.down_sh};
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        if (weights[i]->values) check_weight_free(c, weights[i]);
    check_reset(c);
    return block;
}

static void test_moe(void **state)
{
    static const struct moe_case cases[] = {
        {"F32", "F32", "F32", "F32", "F32", false, 33, 7, 7, 7, 5, false},
        {"F32", "F32", "F32", "F32", "F32", true, 36, 40, 40, 7, 5, false},
        {"F32", "F32", "F32", NULL, NULL, false, 64, 32, 0, 9, 3, true},
        {"F32", "Q8_0", "Q8_0", "Q8_0", "Q8_0", false, 160, 96, 64, 8, 2, false},
        {"F32", "Q4_K", "Q6_K", "Q4_K", "Q6_K", false, 256, 256, 256, 64, 8, false},
        {"F32", "Q8_0", "Q8_0", "Q8_0", "Q8_0", false, 96, 544, 544, 12, 8, false}, /* more parts than subgroups */
        {"F32", "Q4_K", "Q4_K", "Q4_K", "Q4_K", false, 512, 256, 256, 64, 8, true},
        {"F32", "Q4_K", "Q5_K", "Q6_K", "Q8_0", true, 256, 256, 32, 16, 2, false},
        {"BF16", "BF16", "F16", "F16", "F16", false, 65, 33, 33, 3, 3, false},
        {"F32", "Q2_K", "Q3_K", "Q4_0", "Q3_K", false, 256, 256, 256, 12, 4, false},
        {"F32", "IQ4_XS", "IQ4_NL", "Q5_0", "Q5_1", false, 256, 96, 64, 8, 2, false},
        {"F32", "MXFP4", "MXFP4", "Q4_1", "Q8_0", false, 96, 64, 32, 8, 2, false},
        {"Q8_0", "TQ2_0", "TQ1_0", NULL, NULL, false, 256, 256, 0, 8, 2, false},
        {"F32", "IQ2_XXS", "IQ3_XXS", "IQ2_XS", "IQ3_XXS", false, 512, 256, 256, 8, 2, true},
        {"F32", "IQ1_S", "IQ1_M", "IQ3_S", "IQ2_S", true, 256, 256, 256, 8, 2, false},
        {"F32", "F32", "F32", NULL, NULL, false, 33, 5, 0, 64, 12, false}, /* by steps where a subgroup is 8 */
    };
    const size_t count = sizeof cases / sizeof *cases;
    size_t whole = 0;
    for (size_t i = 0; i < count; i++) whole += moe(*state, &cases[i]);
    printf("moe: %zu of %zu in one\n", whole, count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_norm_products),
        cmocka_unit_test(test_kda),
        cmocka_unit_test(test_moe),
    };
    const struct shape most = {.n_head = 32,
                               .kda_dim = 160,
                               .n_kda = 1,
                               .n_embd = 16384,
                               .n_ff = 16384,
                               .n_ff_exp = 544,
                               .n_ff_shared = 544,
                               .n_expert = 64,
                               .n_used = 12,
                               .eps = 1e-5f};
    return check_main(tests, sizeof tests / sizeof *tests, "op_decode", &most, 8);
}
