/* SPDX-License-Identifier: MIT
 *
 * Metadata -> shape. Every number is checked against a bound before anything is computed from it, so that sums and
 * products of shapes cannot overflow anywhere later.
 */
#include "engine/model.h"

#include <stdlib.h>
#include <string.h>

#define PREFIX "kimi-linear."

/* ------------------------------------------------------------------------------------------------ one key each */

struct number_rule {
    const char *key; /* without the prefix */
    uint32_t least, most;
};

static int read_number(const struct gguf *file, const struct number_rule *rule, uint32_t *out, struct error *error)
{
    char key[96];
    snprintf(key, sizeof key, PREFIX "%s", rule->key);
    if (!gguf_find(file, key)) return error_set(error, ERROR_MODEL, "The model file lacks the key %s.", key);
    if (!gguf_get_u32(file, key, out)) return error_set(error, ERROR_MODEL, "%s is not a whole number.", key);
    if (*out < rule->least || *out > rule->most)
        return error_set(error, ERROR_MODEL, "%s is %u: %u to %u is supported.", key, *out, rule->least, rule->most);
    return 0;
}

static int read_optional(const struct gguf *file, const struct number_rule *rule, uint32_t fallback, uint32_t *out,
                         struct error *error)
{
    char key[96];
    snprintf(key, sizeof key, PREFIX "%s", rule->key);
    *out = fallback;
    return gguf_find(file, key) ? read_number(file, rule, out, error) : 0;
}

static int read_real(const struct gguf *file, const char *name, bool optional, float *out, struct error *error)
{
    char key[96];
    snprintf(key, sizeof key, PREFIX "%s", name);
    if (!gguf_find(file, key))
        return optional ? 0 : error_set(error, ERROR_MODEL, "The model file lacks the key %s.", key);
    if (!gguf_get_f32(file, key, out) || !(*out > 0 && *out < 1e6f))
        return error_set(error, ERROR_MODEL, "%s is not a positive number.", key);
    return 0;
}

static void copy_string(const struct gguf *file, const char *key, const char *fallback, char *out, size_t size)
{
    struct gguf_string s = {fallback, strlen(fallback)};
    gguf_get_string(file, key, &s);
    size_t len = s.len < size - 1 ? s.len : size - 1;
    memcpy(out, s.bytes, len);
    out[len] = 0;
    for (char *c = out; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c >= 0x7f) *c = '?'; /* it is shown on terminals */
}

/* --------------------------------------------------------------------------------------------- groups of keys */

static int read_architecture(struct model *m, struct error *error)
{
    copy_string(m->file, "general.architecture", "", m->architecture, sizeof m->architecture);
    copy_string(m->file, "general.name", "unnamed", m->name, sizeof m->name);
    if (!*m->architecture) return error_set(error, ERROR_MODEL, "The model file names no architecture.");
    if (strcmp(m->architecture, "kimi-linear"))
        return error_set(error, ERROR_MODEL, "Architecture %s is not supported: lectern runs kimi-linear.",
                         m->architecture);
    return 0;
}

static int read_general(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    int rc;
    if ((rc = read_number(m->file, &(struct number_rule){"block_count", 1, 1024}, &s->n_layer, error)) ||
        (rc = read_number(m->file, &(struct number_rule){"embedding_length", 32, 65536}, &s->n_embd, error)) ||
        (rc = read_number(m->file, &(struct number_rule){"attention.head_count", 1, MODEL_MOST_HEADS}, &s->n_head,
                          error)) ||
        (rc = read_number(m->file, &(struct number_rule){"context_length", 1, 1u << 24}, &m->context, error)) ||
        (rc = read_real(m->file, "attention.layer_norm_rms_epsilon", false, &s->eps, error)))
        return rc;
    return 0;
}

/* head_count_kv says which layers are MLA: an array, 0 for KDA; or one number for all. */
static int read_layer_kinds(struct model *m, struct error *error)
{
    static const char *key = PREFIX "attention.head_count_kv";
    struct shape *s = &m->shape;
    const struct gguf_value *v = gguf_find(m->file, key);
    if (!v) return error_set(error, ERROR_MODEL, "The model file lacks the key %s.", key);
    if (v->is_array && v->count != s->n_layer)
        return error_set(error, ERROR_MODEL, "%s has %llu entries for %u layers.", key, (unsigned long long)v->count,
                         s->n_layer);
    uint32_t all = 0;
    if (!v->is_array && !gguf_get_u32(m->file, key, &all))
        return error_set(error, ERROR_MODEL, "%s is not a whole number.", key);
    for (uint32_t i = 0; i < s->n_layer; i++) {
        int64_t heads = all;
        if (v->is_array && !gguf_array_int(v, i, &heads))
            return error_set(error, ERROR_MODEL, "%s is not an array of whole numbers.", key);
        if (heads < 0) return error_set(error, ERROR_MODEL, "%s is negative for layer %u.", key, i);
        m->layers[i].is_mla = heads > 0;
        m->layers[i].index = heads > 0 ? s->n_mla++ : s->n_kda++;
    }
    return 0;
}

static int read_kda(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    int rc;
    if (!s->n_kda) return 0;
    if ((rc = read_number(m->file, &(struct number_rule){"kda.head_dim", 32, MODEL_MOST_HEAD_DIM}, &s->kda_dim,
                          error)) ||
        (rc = read_number(m->file, &(struct number_rule){"ssm.conv_kernel", 4, 4}, &s->conv_kernel, error)))
        return rc;
    if (s->kda_dim % 8)
        return error_set(error, ERROR_MODEL, PREFIX "kda.head_dim is %u: multiples of 8 are supported.", s->kda_dim);
    return 0;
}

/* Queries are compressed in layers that have the tensors for it; the key that tells their width may be absent. */
static int read_query_width(struct model *m, struct error *error)
{
    uint64_t width = 0;
    for (uint32_t i = 0; i < m->shape.n_layer && !width; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.%u.attn_q_a.weight", i);
        const struct gguf_tensor *t = m->layers[i].is_mla ? gguf_tensor_named(m->file, name) : NULL;
        if (t) width = t->ne[1];
    }
    if (width > 65536)
        return error_set(error, ERROR_MODEL, "Queries are compressed to %llu: 65536 at most are supported.",
                         (unsigned long long)width);
    return read_optional(m->file, &(struct number_rule){"attention.q_lora_rank", 0, 65536}, (uint32_t)width,
                         &m->shape.q_lora, error);
}

static int read_mla(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    uint32_t key_width;
    int rc;
    if (!s->n_mla) return 0;
    if ((rc = read_number(m->file, &(struct number_rule){"attention.kv_lora_rank", 1, 4096}, &s->kv_lora, error)) ||
        (rc = read_number(m->file, &(struct number_rule){"rope.dimension_count", 1, 1024}, &s->rope, error)) ||
        (rc = read_number(m->file, &(struct number_rule){"attention.key_length_mla", 2, 2048}, &key_width, error)) ||
        (rc = read_number(m->file, &(struct number_rule){"attention.value_length_mla", 1, 1024}, &s->vdim, error)))
        return rc;
    if (key_width <= s->rope)
        return error_set(error, ERROR_MODEL,
                         PREFIX "attention.key_length_mla is %u, not above " PREFIX "rope.dimension_count %u.",
                         key_width, s->rope);
    s->nope = key_width - s->rope;
    return read_query_width(m, error);
}

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
    int rc = read_optional(m->file, &(struct number_rule){"expert_shared_count", 0, 64},
                           (uint32_t)(width / s->n_ff_exp), &count, error);
    if (rc) return rc;
    if ((uint64_t)count * s->n_ff_exp != width)
        return error_set(error, ERROR_MODEL, "%s is %llu wide, but %u shared experts of %u are told.", name,
                         (unsigned long long)width, count, s->n_ff_exp);
    s->n_ff_shared = (uint32_t)width;
    return 0;
}

static int read_experts(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    uint32_t gating, groups;
    int rc;
    if ((rc = read_number(m->file, &(struct number_rule){"expert_used_count", 1, 64}, &s->n_used, error)) ||
        (rc = read_number(m->file, &(struct number_rule){"expert_feed_forward_length", 1, 1u << 20}, &s->n_ff_exp,
                          error)) ||
        (rc = read_real(m->file, "expert_weights_scale", true, &s->expert_scale, error)) ||
        (rc = read_optional(m->file, &(struct number_rule){"expert_gating_func", 0, 255}, 2, &gating, error)) ||
        (rc = read_optional(m->file, &(struct number_rule){"expert_group_count", 0, 1024}, 1, &groups, error)))
        return rc;
    if (gating != 2)
        return error_set(error, ERROR_MODEL, PREFIX "expert_gating_func is %u: only 2 (sigmoid) is supported.", gating);
    if (groups > 1)
        return error_set(error, ERROR_MODEL, PREFIX "expert_group_count is %u: groups of experts are not supported.",
                         groups);
    if (s->n_used > s->n_expert)
        return error_set(error, ERROR_MODEL, "%u experts are to be used of %u.", s->n_used, s->n_expert);
    return read_shared_width(m, error);
}

static int read_ffn(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    int rc;
    s->expert_scale = 1;
    if ((rc = read_optional(m->file, &(struct number_rule){"expert_count", 0, 1024}, 0, &s->n_expert, error)) ||
        (rc = read_optional(m->file, &(struct number_rule){"leading_dense_block_count", 0, 1024}, 0, &s->n_dense,
                            error)))
        return rc;
    if (!s->n_expert || s->n_dense > s->n_layer) s->n_dense = s->n_layer;
    for (uint32_t i = s->n_dense; i < s->n_layer; i++) m->layers[i].is_moe = true;
    if (s->n_dense &&
        (rc = read_number(m->file, &(struct number_rule){"feed_forward_length", 1, 1u << 20}, &s->n_ff, error)))
        return rc;
    if (s->n_dense < s->n_layer) return read_experts(m, error);
    s->n_expert = 0;
    return 0;
}

static int read_vocabulary(struct model *m, struct error *error)
{
    const struct gguf_tensor *t = gguf_tensor_named(m->file, "token_embd.weight");
    if (!t) return error_set(error, ERROR_MODEL, "The model file lacks the tensor token_embd.weight.");
    if (t->ne[1] < 1 || t->ne[1] > 1u << 20)
        return error_set(error, ERROR_MODEL, "token_embd.weight has %llu rows: 1 to %u are supported.",
                         (unsigned long long)t->ne[1], 1u << 20);
    m->shape.n_vocab = (uint32_t)t->ne[1];
    uint32_t told;
    int rc = read_optional(m->file, &(struct number_rule){"vocab_size", 1, 1u << 20}, m->shape.n_vocab, &told, error);
    if (rc) return rc;
    if (told != m->shape.n_vocab)
        return error_set(error, ERROR_MODEL, PREFIX "vocab_size is %u, but token_embd.weight has %u rows.", told,
                         m->shape.n_vocab);
    return 0;
}

int model_read_shape(struct model *m, struct error *error)
{
    int rc;
    if ((rc = read_architecture(m, error)) || (rc = read_general(m, error))) return rc;
    m->layers = calloc(m->shape.n_layer, sizeof *m->layers);
    if (!m->layers) return error_set(error, ERROR_FAILED, "Out of memory for %u layers.", m->shape.n_layer);
    if ((rc = read_layer_kinds(m, error)) || (rc = read_kda(m, error)) || (rc = read_mla(m, error)) ||
        (rc = read_ffn(m, error)))
        return rc;
    return read_vocabulary(m, error);
}

/* ------------------------------------------------------------------------------------------------------- open */

int model_open(struct model **out, const char *path, struct error *error)
{
    *out = NULL;
    struct model *m = calloc(1, sizeof *m);
    if (!m) return error_set(error, ERROR_FAILED, "Out of memory for a model.");
    int rc;
    if ((rc = gguf_open(&m->file, path, error)) || (rc = model_read_shape(m, error)) ||
        (rc = model_check_tensors(m, error)) || (rc = model_fingerprint(m, error))) {
        model_close(&m);
        return rc;
    }
    *out = m;
    return 0;
}

void model_close(struct model **model)
{
    if (!*model) return;
    gguf_close(&(*model)->file);
    for (uint32_t i = 0; (*model)->layers && i < (*model)->shape.n_layer; i++) free((*model)->layers[i].kv_b);
    free((*model)->layers);
    free(*model);
    *model = NULL;
}
