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

/* One format for all. */
#define PLAIN(format, number) MIX(#format, number, format, format, format)
/* One format, but for the embedding and the logits. */
#define MIX(text, number, base_, embed_, output_)                                                                      \
    {                                                                                                                  \
        .name = text, .file_type = number, .base = QUANT_##base_, .embed = QUANT_##embed_, .output = QUANT_##output_,  \
        .attn_output = QUANT_##base_, .experts = QUANT_##base_, .value = {NOWHERE, QUANT_F16, QUANT_##base_},          \
        .down = {NOWHERE, QUANT_F16, QUANT_##base_},                                                                   \
    }

static const struct quantize_mix mixes[] = {
    PLAIN(F32, 0),
    PLAIN(F16, 1),
    PLAIN(BF16, 32),
    PLAIN(Q8_0, 7),
    MIX("Q4_0", 2, Q4_0, Q4_0, Q6_K),
    MIX("Q4_1", 3, Q4_1, Q4_1, Q6_K),
    MIX("Q5_0", 8, Q5_0, Q5_0, Q6_K),
    MIX("Q5_1", 9, Q5_1, Q5_1, Q6_K),
    {"Q2_K",
     10,
     QUANT_Q2_K,
     QUANT_Q2_K,
     QUANT_Q6_K,
     QUANT_Q3_K,
     QUANT_Q2_K,
     {EVERYWHERE, QUANT_Q4_K, QUANT_Q4_K},
     {EVERYWHERE, QUANT_Q3_K, QUANT_Q3_K}},
    {"Q2_K_S",
     21,
     QUANT_Q2_K,
     QUANT_Q2_K,
     QUANT_Q6_K,
     QUANT_Q2_K,
     QUANT_Q2_K,
     {EVERYWHERE, QUANT_Q4_K, QUANT_Q4_K},
     {FIRST_EIGHTH, QUANT_Q4_K, QUANT_Q2_K}},
    MIX("Q3_K_S", 11, Q3_K, Q3_K, Q6_K),
    {"Q3_K_M",
     12,
     QUANT_Q3_K,
     QUANT_Q3_K,
     QUANT_Q6_K,
     QUANT_Q4_K,
     QUANT_Q3_K,
     {FIRST_EIGHTH, QUANT_Q5_K, QUANT_Q4_K},
     {SPREAD, QUANT_Q4_K, QUANT_Q3_K}},
    {"Q3_K_L",
     13,
     QUANT_Q3_K,
     QUANT_Q3_K,
     QUANT_Q6_K,
     QUANT_Q5_K,
     QUANT_Q3_K,
     {EVERYWHERE, QUANT_Q5_K, QUANT_Q5_K},
     {EVERYWHERE, QUANT_Q5_K, QUANT_Q5_K}},
    {"Q4_K_S",
     14,
     QUANT_Q4_K,
     QUANT_Q4_K,
     QUANT_Q6_K,
     QUANT_Q4_K,
     QUANT_Q4_K,
     {FIRST_FOUR, QUANT_Q5_K, QUANT_Q4_K},
     {FIRST_EIGHTH, QUANT_Q5_K, QUANT_Q4_K}},
    {"Q4_K_M",
     15,
     QUANT_Q4_K,
     QUANT_Q4_K,
     QUANT_Q6_K,
     QUANT_Q4_K,
     QUANT_Q4_K,
     {SPREAD, QUANT_Q6_K, QUANT_Q4_K},
     {SPREAD, QUANT_Q6_K, QUANT_Q4_K}},
    MIX("Q5_K_S", 16, Q5_K, Q5_K, Q6_K),
    {"Q5_K_M",
     17,
     QUANT_Q5_K,
     QUANT_Q5_K,
     QUANT_Q6_K,
     QUANT_Q5_K,
     QUANT_Q5_K,
     {SPREAD, QUANT_Q6_K, QUANT_Q5_K},
     {SPREAD, QUANT_Q6_K, QUANT_Q5_K}},
    PLAIN(Q6_K, 18),
    MIX("IQ4_NL", 25, IQ4_NL, IQ4_NL, Q6_K),
    MIX("IQ4_XS", 30, IQ4_XS, IQ4_XS, Q6_K),
    MIX("TQ1_0", 36, TQ1_0, Q4_K, Q6_K),
    MIX("TQ2_0", 37, TQ2_0, Q4_K, Q6_K),
    {"MXFP4_MOE",
     38,
     QUANT_Q8_0,
     QUANT_Q8_0,
     QUANT_Q8_0,
     QUANT_Q8_0,
     QUANT_MXFP4,
     {NOWHERE, QUANT_Q8_0, QUANT_Q8_0},
     {NOWHERE, QUANT_Q8_0, QUANT_Q8_0}},
};

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
