/* SPDX-License-Identifier: MIT
 *
 * Which tensors the new file has and what each is made of. Shapes ne are GGUF's, ne[0] contiguous.
 */
#include "quant/convert_internal.h"
#include "quant/quantize.h"

#include <stdlib.h>
#include <string.h>

/* A tensor of a layer: names without "blk.N." and "model.layers.N.". %u in a source: a tensor for each of ne[2]. */
struct part {
    const char *name, *source;
    uint64_t ne[4];
};

static enum convert_rule rule_of(const char *name)
{
    if (strstr(name, ".ssm_a") && !strchr(strstr(name, ".ssm_a") + 1, '.')) return RULE_DECAY;
    if (strstr(name, ".attn_k_b.")) return RULE_KEY;
    return strstr(name, ".attn_v_b.") ? RULE_VALUE : RULE_SAME;
}

static void add(struct convert_plan *p, const char *name, const char *source, const uint64_t *ne)
{
    if (p->count == p->room) {
        size_t room = p->room * 2 + 64;
        struct convert_item *grown = realloc(p->items, room * sizeof *grown);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->items = grown;
        p->room = room;
    }
    struct convert_item *item = &p->items[p->count++];
    *item = (struct convert_item){.rule = rule_of(name), .parts = strstr(source, "%u") ? (uint32_t)ne[2] : 1};
    item->n_dims = 4;
    memcpy(item->ne, ne, sizeof item->ne);
    snprintf(item->name, sizeof item->name, "%s", name);
    snprintf(item->source, sizeof item->source, "%s", source);
    while (item->n_dims > 1 && item->ne[item->n_dims - 1] == 1) item->n_dims--;
}

static void add_layer(struct convert_plan *p, uint32_t layer, const struct part *parts, size_t count)
{
    char name[64], source[160];
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "blk.%u.%s", layer, parts[i].name);
        snprintf(source, sizeof source, "model.layers.%u.%s", layer, parts[i].source);
        add(p, name, source, parts[i].ne);
    }
}

#define ADD_LAYER(plan, layer, parts) add_layer(plan, layer, parts, sizeof(parts) / sizeof *(parts))

static void plan_kda(struct convert_plan *p, const struct convert_config *c, uint32_t layer)
{
    const uint64_t e = c->n_embd, d = c->kda_dim, h = c->n_head, inner = d * h, taps = c->conv_kernel;
    const struct part parts[] = {
        {"attn_q.weight", "self_attn.q_proj.weight", {e, inner, 1, 1}},
        {"ssm_conv1d_q.weight", "self_attn.q_conv1d.weight", {taps, 1, inner, 1}},
        {"attn_k.weight", "self_attn.k_proj.weight", {e, inner, 1, 1}},
        {"ssm_conv1d_k.weight", "self_attn.k_conv1d.weight", {taps, 1, inner, 1}},
        {"attn_v.weight", "self_attn.v_proj.weight", {e, inner, 1, 1}},
        {"ssm_conv1d_v.weight", "self_attn.v_conv1d.weight", {taps, 1, inner, 1}},
        {"ssm_f_a.weight", "self_attn.f_a_proj.weight", {e, d, 1, 1}},
        {"ssm_f_b.weight", "self_attn.f_b_proj.weight", {d, inner, 1, 1}},
        {"ssm_beta.weight", "self_attn.b_proj.weight", {e, h, 1, 1}},
        {"ssm_a", "self_attn.A_log", {1, h, 1, 1}},
        {"ssm_dt.bias", "self_attn.dt_bias", {inner, 1, 1, 1}},
        {"ssm_g_a.weight", "self_attn.g_a_proj.weight", {e, d, 1, 1}},
        {"ssm_g_b.weight", "self_attn.g_b_proj.weight", {d, inner, 1, 1}},
        {"ssm_norm.weight", "self_attn.o_norm.weight", {d, 1, 1, 1}},
        {"attn_output.weight", "self_attn.o_proj.weight", {inner, e, 1, 1}},
    };
    ADD_LAYER(p, layer, parts);
}

static void plan_mla(struct convert_plan *p, const struct convert_config *c, uint32_t layer)
{
    const uint64_t e = c->n_embd, h = c->n_head, r = c->kv_lora;
    const struct part parts[] = {
        {"attn_q.weight", "self_attn.q_proj.weight", {e, h * (c->nope + c->rope), 1, 1}},
        {"attn_kv_a_mqa.weight", "self_attn.kv_a_proj_with_mqa.weight", {e, r + c->rope, 1, 1}},
        {"attn_kv_a_norm.weight", "self_attn.kv_a_layernorm.weight", {r, 1, 1, 1}},
        {"attn_k_b.weight", "self_attn.kv_b_proj.weight", {c->nope, r, h, 1}},
        {"attn_v_b.weight", "self_attn.kv_b_proj.weight", {r, c->v_dim, h, 1}},
        {"attn_output.weight", "self_attn.o_proj.weight", {h * c->v_dim, e, 1, 1}},
    };
    ADD_LAYER(p, layer, parts);
}

static void plan_dense(struct convert_plan *p, const struct convert_config *c, uint32_t layer)
{
    const uint64_t e = c->n_embd, ff = c->n_ff;
    const struct part parts[] = {
        {"ffn_gate.weight", "mlp.gate_proj.weight", {e, ff, 1, 1}},
        {"ffn_up.weight", "mlp.up_proj.weight", {e, ff, 1, 1}},
        {"ffn_down.weight", "mlp.down_proj.weight", {ff, e, 1, 1}},
    };
    ADD_LAYER(p, layer, parts);
}

#define MOE "block_sparse_moe."

static void plan_moe(struct convert_plan *p, const struct convert_config *c, uint32_t layer)
{
    const uint64_t e = c->n_embd, n = c->n_expert, ff = c->n_ff_exp, shared = ff * c->n_shared;
    const struct part parts[] = {
        {"ffn_gate_inp.weight", MOE "gate.weight", {e, n, 1, 1}},
        {"exp_probs_b.bias", MOE "gate.e_score_correction_bias", {n, 1, 1, 1}},
        {"ffn_gate_exps.weight", MOE "experts.%u.w1.weight", {e, ff, n, 1}},
        {"ffn_up_exps.weight", MOE "experts.%u.w3.weight", {e, ff, n, 1}},
        {"ffn_down_exps.weight", MOE "experts.%u.w2.weight", {ff, e, n, 1}},
    };
    const struct part shared_parts[] = {
        {"ffn_gate_shexp.weight", MOE "shared_experts.gate_proj.weight", {e, shared, 1, 1}},
        {"ffn_up_shexp.weight", MOE "shared_experts.up_proj.weight", {e, shared, 1, 1}},
        {"ffn_down_shexp.weight", MOE "shared_experts.down_proj.weight", {shared, e, 1, 1}},
    };
    ADD_LAYER(p, layer, parts);
    if (shared) ADD_LAYER(p, layer, shared_parts);
}

static void plan_layer(struct convert_plan *p, const struct convert_config *c, uint32_t layer)
{
    const struct part before[] = {{"attn_norm.weight", "input_layernorm.weight", {c->n_embd, 1, 1, 1}}};
    const struct part between[] = {{"ffn_norm.weight", "post_attention_layernorm.weight", {c->n_embd, 1, 1, 1}}};
    ADD_LAYER(p, layer, before);
    if (c->is_mla[layer])
        plan_mla(p, c, layer);
    else
        plan_kda(p, c, layer);
    ADD_LAYER(p, layer, between);
    if (layer < c->n_dense)
        plan_dense(p, c, layer);
    else
        plan_moe(p, c, layer);
}

static const struct quant_format *format_of(const struct convert_item *t, const struct quant_format *wanted)
{
    struct gguf_tensor like = {.name = {t->name, strlen(t->name)}, .n_dims = t->n_dims};
    memcpy(like.ne, t->ne, sizeof like.ne);
    return quantize_keeps_f32(&like) ? quant_format(QUANT_F32) : quantize_fallback(wanted, t->ne[0]);
}

int convert_plan_make(struct convert_plan *p, const struct convert_config *c, const struct quant_format *wanted,
                      struct error *error)
{
    const uint64_t e = c->n_embd, v = c->n_vocab;
    *p = (struct convert_plan){0};
    add(p, "token_embd.weight", "model.embed_tokens.weight", (const uint64_t[4]){e, v, 1, 1});
    add(p, "output_norm.weight", "model.norm.weight", (const uint64_t[4]){e, 1, 1, 1});
    add(p, "output.weight", "lm_head.weight", (const uint64_t[4]){e, v, 1, 1});
    for (uint32_t i = 0; i < c->n_layer; i++) plan_layer(p, c, i);
    if (p->failed) return error_set(error, ERROR_FAILED, "Out of memory for the list of tensors.");
    for (size_t i = 0; i < p->count; i++) p->items[i].format = format_of(&p->items[i], wanted);
    return 0;
}

/* Is shape that of ne in the other order, when extents of 1 do not count? */
static bool has_shape(const struct safetensor *t, const uint64_t *ne)
{
    int at = 3;
    for (uint32_t i = 0; i < t->n_dims; i++) {
        if (t->shape[i] == 1) continue;
        while (at >= 0 && ne[at] == 1) at--;
        if (at < 0 || ne[at--] != t->shape[i]) return false;
    }
    while (at >= 0 && ne[at] == 1) at--;
    return at < 0;
}

int convert_source(const struct convert_item *t, const struct convert_config *c, const struct safetensors *from,
                   uint32_t part, const struct safetensor **out, struct error *error)
{
    char name[192];
    uint64_t ne[4];
    const char *number = strstr(t->source, "%u");
    if (number)
        snprintf(name, sizeof name, "%.*s%u%s", (int)(number - t->source), t->source, part, number + 2);
    else
        snprintf(name, sizeof name, "%s", t->source);
    memcpy(ne, t->ne, sizeof ne);
    if (number) ne[2] = 1;
    if (t->rule == RULE_KEY || t->rule == RULE_VALUE) {
        ne[0] = c->kv_lora;
        ne[1] = (uint64_t)c->n_head * (c->nope + c->v_dim);
        ne[2] = 1;
    }
    *out = safetensors_named(from, name);
    if (!*out) return error_set(error, ERROR_MODEL, "The folder has no tensor %s.", name);
    if (has_shape(*out, ne)) return 0;
    return error_set(error, ERROR_MODEL, "Tensor %s has not the shape that config.json tells.", name);
}
