/* SPDX-License-Identifier: MIT
 *
 * Metadata -> shape, by the architecture the file names; opening and closing.
 */
#include "engine/model_keys.h"

#include <stdlib.h>
#include <string.h>

static const struct architecture architectures[] = {
    {.name = "kimi-linear",
     .has_kda = true,
     .always_normalises = true,
     .needs_router_bias = true,
     .gating = MOE_SIGMOID},
    {.name = "deepseek2", .rotates = true, .gating = MOE_SOFTMAX},
};
enum { N_ARCHITECTURES = sizeof architectures / sizeof *architectures };

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
    for (size_t i = 0; i < N_ARCHITECTURES; i++)
        if (!strcmp(m->architecture, architectures[i].name)) m->arch = &architectures[i];
    if (m->arch) return 0;
    return error_set(error, ERROR_MODEL,
                     "Architecture %s is not supported: lectern runs kimi-linear and deepseek2 (Kimi Linear, "
                     "Moonlight, DeepSeek-V2).",
                     m->architecture);
}

static int read_general(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    uint32_t predictors;
    int rc;
    if ((rc = model_number(m, &(struct number_rule){"block_count", 1, 1024}, &s->n_layer, error)) ||
        (rc = model_optional(m, &(struct number_rule){"nextn_predict_layers", 0, 1024}, 0, &predictors, error)) ||
        (rc = model_number(m, &(struct number_rule){"embedding_length", 32, 65536}, &s->n_embd, error)) ||
        (rc = model_number(m, &(struct number_rule){"attention.head_count", 1, MODEL_MOST_HEADS}, &s->n_head, error)) ||
        (rc = model_number(m, &(struct number_rule){"context_length", 1, 1u << 24}, &m->context, error)) ||
        (rc = model_real(m, "attention.layer_norm_rms_epsilon", &s->eps, error)))
        return rc;
    /* Layers behind the last that guess further tokens: not needed to read. */
    if (predictors >= s->n_layer)
        return error_set(error, ERROR_MODEL, "%u of %u layers are for prediction.", predictors, s->n_layer);
    s->n_layer -= predictors;
    return 0;
}

static void add_layer(struct model *m, uint32_t i, bool is_mla)
{
    m->layers[i].is_mla = is_mla;
    m->layers[i].index = is_mla ? m->shape.n_mla++ : m->shape.n_kda++;
}

/* head_count_kv says which layers are MLA: an array, 0 for KDA; or one number for all. */
static int read_layer_kinds(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    char key[128];
    model_key(m, "attention.head_count_kv", key);
    const struct gguf_value *v = gguf_find(m->file, key);
    for (uint32_t i = 0; !m->arch->has_kda && i < s->n_layer; i++) add_layer(m, i, true);
    if (!m->arch->has_kda) return 0;
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
        add_layer(m, i, heads > 0);
    }
    return 0;
}

static int read_kda(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    char room[128];
    int rc;
    if (!s->n_kda) return 0;
    if ((rc = model_number(m, &(struct number_rule){"kda.head_dim", 32, MODEL_MOST_HEAD_DIM}, &s->kda_dim, error)) ||
        (rc = model_number(m, &(struct number_rule){"ssm.conv_kernel", 4, 4}, &s->conv_kernel, error)))
        return rc;
    if (s->kda_dim % 8)
        return error_set(error, ERROR_MODEL, "%s is %u: multiples of 8 are supported.",
                         model_key(m, "kda.head_dim", room), s->kda_dim);
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
    return model_optional(m, &(struct number_rule){"attention.q_lora_rank", 0, 65536}, (uint32_t)width,
                          &m->shape.q_lora, error);
}

/* Files from before 2026 tell the widths of a head where newer ones have those of a row. */
static int read_widths(struct model *m, uint32_t *key_width, struct error *error)
{
    const bool legacy = m->arch->rotates && !model_has(m, "attention.key_length_mla");
    const struct number_rule key = {legacy ? "attention.key_length" : "attention.key_length_mla", 2, 2048};
    const struct number_rule value = {legacy ? "attention.value_length" : "attention.value_length_mla", 1, 1024};
    int rc = model_number(m, &key, key_width, error);
    return rc ? rc : model_number(m, &value, &m->shape.vdim, error);
}

/* What the architecture's name covers too, and changes the numbers. */
static int refuse_temperature(const struct model *m, struct error *error)
{
    char room[128];
    float scale = 0;
    model_key(m, "attention.temperature_scale", room);
    if (!gguf_get_f32(m->file, room, &scale) || scale == 0) return 0;
    return error_set(error, ERROR_MODEL, "%s is %g: attention that changes with the position is not supported.", room,
                     (double)scale);
}

static int read_mla(struct model *m, struct error *error)
{
    struct shape *s = &m->shape;
    char key[128], rope[128];
    uint32_t key_width;
    int rc;
    s->query_scale = 1;
    if (!s->n_mla) return 0;
    if ((rc = model_number(m, &(struct number_rule){"attention.kv_lora_rank", 1, 4096}, &s->kv_lora, error)) ||
        (rc = model_number(m, &(struct number_rule){"rope.dimension_count", 1, ROTATION_MOST}, &s->rope, error)) ||
        (rc = read_widths(m, &key_width, error)) || (rc = refuse_temperature(m, error)))
        return rc;
    if (key_width <= s->rope)
        return error_set(error, ERROR_MODEL, "%s is %u, not above %s %u.",
                         model_key(m, "attention.key_length_mla", key), key_width,
                         model_key(m, "rope.dimension_count", rope), s->rope);
    s->nope = key_width - s->rope;
    rc = read_query_width(m, error);
    return rc || !m->arch->rotates ? rc : model_read_rotation(m, error);
}

static int read_vocabulary(struct model *m, struct error *error)
{
    const struct gguf_tensor *t = gguf_tensor_named(m->file, "token_embd.weight");
    if (!t) return error_set(error, ERROR_MODEL, "The model file lacks the tensor token_embd.weight.");
    if (t->ne[1] < 1 || t->ne[1] > 1u << 20)
        return error_set(error, ERROR_MODEL, "token_embd.weight has %llu rows: 1 to %u are supported.",
                         (unsigned long long)t->ne[1], 1u << 20);
    m->shape.n_vocab = (uint32_t)t->ne[1];
    char room[128];
    uint32_t told;
    int rc = model_optional(m, &(struct number_rule){"vocab_size", 1, 1u << 20}, m->shape.n_vocab, &told, error);
    if (rc) return rc;
    if (told != m->shape.n_vocab)
        return error_set(error, ERROR_MODEL, "%s is %u, but token_embd.weight has %u rows.",
                         model_key(m, "vocab_size", room), told, m->shape.n_vocab);
    return 0;
}

int model_read_shape(struct model *m, struct error *error)
{
    int rc;
    if ((rc = read_architecture(m, error)) || (rc = read_general(m, error))) return rc;
    m->layers = calloc(m->shape.n_layer, sizeof *m->layers);
    if (!m->layers) return error_set(error, ERROR_FAILED, "Out of memory for %u layers.", m->shape.n_layer);
    if ((rc = read_layer_kinds(m, error)) || (rc = read_kda(m, error)) || (rc = read_mla(m, error)) ||
        (rc = model_read_ffn(m, error)))
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
