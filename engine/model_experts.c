/* SPDX-License-Identifier: MIT
 *
 * Metadata of the feed-forward networks: which layers have experts, how wide they are, how a token chooses among them.
 */
#include "engine/model_keys.h"

/* The shared expert's width is in no key of every file; its tensor tells. */
static int read_shared_width(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    char name[64];
    uint32_t count;
    snprintf(name, sizeof name, "blk.%u.ffn_gate_shexp.weight", s->n_dense);
    const struct gguf_tensor *t = gguf_tensor_named(m->file, name);
    uint64_t width = t ? t->ne[1] : 0;
    if (width > 64u << 20) return error_set(error, ERROR_MODEL, "%s is too wide.", name);
    int rc = model_optional(m, &(struct number_rule){"expert_shared_count", 0, 64}, (uint32_t)(width / s->n_ff_exp),
                            &count, error);
    if (rc) return rc;
    if ((uint64_t)count * s->n_ff_exp != width)
        return error_set(error, ERROR_MODEL, "%s is %llu wide, but %u shared experts of %u are told.", name,
                         (unsigned long long)width, count, s->n_ff_exp);
    s->n_ff_shared = (uint32_t)width;
    return 0;
}

/* Experts in groups, of which a token first chooses some. */
static int read_groups(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    char room[128];
    int rc;
    if ((rc = model_optional(m, &(struct number_rule){"expert_group_count", 0, 256}, 1, &s->n_group, error)) ||
        (rc = model_optional(m, &(struct number_rule){"expert_group_used_count", 0, 256}, 0, &s->n_group_used, error)))
        return rc;
    if (s->n_group <= 1 || s->n_group == s->n_group_used) {
        s->n_group = s->n_group_used = 1;
        return 0;
    }
    if (s->n_expert % s->n_group || s->n_expert / s->n_group < 2)
        return error_set(error, ERROR_MODEL, "%s is %u: %u experts cannot be grouped so.",
                         model_key(m, "expert_group_count", room), s->n_group, s->n_expert);
    if (s->n_group_used < 1 || s->n_group_used > s->n_group)
        return error_set(error, ERROR_MODEL, "%s is %u of %u groups.", model_key(m, "expert_group_used_count", room),
                         s->n_group_used, s->n_group);
    if (s->n_used > s->n_expert / s->n_group * s->n_group_used)
        return error_set(error, ERROR_MODEL, "%u experts are to be used of %u groups of %u.", s->n_used,
                         s->n_group_used, s->n_expert / s->n_group);
    return 0;
}

static int read_gating(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    uint32_t gating;
    char room[128];
    int rc;
    if ((rc = model_optional(m, &(struct number_rule){"expert_gating_func", 0, 255}, 0, &gating, error)) ||
        (!m->arch->always_normalises && (rc = model_flag(m, "expert_weights_norm", &s->expert_norm, error))))
        return rc;
    if (gating > 2)
        return error_set(error, ERROR_MODEL, "%s is %u: 1 (softmax) and 2 (sigmoid) are supported.",
                         model_key(m, "expert_gating_func", room), gating);
    s->gating = gating == 0 ? m->arch->gating : gating == 1 ? MOE_SOFTMAX : MOE_SIGMOID;
    return 0;
}

static int read_experts(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    int rc;
    if ((rc = model_number(m, &(struct number_rule){"expert_used_count", 1, 64}, &s->n_used, error)) ||
        (rc = model_number(m, &(struct number_rule){"expert_feed_forward_length", 1, 1u << 20}, &s->n_ff_exp, error)) ||
        (rc = model_optional_real(m, "expert_weights_scale", &s->expert_scale, error)) || (rc = read_gating(m, error)))
        return rc;
    if (s->n_used > s->n_expert)
        return error_set(error, ERROR_MODEL, "%u experts are to be used of %u.", s->n_used, s->n_expert);
    rc = read_groups(m, error);
    return rc ? rc : read_shared_width(m, error);
}

int model_read_ffn(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    int rc;
    s->expert_scale = 1;
    s->expert_norm = m->arch->always_normalises;
    if ((rc = model_optional(m, &(struct number_rule){"expert_count", 0, 1024}, 0, &s->n_expert, error)) ||
        (rc = model_optional(m, &(struct number_rule){"leading_dense_block_count", 0, 1024}, 0, &s->n_dense, error)))
        return rc;
    if (!s->n_expert || s->n_dense > s->n_layer) s->n_dense = s->n_layer;
    for (uint32_t i = s->n_dense; i < s->n_layer; i++) m->layers[i].is_moe = true;
    if (s->n_dense &&
        (rc = model_number(m, &(struct number_rule){"feed_forward_length", 1, 1u << 20}, &s->n_ff, error)))
        return rc;
    if (s->n_dense < s->n_layer) return read_experts(m, error);
    s->n_expert = 0;
    return 0;
}
