/* SPDX-License-Identifier: MIT
 *
 * config.json of KimiLinearForCausalLM -> kimi-linear.* (the keys that llama.cpp's converter writes).
 */
#include "quant/convert_internal.h"

#include <string.h>

struct reader {
    const struct json_tree *tree;
    const struct json_node *from; /* an object */
    const char *path;
    struct error *error;
};

static int read_uint(const struct reader *r, const char *key, uint32_t least, uint32_t most, uint32_t *out)
{
    uint64_t value;
    const struct json_node *n = json_node_get(r->tree, r->from, key);
    if (!n) return error_set(r->error, ERROR_MODEL, "%s has no %s.", r->path, key);
    if (!json_node_uint(n, &value) || value < least || value > most)
        return error_set(r->error, ERROR_MODEL, "%s: %s is not a whole number from %u to %u.", r->path, key, least,
                         most);
    *out = (uint32_t)value;
    return 0;
}

/* Absent or null: *out is untouched. */
static int read_optional(const struct reader *r, const char *key, uint32_t most, uint32_t *out)
{
    const struct json_node *n = json_node_get(r->tree, r->from, key);
    return !n || n->kind == JSON_NULL ? 0 : read_uint(r, key, 0, most, out);
}

static int read_real(const struct reader *r, const char *key, double *out)
{
    const struct json_node *n = json_node_get(r->tree, r->from, key);
    if (!n || n->kind != JSON_NUMBER || !(n->number > 0 && n->number < 1e12))
        return error_set(r->error, ERROR_MODEL, "%s: %s is not a positive number.", r->path, key);
    *out = n->number;
    return 0;
}

struct uint_row {
    const char *key;
    uint32_t least, most;
    uint32_t *out;
};

static int read_rows(const struct reader *r, const struct uint_row *rows, size_t count)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < count; i++) rc = read_uint(r, rows[i].key, rows[i].least, rows[i].most, rows[i].out);
    return rc;
}

static int read_numbers(const struct reader *r, struct convert_config *c)
{
    const struct uint_row rows[] = {
        {"vocab_size", 1, 1u << 24, &c->n_vocab},
        {"model_max_length", 1, 1u << 30, &c->context},
        {"num_hidden_layers", 1, CONVERT_MOST_LAYERS, &c->n_layer},
        {"hidden_size", 1, 1u << 20, &c->n_embd},
        {"intermediate_size", 1, 1u << 20, &c->n_ff},
        {"num_attention_heads", 1, 4096, &c->n_head},
        {"qk_nope_head_dim", 1, 4096, &c->nope},
        {"qk_rope_head_dim", 1, 4096, &c->rope},
        {"v_head_dim", 1, 4096, &c->v_dim},
        {"kv_lora_rank", 1, 1u << 16, &c->kv_lora},
        {"num_experts", 0, 4096, &c->n_expert},
        {"first_k_dense_replace", 0, CONVERT_MOST_LAYERS, &c->n_dense},
    };
    const struct uint_row experts[] = {
        {"num_experts_per_token", 1, 4096, &c->n_used},
        {"num_shared_experts", 0, 64, &c->n_shared},
        {"moe_intermediate_size", 1, 1u << 20, &c->n_ff_exp},
    };
    int rc = read_rows(r, rows, sizeof rows / sizeof *rows);
    if (!rc && c->n_expert) rc = read_rows(r, experts, sizeof experts / sizeof *experts);
    if (!rc && c->n_expert) rc = read_real(r, "routed_scaling_factor", &c->expert_scale);
    if (!rc) rc = read_optional(r, "topk_group", 4096, &c->groups_used);
    if (!rc) rc = read_optional(r, "eos_token_id", c->n_vocab - 1, &c->eos);
    if (!rc) rc = read_real(r, "rms_norm_eps", &c->eps);
    if (!rc) rc = read_real(r, "rope_theta", &c->rope_base);
    return rc;
}

/* Marks the layers of a list counted from 1; each may be in one list, once. */
static int read_layers(const struct reader *r, const char *key, uint32_t n_layer, bool *marked)
{
    const struct json_node *list = json_node_get(r->tree, r->from, key);
    if (!list || list->kind != JSON_ARRAY)
        return error_set(r->error, ERROR_MODEL, "%s: linear_attn_config.%s is no list of layers.", r->path, key);
    for (const struct json_node *n = json_node_first(r->tree, list); n; n = json_node_next(r->tree, n)) {
        uint64_t layer;
        if (!json_node_uint(n, &layer) || layer < 1 || layer > n_layer || marked[layer - 1])
            return error_set(r->error, ERROR_MODEL, "%s: linear_attn_config.%s has a layer twice, or outside 1 to %u.",
                             r->path, key, n_layer);
        marked[layer - 1] = true;
    }
    return 0;
}

static int read_linear(const struct reader *r, struct convert_config *c)
{
    struct reader linear = *r;
    bool is_kda[CONVERT_MOST_LAYERS] = {false};
    uint32_t heads;
    linear.from = json_node_get(r->tree, r->from, "linear_attn_config");
    const struct uint_row rows[] = {
        {"head_dim", 1, 4096, &c->kda_dim},
        {"num_heads", 1, 4096, &heads},
        {"short_conv_kernel_size", 1, 64, &c->conv_kernel},
    };
    int rc = read_rows(&linear, rows, sizeof rows / sizeof *rows);
    if (!rc) rc = read_layers(&linear, "full_attn_layers", c->n_layer, c->is_mla);
    if (!rc) rc = read_layers(&linear, "kda_layers", c->n_layer, is_kda);
    for (uint32_t i = 0; !rc && i < c->n_layer; i++)
        if (is_kda[i] == c->is_mla[i])
            rc = error_set(r->error, ERROR_MODEL, "%s: layer %u is not in one of kda_layers and full_attn_layers.",
                           r->path, i + 1);
    if (!rc && heads != c->n_head)
        rc = error_set(r->error, ERROR_MODEL, "%s: %u KDA heads beside %u others are not supported.", r->path, heads,
                       c->n_head);
    return rc;
}

static bool is_set(const struct json_node *n)
{
    return n && n->kind != JSON_NULL && !(n->kind == JSON_BOOL && !n->truth) &&
           !(n->kind == JSON_NUMBER && n->number == 0);
}

/* Settings for which the file format has no key: they must be what the graph takes for granted. */
static int refuse_others(const struct reader *r)
{
    static const char *const unset[] = {"tie_word_embeddings", "q_lora_rank", "rope_scaling",
                                        "num_nextn_predict_layers"};
    static const char *const texts[][2] = {{"hidden_act", "silu"}, {"moe_router_activation_func", "sigmoid"}};
    static const char *const ones[] = {"moe_layer_freq", "num_expert_group"};
    const struct json_node *architectures = json_node_get(r->tree, r->from, "architectures");
    const struct json_node *first = json_node_first(r->tree, architectures);
    if (!architectures || architectures->kind != JSON_ARRAY || !json_node_is(first, "KimiLinearForCausalLM"))
        return error_set(r->error, ERROR_MODEL, "%s is not of KimiLinearForCausalLM, which is what can be converted.",
                         r->path);
    for (size_t i = 0; i < sizeof unset / sizeof *unset; i++)
        if (is_set(json_node_get(r->tree, r->from, unset[i])))
            return error_set(r->error, ERROR_MODEL, "%s: %s is not supported.", r->path, unset[i]);
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        const struct json_node *n = json_node_get(r->tree, r->from, texts[i][0]);
        if (n && !json_node_is(n, texts[i][1]))
            return error_set(r->error, ERROR_MODEL, "%s: %s is not %s.", r->path, texts[i][0], texts[i][1]);
    }
    for (size_t i = 0; i < sizeof ones / sizeof *ones; i++) {
        uint32_t one = 1;
        int rc = read_optional(r, ones[i], 1u << 20, &one);
        if (!rc && one != 1)
            rc = error_set(r->error, ERROR_MODEL, "%s: %s is %u, only 1 is supported.", r->path, ones[i], one);
        if (rc) return rc;
    }
    const struct json_node *norm = json_node_get(r->tree, r->from, "moe_renormalize");
    if (norm && !is_set(norm))
        return error_set(r->error, ERROR_MODEL, "%s: moe_renormalize is off, which is not supported.", r->path);
    return 0;
}

int convert_config_read(struct convert_config *out, const char *dir, struct error *error)
{
    char path[CONVERT_PATH];
    struct json_tree tree;
    *out = (struct convert_config){.eos = UINT32_MAX};
    if (snprintf(path, sizeof path, "%s/config.json", dir) >= (int)sizeof path)
        return error_set(error, ERROR_MODEL, "%.200s: the path is too long.", dir);
    int rc = json_tree_read(&tree, path, error);
    if (rc) return rc;
    struct reader r = {.tree = &tree, .from = tree.nodes, .path = path, .error = error};
    rc = refuse_others(&r);
    if (!rc) rc = read_numbers(&r, out);
    if (!rc) rc = read_linear(&r, out);
    if (!rc && (!out->n_expert || out->n_dense > out->n_layer)) out->n_dense = out->n_layer;
    json_tree_free(&tree);
    return rc;
}

#define KEY(name) "kimi-linear." name

static void put_experts(const struct convert_config *c, struct gguf_writer *w)
{
    enum { GATING_SIGMOID = 2 };
    gguf_put_u32(w, KEY("expert_count"), c->n_expert);
    gguf_put_u32(w, KEY("expert_used_count"), c->n_used);
    gguf_put_u32(w, KEY("expert_shared_count"), c->n_shared);
    gguf_put_u32(w, KEY("expert_feed_forward_length"), c->n_ff_exp);
    gguf_put_f32(w, KEY("expert_weights_scale"), (float)c->expert_scale);
    gguf_put_u32(w, KEY("expert_gating_func"), GATING_SIGMOID);
    if (c->groups_used) gguf_put_u32(w, KEY("expert_group_used_count"), c->groups_used);
}

void convert_config_put(const struct convert_config *c, struct gguf_writer *w)
{
    int32_t kv_heads[CONVERT_MOST_LAYERS];
    for (uint32_t i = 0; i < c->n_layer; i++) kv_heads[i] = c->is_mla[i];
    gguf_put_u32(w, KEY("vocab_size"), c->n_vocab);
    gguf_put_u32(w, KEY("context_length"), c->context);
    gguf_put_u32(w, KEY("block_count"), c->n_layer);
    gguf_put_u32(w, KEY("embedding_length"), c->n_embd);
    gguf_put_u32(w, KEY("feed_forward_length"), c->n_ff);
    gguf_put_u32(w, KEY("leading_dense_block_count"), c->n_dense);
    gguf_put_u32(w, KEY("attention.head_count"), c->n_head);
    gguf_put_i32_array(w, KEY("attention.head_count_kv"), kv_heads, c->n_layer);
    gguf_put_f32(w, KEY("attention.layer_norm_rms_epsilon"), (float)c->eps);
    gguf_put_u32(w, KEY("attention.key_length"), c->kv_lora + c->rope);
    gguf_put_u32(w, KEY("attention.value_length"), c->kv_lora);
    gguf_put_u32(w, KEY("attention.key_length_mla"), c->nope + c->rope);
    gguf_put_u32(w, KEY("attention.value_length_mla"), c->v_dim);
    gguf_put_u32(w, KEY("attention.kv_lora_rank"), c->kv_lora);
    gguf_put_u32(w, KEY("rope.dimension_count"), c->rope);
    gguf_put_f32(w, KEY("rope.freq_base"), (float)c->rope_base);
    gguf_put_u32(w, KEY("ssm.conv_kernel"), c->conv_kernel);
    gguf_put_u32(w, KEY("kda.head_dim"), c->kda_dim);
    if (c->n_expert) put_experts(c, w);
}
