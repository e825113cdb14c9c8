/* SPDX-License-Identifier: MIT
 *
 * The tensors of a model: one table says the name, the shape and the place of each; checking and loading both walk it.
 */
#include "engine/model.h"

#include <stddef.h>
#include <string.h>

/* Sizes a tensor's shape is made of (engine/ops.h has the letters). */
enum size {
    SIZE_1,
    SIZE_4,
    SIZE_E,   /* n_embd */
    SIZE_D,   /* KDA head */
    SIZE_HD,  /* all KDA heads */
    SIZE_H,   /* heads */
    SIZE_R,   /* latent */
    SIZE_N,   /* nope */
    SIZE_V,   /* value head */
    SIZE_RP,  /* MLA row */
    SIZE_HNP, /* all MLA queries */
    SIZE_HV,  /* all MLA values */
    SIZE_HNV, /* all rows of k_b and v_b in one piece */
    SIZE_Q,   /* compressed query */
    SIZE_FF,  /* dense FFN */
    SIZE_F,   /* expert */
    SIZE_2F,  /* expert, gate and up fused */
    SIZE_FS,  /* shared expert */
    SIZE_X,   /* experts */
    SIZE_VOC, /* vocabulary */
};

enum when {
    ALWAYS,
    IN_KDA,
    IN_MLA,
    IN_MLA_QUERY,      /* queries in one step */
    IN_MLA_COMPRESSED, /* queries in two */
    IN_MLA_SPLIT,
    IN_MLA_JOINED, /* attn_kv_b in one piece */
    IN_DENSE,
    IN_MOE,
    IN_MOE_BIASED,
    IN_MOE_SPLIT,
    IN_MOE_FUSED,
    IN_SHARED,
};
enum form {
    MATRIX, /* any format; shape as told */
    VECTOR, /* F32; only the number of elements counts, because files differ in dimensions of 1 */
};

struct tensor_rule {
    const char *name; /* after "blk.N." */
    size_t at;        /* in struct layer, or in struct model for the global ones */
    enum when when;
    enum form form;
    enum size in, out, mats;
};

#define AT(field) offsetof(struct layer, field)
static const struct tensor_rule layer_rules[] = {
    {"attn_norm.weight", AT(attn_norm), ALWAYS, VECTOR, SIZE_E, SIZE_1, SIZE_1},
    {"attn_q.weight", AT(attn_q), IN_KDA, MATRIX, SIZE_E, SIZE_HD, SIZE_1},
    {"attn_k.weight", AT(attn_k), IN_KDA, MATRIX, SIZE_E, SIZE_HD, SIZE_1},
    {"attn_v.weight", AT(attn_v), IN_KDA, MATRIX, SIZE_E, SIZE_HD, SIZE_1},
    {"ssm_conv1d_q.weight", AT(conv[0]), IN_KDA, VECTOR, SIZE_4, SIZE_HD, SIZE_1},
    {"ssm_conv1d_k.weight", AT(conv[1]), IN_KDA, VECTOR, SIZE_4, SIZE_HD, SIZE_1},
    {"ssm_conv1d_v.weight", AT(conv[2]), IN_KDA, VECTOR, SIZE_4, SIZE_HD, SIZE_1},
    {"ssm_f_a.weight", AT(f_a), IN_KDA, MATRIX, SIZE_E, SIZE_D, SIZE_1},
    {"ssm_f_b.weight", AT(f_b), IN_KDA, MATRIX, SIZE_D, SIZE_HD, SIZE_1},
    {"ssm_dt.bias", AT(dt), IN_KDA, VECTOR, SIZE_HD, SIZE_1, SIZE_1},
    {"ssm_a", AT(decay), IN_KDA, VECTOR, SIZE_H, SIZE_1, SIZE_1},
    {"ssm_beta.weight", AT(beta), IN_KDA, MATRIX, SIZE_E, SIZE_H, SIZE_1},
    {"ssm_g_a.weight", AT(g_a), IN_KDA, MATRIX, SIZE_E, SIZE_D, SIZE_1},
    {"ssm_g_b.weight", AT(g_b), IN_KDA, MATRIX, SIZE_D, SIZE_HD, SIZE_1},
    {"ssm_norm.weight", AT(out_norm), IN_KDA, VECTOR, SIZE_D, SIZE_1, SIZE_1},
    {"attn_output.weight", AT(attn_out), IN_KDA, MATRIX, SIZE_HD, SIZE_E, SIZE_1},
    {"attn_q.weight", AT(attn_q), IN_MLA_QUERY, MATRIX, SIZE_E, SIZE_HNP, SIZE_1},
    {"attn_q_a.weight", AT(q_a), IN_MLA_COMPRESSED, MATRIX, SIZE_E, SIZE_Q, SIZE_1},
    {"attn_q_a_norm.weight", AT(q_a_norm), IN_MLA_COMPRESSED, VECTOR, SIZE_Q, SIZE_1, SIZE_1},
    {"attn_q_b.weight", AT(attn_q), IN_MLA_COMPRESSED, MATRIX, SIZE_Q, SIZE_HNP, SIZE_1},
    {"attn_kv_a_mqa.weight", AT(kv_a), IN_MLA, MATRIX, SIZE_E, SIZE_RP, SIZE_1},
    {"attn_kv_a_norm.weight", AT(kv_norm), IN_MLA, VECTOR, SIZE_R, SIZE_1, SIZE_1},
    {"attn_k_b.weight", AT(k_b), IN_MLA_SPLIT, MATRIX, SIZE_N, SIZE_R, SIZE_H},
    {"attn_v_b.weight", AT(v_b), IN_MLA_SPLIT, MATRIX, SIZE_R, SIZE_V, SIZE_H},
    {"attn_kv_b.weight", AT(kv_b), IN_MLA_JOINED, MATRIX, SIZE_R, SIZE_HNV, SIZE_1},
    {"attn_output.weight", AT(attn_out), IN_MLA, MATRIX, SIZE_HV, SIZE_E, SIZE_1},
    {"ffn_norm.weight", AT(ffn_norm), ALWAYS, VECTOR, SIZE_E, SIZE_1, SIZE_1},
    {"ffn_gate.weight", AT(gate), IN_DENSE, MATRIX, SIZE_E, SIZE_FF, SIZE_1},
    {"ffn_up.weight", AT(up), IN_DENSE, MATRIX, SIZE_E, SIZE_FF, SIZE_1},
    {"ffn_down.weight", AT(down), IN_DENSE, MATRIX, SIZE_FF, SIZE_E, SIZE_1},
    {"ffn_gate_inp.weight", AT(router), IN_MOE, MATRIX, SIZE_E, SIZE_X, SIZE_1},
    {"exp_probs_b.bias", AT(router_bias), IN_MOE_BIASED, VECTOR, SIZE_X, SIZE_1, SIZE_1},
    {"ffn_gate_exps.weight", AT(gate_exps), IN_MOE_SPLIT, MATRIX, SIZE_E, SIZE_F, SIZE_X},
    {"ffn_up_exps.weight", AT(up_exps), IN_MOE_SPLIT, MATRIX, SIZE_E, SIZE_F, SIZE_X},
    {"ffn_gate_up_exps.weight", AT(gate_exps), IN_MOE_FUSED, MATRIX, SIZE_E, SIZE_2F, SIZE_X},
    {"ffn_down_exps.weight", AT(down_exps), IN_MOE, MATRIX, SIZE_F, SIZE_E, SIZE_X},
    {"ffn_gate_shexp.weight", AT(gate_sh), IN_SHARED, MATRIX, SIZE_E, SIZE_FS, SIZE_1},
    {"ffn_up_shexp.weight", AT(up_sh), IN_SHARED, MATRIX, SIZE_E, SIZE_FS, SIZE_1},
    {"ffn_down_shexp.weight", AT(down_sh), IN_SHARED, MATRIX, SIZE_FS, SIZE_E, SIZE_1},
};
#undef AT
#define AT(field) offsetof(struct model, field)
static const struct tensor_rule global_rules[] = {
    {"token_embd.weight", AT(embedding), ALWAYS, MATRIX, SIZE_E, SIZE_VOC, SIZE_1},
    {"output_norm.weight", AT(output_norm), ALWAYS, VECTOR, SIZE_E, SIZE_1, SIZE_1},
    {"output.weight", AT(output), ALWAYS, MATRIX, SIZE_E, SIZE_VOC, SIZE_1},
};
#undef AT
enum {
    N_LAYER_RULES = sizeof layer_rules / sizeof *layer_rules,
    N_GLOBAL_RULES = sizeof global_rules / sizeof *global_rules,
};

static uint64_t size_of(const struct shape *s, enum size size)
{
    switch (size) {
    case SIZE_1:
        return 1;
    case SIZE_4:
        return 4;
    case SIZE_E:
        return s->n_embd;
    case SIZE_D:
        return s->kda_dim;
    case SIZE_HD:
        return (uint64_t)s->n_head * s->kda_dim;
    case SIZE_H:
        return s->n_head;
    case SIZE_R:
        return s->kv_lora;
    case SIZE_N:
        return s->nope;
    case SIZE_V:
        return s->vdim;
    case SIZE_RP:
        return (uint64_t)s->kv_lora + s->rope;
    case SIZE_HNP:
        return (uint64_t)s->n_head * (s->nope + s->rope);
    case SIZE_HV:
        return (uint64_t)s->n_head * s->vdim;
    case SIZE_HNV:
        return (uint64_t)s->n_head * (s->nope + s->vdim);
    case SIZE_Q:
        return s->q_lora;
    case SIZE_FF:
        return s->n_ff;
    case SIZE_F:
        return s->n_ff_exp;
    case SIZE_2F:
        return 2 * (uint64_t)s->n_ff_exp;
    case SIZE_FS:
        return s->n_ff_shared;
    case SIZE_X:
        return s->n_expert;
    case SIZE_VOC:
        return s->n_vocab;
    }
    return 0;
}

static const struct gguf_tensor *layer_tensor(const struct model *m, uint32_t layer, const char *suffix)
{
    char name[80];
    snprintf(name, sizeof name, "blk.%u.%s", layer, suffix);
    return gguf_tensor_named(m->file, name);
}

/* k_b and v_b in one piece, and not also in two. */
static const struct gguf_tensor *joined_kv_b(const struct model *m, uint32_t layer)
{
    return layer_tensor(m, layer, "attn_k_b.weight") ? NULL : layer_tensor(m, layer, "attn_kv_b.weight");
}

static bool rule_applies(const struct model *m, const struct tensor_rule *rule, uint32_t layer)
{
    const struct layer *l = &m->layers[layer];
    switch (rule->when) {
    case ALWAYS:
        return true;
    case IN_KDA:
        return !l->is_mla;
    case IN_MLA:
        return l->is_mla;
    case IN_MLA_QUERY:
        return l->is_mla && !layer_tensor(m, layer, "attn_q_a.weight");
    case IN_MLA_COMPRESSED:
        return l->is_mla && layer_tensor(m, layer, "attn_q_a.weight");
    case IN_MLA_SPLIT:
        return l->is_mla && !joined_kv_b(m, layer);
    case IN_MLA_JOINED:
        return l->is_mla && joined_kv_b(m, layer);
    case IN_DENSE:
        return !l->is_moe;
    case IN_MOE:
        return l->is_moe;
    case IN_MOE_BIASED:
        return l->is_moe && (m->arch->needs_router_bias || layer_tensor(m, layer, "exp_probs_b.bias"));
    case IN_MOE_SPLIT:
        return l->is_moe && !layer_tensor(m, layer, "ffn_gate_up_exps.weight");
    case IN_MOE_FUSED:
        return l->is_moe && layer_tensor(m, layer, "ffn_gate_up_exps.weight");
    case IN_SHARED:
        return l->is_moe && m->shape.n_ff_shared;
    }
    return false;
}

/* ------------------------------------------------------------------------------------------------------ check */

static int check_tensor(const struct model *m, const struct tensor_rule *rule, const char *name,
                        const struct gguf_tensor **out, struct error *error)
{
    const struct gguf_tensor *t = gguf_tensor_named(m->file, name);
    if (!t) return error_set(error, ERROR_MODEL, "The model file lacks the tensor %s.", name);
    uint64_t in = size_of(&m->shape, rule->in), n_out = size_of(&m->shape, rule->out),
             mats = size_of(&m->shape, rule->mats);
    bool fits = t->ne[0] == in && t->ne[1] == n_out && t->ne[2] == mats && t->ne[3] == 1;
    if (rule->form == VECTOR) {
        if (t->format->type != QUANT_F32)
            return error_set(error, ERROR_MODEL, "Tensor %s is %s: F32 is expected.", name, t->format->name);
        fits = t->bytes == in * n_out * sizeof(float);
    }
    if (!fits)
        return error_set(error, ERROR_MODEL, "Tensor %s is [%llu, %llu, %llu, %llu]: [%llu, %llu, %llu] is expected.",
                         name, (unsigned long long)t->ne[0], (unsigned long long)t->ne[1], (unsigned long long)t->ne[2],
                         (unsigned long long)t->ne[3], (unsigned long long)in, (unsigned long long)n_out,
                         (unsigned long long)mats);
    *out = t;
    return 0;
}

/* --------------------------------------------------------------------------------------------------- the walk */

/* Called for every tensor the model needs, in the table's order, with the place its weight goes to. */
typedef int tensor_visit(void *ctx, const struct gguf_tensor *, struct weight *, struct error *);

/* k_b and v_b are what is visited. */
static int visit_joined(const struct model *m, struct layer *l, const struct gguf_tensor *joined, tensor_visit *visit,
                        void *ctx, struct error *error)
{
    struct gguf_tensor parts[2];
    model_kv_b_parts(&m->shape, joined, l->kv_b, parts);
    int rc = visit(ctx, &parts[0], &l->k_b, error);
    return rc ? rc : visit(ctx, &parts[1], &l->v_b, error);
}

static int visit_rule(struct model *m, const struct tensor_rule *rule, const char *name, void *base,
                      tensor_visit *visit, void *ctx, struct error *error)
{
    const struct gguf_tensor *t;
    int rc = check_tensor(m, rule, name, &t, error);
    if (rc) return rc;
    if (rule->when == IN_MLA_JOINED) return visit_joined(m, base, t, visit, ctx, error);
    return visit(ctx, t, (struct weight *)(void *)((char *)base + rule->at), error);
}

static int visit_tensors(struct model *m, tensor_visit *visit, void *ctx, struct error *error)
{
    int rc;
    for (size_t i = 0; i < N_GLOBAL_RULES; i++)
        if ((rc = visit_rule(m, &global_rules[i], global_rules[i].name, m, visit, ctx, error))) return rc;
    for (uint32_t layer = 0; layer < m->shape.n_layer; layer++)
        for (size_t i = 0; i < N_LAYER_RULES; i++) {
            char name[80];
            if (!rule_applies(m, &layer_rules[i], layer)) continue;
            snprintf(name, sizeof name, "blk.%u.%s", layer, layer_rules[i].name);
            if ((rc = visit_rule(m, &layer_rules[i], name, &m->layers[layer], visit, ctx, error))) return rc;
        }
    return 0;
}

static int count_tensor(void *ctx, const struct gguf_tensor *t, struct weight *w, struct error *error)
{
    (void)w, (void)error;
    struct model *m = ctx;
    m->parameters += t->ne[0] * t->ne[1] * t->ne[2] * t->ne[3];
    m->weight_bytes += t->bytes;
    return 0;
}

int model_check_tensors(struct model *m, struct error *error)
{
    return visit_tensors(m, count_tensor, m, error);
}

struct loading {
    struct backend *backend;
    const struct model_progress *progress;
    uint64_t done, total;
};

static int load_tensor(void *ctx, const struct gguf_tensor *t, struct weight *w, struct error *error)
{
    struct loading *l = ctx;
    int rc = l->backend->ops->weight_load(l->backend, t, w, error);
    if (rc) return rc;
    l->done += t->bytes;
    if (l->progress && l->progress->call && !l->progress->call(l->progress->ctx, l->done, l->total))
        return error_set(error, ERROR_CANCELLED, "Loading was stopped.");
    return 0;
}

/* Before the walk, which takes the parts from there. A backend may use them where they are: they live with the model.
 */
static int split_joined(struct model *m, struct error *error)
{
    for (uint32_t i = 0; i < m->shape.n_layer; i++) {
        const struct gguf_tensor *joined = m->layers[i].is_mla ? joined_kv_b(m, i) : NULL;
        int rc = joined ? model_kv_b_split(&m->shape, joined, &m->layers[i].kv_b, error) : 0;
        if (rc) return rc;
    }
    return 0;
}

int model_load(struct model *m, struct backend *backend, const struct model_progress *progress, struct error *error)
{
    struct loading l = {.backend = backend, .progress = progress, .total = m->weight_bytes};
    int rc = split_joined(m, error);
    return rc ? rc : visit_tensors(m, load_tensor, &l, error);
}
