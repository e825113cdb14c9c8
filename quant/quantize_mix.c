/* SPDX-License-Identifier: MIT
 *
 * Which format each tensor of a model gets. A mix is a format for most tensors and a list of rules; the first rule that
 * speaks of a tensor decides. The rules of the mixes that llama.cpp knows are those of its quantizer
 * (src/llama-quant.cpp, v0.5.0), special cases for models of eight experts included, so that equal names mean equal
 * bits; docs/quantization.md tells how the lectern-* mixes were found.
 */
#include "quant/quantize.h"

#include <ctype.h>
#include <string.h>
#include <strings.h>

/* What a tensor is for. */
enum kind {
    EMBED = 1 << 0,
    OUTPUT = 1 << 1,
    QUERY = 1 << 2,  /* attn_q */
    KEY = 1 << 3,    /* attn_k */
    VALUE = 1 << 4,  /* attn_v, attn_kv_b */
    MERGED = 1 << 5, /* attn_output: what the heads found, put together */
    LATENT = 1 << 6, /* MLA: attn_q_a, attn_q_b, attn_kv_a_mqa, attn_k_b, attn_v_b */
    DECAY = 1 << 7,  /* KDA's gates: ssm_f_a, ssm_f_b, ssm_g_a, ssm_g_b, ssm_beta */
    ROUTED_GATE = 1 << 8,
    ROUTED_UP = 1 << 9,
    ROUTED_DOWN = 1 << 10,
    SHARED_GATE = 1 << 11,
    SHARED_UP = 1 << 12,
    SHARED_DOWN = 1 << 13,
    DENSE_GATE = 1 << 14,
    DENSE_UP = 1 << 15,
    DENSE_DOWN = 1 << 16,
    OTHER = 1 << 17,
};
enum {
    DOWN = ROUTED_DOWN | SHARED_DOWN | DENSE_DOWN,
    WIDEN = ROUTED_GATE | ROUTED_UP | SHARED_GATE | SHARED_UP | DENSE_GATE | DENSE_UP, /* gate and up */
    ROUTED = ROUTED_GATE | ROUTED_UP | ROUTED_DOWN,
    SHARED = SHARED_GATE | SHARED_UP | SHARED_DOWN,
};

/* When a rule speaks. Places are layers, or with N counted among the tensors of the kind. */
enum when {
    ALWAYS,
    FIRST_SIXTEENTH,
    FIRST_EIGHTH,
    MIDDLE,         /* all but the first and the last eighth */
    SPREAD,         /* ENDS, and every third layer between */
    N_SPREAD,       /* the same among the values */
    N_FIRST_TWO,    /* among the values */
    N_FIRST_FOUR,   /* among the values */
    N_FIRST_EIGHTH, /* as many down projections as an eighth of the layers */
    EIGHT,          /* eight experts */
    NOT_EIGHT,
    EIGHT_SPREAD,
    GROUPED, /* four or more query heads share a key */
    MANY,    /* GROUPED, or four or more experts */
    WEIGHED_FIRST_EIGHTH,
    PLAIN, /* no importance is given */
    PLAIN_FIRST_EIGHTH,
};

struct rule {
    unsigned kinds;
    enum when when;
    enum quant_type type;
};

enum { MOST_RULES = 12 };
struct quantize_mix {
    const char *name;
    uint32_t file_type; /* general.file_type; of our own mixes that of the format most of the file is in */
    enum quant_type base;
    struct rule rules[MOST_RULES]; /* kinds 0 ends */
};

#define R(kinds, when, type)                                                                                           \
    {                                                                                                                  \
        kinds, when, QUANT_##type                                                                                      \
    }
#define OUT_Q6 R(OUTPUT, ALWAYS, Q6_K)
#define EIGHT_Q8 R(VALUE | KEY, EIGHT, Q8_0)
#define EIGHT_OUT R(MERGED, EIGHT, Q5_K)
#define LOW(embed)                                                                                                     \
    R(OUTPUT, ALWAYS, Q5_K), R(EMBED, ALWAYS, embed), R(VALUE, MANY, Q4_K), R(KEY, EIGHT, Q4_K), EIGHT_OUT

/* clang-format off */
static const struct quantize_mix mixes[] = {
    {"F32", 0, QUANT_F32, {{0}}},
    {"F16", 1, QUANT_F16, {{0}}},
    {"BF16", 32, QUANT_BF16, {{0}}},
    {"Q8_0", 7, QUANT_Q8_0, {{0}}},
    {"Q6_K", 18, QUANT_Q6_K, {EIGHT_Q8}},
    {"Q5_K_S", 16, QUANT_Q5_K, {OUT_Q6, EIGHT_Q8}},
    {"Q5_K_M", 17, QUANT_Q5_K, {OUT_Q6, EIGHT_Q8, R(VALUE, N_SPREAD, Q6_K), R(DOWN, SPREAD, Q6_K)}},
    {"Q4_K_S", 14, QUANT_Q4_K, {OUT_Q6, EIGHT_Q8, EIGHT_OUT, R(VALUE, N_FIRST_FOUR, Q5_K), R(DOWN, FIRST_EIGHTH, Q5_K)}},
    {"Q4_K_M", 15, QUANT_Q4_K, {OUT_Q6, EIGHT_Q8, EIGHT_OUT, R(VALUE, N_SPREAD, Q6_K), R(DOWN, SPREAD, Q6_K)}},
    {"Q3_K_S", 11, QUANT_Q3_K, {OUT_Q6, EIGHT_Q8, EIGHT_OUT}},
    {"Q3_K_M", 12, QUANT_Q3_K, {OUT_Q6, EIGHT_Q8, EIGHT_OUT, R(MERGED, ALWAYS, Q4_K), R(VALUE, N_FIRST_TWO, Q5_K),
                                R(VALUE, ALWAYS, Q4_K), R(DOWN, FIRST_SIXTEENTH, Q5_K), R(DOWN, ALWAYS, Q4_K)}},
    {"Q3_K_L", 13, QUANT_Q3_K, {OUT_Q6, EIGHT_Q8, R(MERGED, NOT_EIGHT, Q5_K), R(VALUE | DOWN, ALWAYS, Q5_K)}},
    {"Q2_K", 10, QUANT_Q2_K, {OUT_Q6, EIGHT_Q8, EIGHT_OUT, R(VALUE, GROUPED, Q4_K), R(VALUE | MERGED | DOWN, ALWAYS, Q3_K)}},
    {"Q2_K_S", 21, QUANT_Q2_K, {OUT_Q6, EIGHT_Q8, R(VALUE, GROUPED, Q4_K), R(DOWN, FIRST_EIGHTH, Q4_K)}},
    {"Q4_0", 2, QUANT_Q4_0, {OUT_Q6, EIGHT_Q8, R(DOWN, WEIGHED_FIRST_EIGHTH, Q4_1)}},
    {"Q4_1", 3, QUANT_Q4_1, {OUT_Q6, EIGHT_Q8}},
    {"Q5_0", 8, QUANT_Q5_0, {OUT_Q6, EIGHT_Q8, R(DOWN, WEIGHED_FIRST_EIGHTH, Q5_1)}},
    {"Q5_1", 9, QUANT_Q5_1, {OUT_Q6, EIGHT_Q8}},
    {"IQ4_NL", 25, QUANT_IQ4_NL, {OUT_Q6, EIGHT_Q8, EIGHT_OUT, R(VALUE, GROUPED, Q5_K), R(DOWN, PLAIN_FIRST_EIGHTH, Q5_K)}},
    {"IQ4_XS", 30, QUANT_IQ4_XS, {OUT_Q6, EIGHT_Q8, EIGHT_OUT, R(VALUE, GROUPED, Q5_K), R(DOWN, PLAIN_FIRST_EIGHTH, Q5_K)}},
    {"IQ3_M", 27, QUANT_IQ3_S, {OUT_Q6, EIGHT_Q8, EIGHT_OUT, R(VALUE | MERGED, ALWAYS, Q4_K), R(DOWN, FIRST_EIGHTH, Q4_K),
                                R(DOWN, EIGHT_SPREAD, Q4_K)}},
    {"IQ3_S", 26, QUANT_IQ3_S, {OUT_Q6, EIGHT_Q8, EIGHT_OUT, R(VALUE, GROUPED, Q4_K)}},
    {"IQ3_XS", 22, QUANT_IQ3_S, {OUT_Q6, EIGHT_Q8, EIGHT_OUT, R(VALUE, GROUPED, Q4_K), R(KEY | QUERY, ALWAYS, IQ3_XXS),
                                 R(WIDEN, MIDDLE, IQ3_XXS)}},
    {"IQ3_XXS", 23, QUANT_IQ3_XXS, {R(OUTPUT, ALWAYS, Q5_K), R(EMBED, ALWAYS, IQ3_S), EIGHT_Q8, EIGHT_OUT,
                                    R(MERGED, ALWAYS, IQ3_S), R(VALUE, GROUPED, Q4_K), R(VALUE, PLAIN, IQ3_S),
                                    R(KEY | QUERY, ALWAYS, IQ2_S), R(DOWN, PLAIN_FIRST_EIGHTH, Q4_K),
                                    R(DOWN, PLAIN, Q3_K)}},
    {"IQ2_M", 29, QUANT_IQ2_S, {LOW(IQ3_S), R(VALUE | MERGED, ALWAYS, IQ3_S), R(DOWN, N_FIRST_EIGHTH, IQ3_S)}},
    {"IQ2_S", 28, QUANT_IQ2_XS, {LOW(IQ3_S), R(VALUE | MERGED, ALWAYS, IQ3_S), R(DOWN, N_FIRST_EIGHTH, IQ3_S)}},
    {"IQ2_XS", 20, QUANT_IQ2_XS, {LOW(Q2_K), R(VALUE, ALWAYS, Q2_K), R(DOWN, N_FIRST_EIGHTH, Q2_K)}},
    {"IQ2_XXS", 19, QUANT_IQ2_XXS, {LOW(Q2_K), R(VALUE, ALWAYS, Q2_K), R(DOWN, N_FIRST_EIGHTH, Q2_K)}},
    {"IQ1_M", 31, QUANT_IQ1_M, {LOW(Q2_K), R(VALUE, ALWAYS, Q2_K), R(MERGED, ALWAYS, IQ2_XXS), R(DOWN, N_FIRST_EIGHTH, Q2_K)}},
    {"IQ1_S", 24, QUANT_IQ1_S, {LOW(Q2_K), R(VALUE, ALWAYS, Q2_K), R(MERGED, ALWAYS, IQ2_XXS), R(DOWN, N_FIRST_EIGHTH, Q2_K)}},
    {"TQ1_0", 36, QUANT_TQ1_0, {OUT_Q6, R(EMBED, ALWAYS, Q4_K), EIGHT_Q8}},
    {"TQ2_0", 37, QUANT_TQ2_0, {OUT_Q6, R(EMBED, ALWAYS, Q4_K), EIGHT_Q8}},
    {"MXFP4_MOE", 38, QUANT_Q8_0, {R(ROUTED, ALWAYS, MXFP4)}},
    {"lectern-2.7", 28, QUANT_Q6_K, {R(ROUTED, ALWAYS, IQ2_S), R(QUERY | KEY, ALWAYS, Q4_K), R(EMBED | SHARED, ALWAYS, Q5_K)}},
    {"lectern-3.3", 23, QUANT_Q6_K, {R(ROUTED_DOWN, ALWAYS, IQ3_S), R(ROUTED, ALWAYS, IQ3_XXS),
                                     R(EMBED | SHARED | QUERY | KEY, ALWAYS, Q5_K)}},
    {"lectern-4.2", 30, QUANT_Q6_K, {R(ROUTED_UP, SPREAD, IQ4_XS), R(ROUTED_UP, ALWAYS, IQ3_S), R(ROUTED, ALWAYS, IQ4_XS)}},
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

/* -------------------------------------------------------------------------------------------------- tensors */

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

/* N of "blk.N."; 0 for a tensor outside the layers. */
static uint32_t layer_of(struct gguf_string s)
{
    uint32_t n = 0;
    if (s.len < 5 || memcmp(s.bytes, "blk.", 4) != 0) return 0;
    for (size_t i = 4; i < s.len && i < 10 && isdigit((unsigned char)s.bytes[i]); i++)
        n = n * 10 + (uint32_t)(s.bytes[i] - '0');
    return n;
}

static enum kind kind_of(struct gguf_string name)
{
    static const struct {
        const char *part;
        enum kind kind;
    } parts[] = {
        {"token_embd.", EMBED},
        {"attn_q.", QUERY},
        {"attn_k.", KEY},
        {"attn_v.", VALUE},
        {"attn_kv_b.", VALUE},
        {"attn_output.", MERGED},
        {"attn_", LATENT},
        {"ssm_", DECAY},
        {"ffn_gate_up_exps.", ROUTED_GATE},
        {"ffn_gate_exps.", ROUTED_GATE},
        {"ffn_up_exps.", ROUTED_UP},
        {"ffn_down_exps.", ROUTED_DOWN},
        {"ffn_gate_shexp.", SHARED_GATE},
        {"ffn_up_shexp.", SHARED_UP},
        {"ffn_down_shexp.", SHARED_DOWN},
        {"ffn_gate.", DENSE_GATE},
        {"ffn_up.", DENSE_UP},
        {"ffn_down.", DENSE_DOWN},
    };
    if (name.len == sizeof "output.weight" - 1 && memcmp(name.bytes, "output.weight", name.len) == 0) return OUTPUT;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (contains(name, parts[i].part)) return parts[i].kind;
    return OTHER;
}

bool quantize_keeps_f32(const struct gguf_tensor *t)
{
    bool vector = t->ne[1] == 1 && t->ne[2] == 1 && t->ne[3] == 1;
    return vector || !ends(t->name, ".weight") || contains(t->name, "ssm_conv1d") || contains(t->name, "ffn_gate_inp");
}

void quantize_source(struct quantize_source *out, const struct gguf *file, bool weighed)
{
    struct gguf_string architecture = {"", 0};
    char key[96];
    *out = (struct quantize_source){.file = file, .weighed = weighed};
    for (size_t i = 0; i < gguf_tensor_count(file); i++) {
        struct gguf_string name = gguf_tensor_at(file, i)->name;
        uint32_t n = layer_of(name) + 1;
        if (n > out->layers) out->layers = n;
        out->values += kind_of(name) == VALUE;
    }
    gguf_get_string(file, "general.architecture", &architecture);
    snprintf(key, sizeof key, "%.*s.expert_count", (int)architecture.len, architecture.bytes);
    gguf_get_u32(file, key, &out->experts);
    uint32_t heads = 0, keys = 0;
    snprintf(key, sizeof key, "%.*s.attention.head_count", (int)architecture.len, architecture.bytes);
    gguf_get_u32(file, key, &heads);
    snprintf(key, sizeof key, "%.*s.attention.head_count_kv", (int)architecture.len, architecture.bytes);
    gguf_get_u32(file, key, &keys); /* one number a layer, as in kimi-linear: the first has no such heads */
    out->grouped = keys && heads / keys >= 4;
}

/* How many tensors of these kinds come before t, in the order of layers and names. */
static uint32_t place_among(const struct quantize_source *s, unsigned kinds, const struct gguf_tensor *t)
{
    uint32_t n = 0, layer = layer_of(t->name);
    for (size_t i = 0; i < gguf_tensor_count(s->file); i++) {
        struct gguf_string other = gguf_tensor_at(s->file, i)->name;
        if (!(kind_of(other) & kinds)) continue;
        size_t len = other.len < t->name.len ? other.len : t->name.len;
        int order = memcmp(other.bytes, t->name.bytes, len);
        bool before = order < 0 || (order == 0 && other.len < t->name.len);
        n += layer_of(other) < layer || (layer_of(other) == layer && before);
    }
    return n;
}

static bool is_spread(uint32_t i, uint32_t n)
{
    return i < n / 8 || i >= 7 * n / 8 || (i - n / 8) % 3 == 2;
}

static bool speaks(enum when when, const struct quantize_source *s, const struct gguf_tensor *t)
{
    uint32_t layer = layer_of(t->name), n = s->layers;
    bool at_end = layer < n / 8 || layer >= 7 * n / 8;
    switch (when) {
    case ALWAYS:
        return true;
    case FIRST_SIXTEENTH:
        return layer < n / 16;
    case FIRST_EIGHTH:
        return layer < n / 8;
    case MIDDLE:
        return !at_end;
    case SPREAD:
        return is_spread(layer, n);
    case N_SPREAD:
        return is_spread(place_among(s, VALUE, t), s->values);
    case N_FIRST_TWO:
        return place_among(s, VALUE, t) < 2;
    case N_FIRST_FOUR:
        return place_among(s, VALUE, t) < 4;
    case N_FIRST_EIGHTH:
        return place_among(s, DOWN, t) < n / 8;
    case EIGHT:
        return s->experts == 8;
    case NOT_EIGHT:
        return s->experts != 8;
    case EIGHT_SPREAD:
        return s->experts == 8 && is_spread(layer, n);
    case GROUPED:
        return s->grouped;
    case MANY:
        return s->grouped || s->experts >= 4;
    case WEIGHED_FIRST_EIGHTH:
        return s->weighed && layer < n / 8;
    case PLAIN:
        return !s->weighed;
    case PLAIN_FIRST_EIGHTH:
        return !s->weighed && layer < n / 8;
    }
    return false;
}

const struct quant_format *quantize_choose(const struct quantize_mix *mix, const struct quantize_source *source,
                                           const struct gguf_tensor *t)
{
    if (quantize_keeps_f32(t)) return quant_format(QUANT_F32);
    enum kind kind = kind_of(t->name);
    for (const struct rule *r = mix->rules; r < mix->rules + MOST_RULES && r->kinds; r++)
        if ((r->kinds & (unsigned)kind) && speaks(r->when, source, t)) return quant_format(r->type);
    return quant_format(mix->base);
}
