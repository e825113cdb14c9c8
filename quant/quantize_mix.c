/* SPDX-License-Identifier: MIT
 *
 * Mixes: which tensor gets which format. The rules follow llama-quantize's well-known names, so that "Q4_K_M" means
 * here what people expect: values and down projections of some layers, the attention output and the logits get more
 * bits.
 */
#include "quant/quantize.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* The layers in which a tensor gets its better format. */
enum where {
    NOWHERE,
    EVERYWHERE,
    FIRST_EIGHTH, /* layers before n / 8 */
    FIRST_FOUR,
    SPREAD, /* the first and the last eighth and every third layer between */
};

struct rule {
    enum where where;
    enum quant_type better;
    enum quant_type otherwise;
};

struct quantize_mix {
    const char *name;
    uint32_t file_type; /* general.file_type */
    enum quant_type base, embed, output, attn_output, experts;
    struct rule value; /* attn_v, attn_v_b, attn_kv_b */
    struct rule down;  /* ffn_down of every kind */
};

/* One row: name, general.file_type; format of most tensors, of the embedding, the logits, the attention output, the
 * routed experts; where values and down projections are better, how, and what they are elsewhere. */
#define MIX(name, type, base, embed, output, attn, experts, where_v, better_v, value, where_d, better_d, down)         \
    {                                                                                                                  \
        name, type, QUANT_##base, QUANT_##embed, QUANT_##output, QUANT_##attn, QUANT_##experts,                        \
            {where_v, QUANT_##better_v, QUANT_##value},                                                                \
        {                                                                                                              \
            where_d, QUANT_##better_d, QUANT_##down                                                                    \
        }                                                                                                              \
    }
/* One format, but for the embedding and the logits. */
#define SAME(name, type, base, embed, output)                                                                          \
    MIX(name, type, base, embed, output, base, base, NOWHERE, base, base, NOWHERE, base, base)

/* clang-format off */
static const struct quantize_mix mixes[] = {
    SAME("F32", 0, F32, F32, F32),
    SAME("F16", 1, F16, F16, F16),
    SAME("BF16", 32, BF16, BF16, BF16),
    SAME("Q8_0", 7, Q8_0, Q8_0, Q8_0),
    SAME("Q6_K", 18, Q6_K, Q6_K, Q6_K),
    SAME("Q5_K_S", 16, Q5_K, Q5_K, Q6_K),
    MIX("Q5_K_M", 17, Q5_K, Q5_K, Q6_K, Q5_K, Q5_K, SPREAD, Q6_K, Q5_K, SPREAD, Q6_K, Q5_K),
    MIX("Q4_K_S", 14, Q4_K, Q4_K, Q6_K, Q4_K, Q4_K, FIRST_FOUR, Q5_K, Q4_K, FIRST_EIGHTH, Q5_K, Q4_K),
    MIX("Q4_K_M", 15, Q4_K, Q4_K, Q6_K, Q4_K, Q4_K, SPREAD, Q6_K, Q4_K, SPREAD, Q6_K, Q4_K),
    SAME("Q3_K_S", 11, Q3_K, Q3_K, Q6_K),
    MIX("Q3_K_M", 12, Q3_K, Q3_K, Q6_K, Q4_K, Q3_K, FIRST_EIGHTH, Q5_K, Q4_K, SPREAD, Q4_K, Q3_K),
    MIX("Q3_K_L", 13, Q3_K, Q3_K, Q6_K, Q5_K, Q3_K, EVERYWHERE, Q5_K, Q5_K, EVERYWHERE, Q5_K, Q5_K),
    MIX("Q2_K", 10, Q2_K, Q2_K, Q6_K, Q3_K, Q2_K, EVERYWHERE, Q4_K, Q4_K, EVERYWHERE, Q3_K, Q3_K),
    MIX("Q2_K_S", 21, Q2_K, Q2_K, Q6_K, Q2_K, Q2_K, EVERYWHERE, Q4_K, Q4_K, FIRST_EIGHTH, Q4_K, Q2_K),
    SAME("Q4_0", 2, Q4_0, Q4_0, Q6_K),
    SAME("Q4_1", 3, Q4_1, Q4_1, Q6_K),
    SAME("Q5_0", 8, Q5_0, Q5_0, Q6_K),
    SAME("Q5_1", 9, Q5_1, Q5_1, Q6_K),
    SAME("IQ4_NL", 25, IQ4_NL, IQ4_NL, Q6_K),
    SAME("IQ4_XS", 30, IQ4_XS, IQ4_XS, Q6_K),
    MIX("IQ3_S", 26, IQ3_S, IQ3_S, Q6_K, Q4_K, IQ3_S, EVERYWHERE, Q4_K, Q4_K, FIRST_EIGHTH, Q4_K, IQ3_S),
    MIX("IQ3_XXS", 23, IQ3_XXS, IQ3_S, Q6_K, IQ3_S, IQ3_XXS, EVERYWHERE, Q4_K, Q4_K, FIRST_EIGHTH, Q4_K, IQ3_XXS),
    MIX("IQ2_S", 28, IQ2_S, Q2_K, Q6_K, IQ3_S, IQ2_S, EVERYWHERE, Q4_K, Q4_K, FIRST_EIGHTH, IQ3_S, IQ2_S),
    MIX("IQ2_XS", 20, IQ2_XS, Q2_K, Q6_K, IQ2_S, IQ2_XS, EVERYWHERE, Q4_K, Q4_K, FIRST_EIGHTH, Q2_K, IQ2_XS),
    MIX("IQ2_XXS", 19, IQ2_XXS, Q2_K, Q6_K, IQ2_S, IQ2_XXS, EVERYWHERE, Q4_K, Q4_K, FIRST_EIGHTH, Q2_K, IQ2_XXS),
    MIX("IQ1_M", 31, IQ1_M, Q2_K, Q6_K, IQ2_XXS, IQ1_M, EVERYWHERE, Q4_K, Q4_K, FIRST_EIGHTH, Q2_K, IQ1_M),
    MIX("IQ1_S", 24, IQ1_S, Q2_K, Q6_K, IQ2_XXS, IQ1_S, EVERYWHERE, Q4_K, Q4_K, FIRST_EIGHTH, Q2_K, IQ1_S),
    SAME("TQ1_0", 36, TQ1_0, Q4_K, Q6_K),
    SAME("TQ2_0", 37, TQ2_0, Q4_K, Q6_K),
    MIX("MXFP4_MOE", 38, Q8_0, Q8_0, Q8_0, Q8_0, MXFP4, NOWHERE, Q8_0, Q8_0, NOWHERE, Q8_0, Q8_0),
};
/* clang-format on */

enum { N_MIXES = sizeof mixes / sizeof mixes[0] };

const struct quantize_mix *quantize_mix_named(const char *name)
{
    for (size_t i = 0; i < N_MIXES; i++)
        if (strcasecmp(mixes[i].name, name) == 0) return &mixes[i];
    return NULL;
}

const char *quantize_mix_name(size_t index)
{
    return index < N_MIXES ? mixes[index].name : NULL;
}

uint32_t quantize_mix_file_type(const struct quantize_mix *mix)
{
    return mix->file_type;
}

static bool contains(struct gguf_string s, const char *part)
{
    size_t len = strlen(part);
    for (size_t i = 0; i + len <= s.len; i++)
        if (memcmp(s.bytes + i, part, len) == 0) return true;
    return false;
}

static bool ends(struct gguf_string s, const char *tail)
{
    size_t len = strlen(tail);
    return s.len >= len && memcmp(s.bytes + s.len - len, tail, len) == 0;
}

static bool is(struct gguf_string s, const char *name)
{
    return s.len == strlen(name) && memcmp(s.bytes, name, s.len) == 0;
}

/* N of "blk.N."; 0 for a tensor outside the layers. */
static uint32_t layer_of(struct gguf_string s)
{
    uint32_t n = 0;
    if (s.len < 5 || memcmp(s.bytes, "blk.", 4) != 0) return 0;
    for (size_t i = 4; i < s.len && i < 10 && isdigit((unsigned char)s.bytes[i]); i++)
        n = n * 10 + (uint32_t)(s.bytes[i] - '0');
    return n;
}

uint32_t quantize_layers(const struct gguf *file)
{
    uint32_t most = 0;
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        uint32_t n = layer_of(gguf_tensor_at(file, i)->name) + 1;
        if (n > most) most = n;
    }
    return most;
}

bool quantize_keeps_f32(const struct gguf_tensor *t)
{
    bool vector = t->ne[1] == 1 && t->ne[2] == 1 && t->ne[3] == 1;
    return vector || !ends(t->name, ".weight") || contains(t->name, "ssm_conv1d") || contains(t->name, "ffn_gate_inp");
}

static enum quant_type apply(const struct rule *r, uint32_t layer, uint32_t n)
{
    uint32_t eighth = n / 8;
    bool spread = layer < eighth || layer >= 7 * n / 8 || (layer - eighth) % 3 == 2;
    bool better = (r->where == EVERYWHERE) || (r->where == FIRST_EIGHTH && layer < eighth) ||
                  (r->where == FIRST_FOUR && layer < 4) || (r->where == SPREAD && spread);
    return better ? r->better : r->otherwise;
}

const struct quant_format *quantize_choose(const struct quantize_mix *mix, const struct gguf_tensor *t,
                                           uint32_t n_layers)
{
    uint32_t layer = layer_of(t->name);
    if (quantize_keeps_f32(t)) return quant_format(QUANT_F32);
    if (is(t->name, "token_embd.weight")) return quant_format(mix->embed);
    if (is(t->name, "output.weight")) return quant_format(mix->output);
    if (contains(t->name, "attn_output")) return quant_format(mix->attn_output);
    if (contains(t->name, "attn_v") || contains(t->name, "attn_kv_b"))
        return quant_format(apply(&mix->value, layer, n_layers));
    if (mix->experts != mix->base && contains(t->name, "_exps.")) return quant_format(mix->experts);
    if (contains(t->name, "ffn_down")) return quant_format(apply(&mix->down, layer, n_layers));
    return quant_format(mix->base);
}
