/* SPDX-License-Identifier: MIT
 *
 * Test models. See make_model.h. Tensor names, shapes and metadata are those of real files.
 */
#include "tests/make_model.h"
#include "quant/quantize.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const struct test_relative moonlight = {
    .biased = true, .normalised = true, .expert_scale = 2.446f, .rope_base = 50000};
static const struct test_relative lite = {.softmax = true,
                                          .deepseek_words = true,
                                          .joined_kv_b = true,
                                          .expert_scale = 1,
                                          .rope_base = 10000,
                                          .yarn = 40,
                                          .log_multiplier = 0.0707f,
                                          .original = 4096};
static const struct test_relative v2 = {
    .softmax = true, .groups = 4, .groups_used = 2, .expert_scale = 16, .rope_base = 10000, .yarn = 8, .original = 512};
static const struct test_relative v3 = {.biased = true,
                                        .normalised = true,
                                        .groups = 4,
                                        .groups_used = 2,
                                        .expert_scale = 2.5f,
                                        .rope_base = 10000,
                                        .yarn = 40,
                                        .log_multiplier = 0.1f,
                                        .beta_fast = 32,
                                        .original = 4096};

static const struct test_shape shapes[] = {
    {"tiny", 256, 4, 4, 64, 128, 64, 32, 64, 512, 256, 8, 2, 1, 512, 4096, {4}, 1, 0, NULL},
    {"odd", 384, 7, 6, 128, 256, 96, 32, 64, 800, 160, 24, 3, 2, 1000, 8192, {3, 6, 7}, 1, 0, NULL},
    {"mini-like", 512, 8, 4, 128, 256, 128, 64, 128, 1536, 256, 8, 2, 1, 8192, 16384, {4, 8}, 1, 0, NULL},
    {"narrow", 96, 4, 3, 72, 40, 24, 8, 40, 160, 48, 5, 5, 2, 512, 4096, {2}, 2, 0, NULL},
    {"all-mla", 128, 3, 5, 64, 64, 32, 16, 24, 200, 40, 7, 1, 0, 512, 4096, {1, 2, 3}, 0, 48, NULL},
    {"all-kda", 80, 3, 5, 120, 0, 0, 0, 0, 200, 0, 0, 0, 0, 512, 4096, {0}, 3, 0, NULL},
    {"wide", 64, 1, 1, 248, 0, 0, 0, 0, 96, 0, 0, 0, 0, 512, 4096, {0}, 1, 0, NULL},
    {"mla-first", 64, 3, 1, 104, 32, 16, 16, 16, 96, 32, 4, 3, 1, 512, 4096, {1}, 3, 0, NULL},
    {"moonlight", 64, 3, 4, 0, 32, 16, 16, 16, 96, 32, 8, 3, 2, 512, 8192, {0}, 1, 0, &moonlight},
    {"lite", 32, 27, 2, 0, 16, 8, 8, 8, 48, 16, 6, 2, 2, 512, 163840, {0}, 1, 0, &lite},
    {"v2", 64, 3, 3, 0, 40, 24, 16, 16, 96, 32, 12, 4, 1, 512, 4096, {0}, 1, 32, &v2},
    {"v3", 96, 4, 4, 0, 64, 32, 32, 24, 128, 32, 16, 4, 1, 512, 163840, {0}, 2, 48, &v3},
};

enum { BYTES_TOKENS = 256, PAIR_LETTERS = 12, PAIRS = PAIR_LETTERS * PAIR_LETTERS };
static const char letters[] = "etaoinshrdlu";
static const char *const deepseek_specials[] = {"<\xEF\xBD\x9C"
                                                "begin\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
                                                "<\xEF\xBD\x9C"
                                                "end\xE2\x96\x81of\xE2\x96\x81sentence\xEF\xBD\x9C>",
                                                "<|EOT|>",
                                                "[PAD3]",
                                                "[PAD4]",
                                                "[PAD5]",
                                                "[PAD6]",
                                                "[PAD7]"};
static const char *const specials[] = {
    "[BOS]", "[EOS]", "<|im_end|>", "<|im_user|>", "<|im_assistant|>", "<|im_system|>", "<|im_middle|>", "[PAD]"};
enum { SPECIALS = sizeof specials / sizeof specials[0] };

/* How a tensor's weights are drawn. */
enum fill {
    FILL_WEIGHT, /* normal / sqrt(row length) */
    FILL_NORM,   /* 1 + 0.1 normal */
    FILL_EMBED,  /* normal */
    FILL_CONV,   /* 0.5 normal */
    FILL_DECAY,  /* -(0.5 .. 8) */
    FILL_DT,     /* -6 .. -1 */
    FILL_BIAS,   /* 0.05 normal */
};

struct item {
    char name[64];
    uint64_t ne[4];
    enum fill fill;
    bool keep_f32;
};

struct plan {
    struct item *items;
    size_t count, room;
    bool failed;
};

const struct test_shape *test_shape_named(const char *preset)
{
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++)
        if (strcmp(shapes[i].name, preset) == 0) return &shapes[i];
    return NULL;
}

static bool is_mla(const struct test_shape *s, uint32_t layer)
{
    if (s->relative) return true;
    for (size_t i = 0; i < 4 && s->mla[i]; i++)
        if (s->mla[i] == layer + 1) return true;
    return false;
}

/* layer < 0: a tensor outside the layers. What is not FILL_WEIGHT or FILL_EMBED stays F32. */
static void add(struct plan *p, int layer, const char *name, enum fill fill, const uint64_t *ne)
{
    if (p->count == p->room) {
        size_t room = p->room * 2 + 64;
        struct item *grown = realloc(p->items, room * sizeof *grown);
        if (!grown) {
            p->failed = true;
            return;
        }
        p->items = grown;
        p->room = room;
    }
    struct item *t = &p->items[p->count++];
    *t = (struct item){.ne = {ne[0], ne[1], ne[2], ne[3]}, .fill = fill};
    t->keep_f32 = fill != FILL_WEIGHT && fill != FILL_EMBED;
    if (layer < 0)
        snprintf(t->name, sizeof t->name, "%s", name);
    else
        snprintf(t->name, sizeof t->name, "blk.%d.%s", layer, name);
}

#define NE(...) ((const uint64_t[4]){__VA_ARGS__})

static void plan_kda(struct plan *p, const struct test_shape *s, int i)
{
    const uint64_t e = s->n_embd, d = s->kda, inner = d * s->n_head;
    static const char *const streams[3][2] = {{"attn_q.weight", "ssm_conv1d_q.weight"},
                                              {"attn_k.weight", "ssm_conv1d_k.weight"},
                                              {"attn_v.weight", "ssm_conv1d_v.weight"}};
    for (size_t j = 0; j < 3; j++) {
        add(p, i, streams[j][0], FILL_WEIGHT, NE(e, inner, 1, 1));
        add(p, i, streams[j][1], FILL_CONV, NE(4, 1, inner, 1));
    }
    add(p, i, "ssm_f_a.weight", FILL_WEIGHT, NE(e, d, 1, 1));
    add(p, i, "ssm_f_b.weight", FILL_WEIGHT, NE(d, inner, 1, 1));
    add(p, i, "ssm_beta.weight", FILL_WEIGHT, NE(e, s->n_head, 1, 1));
    add(p, i, "ssm_a", FILL_DECAY, NE(1, s->n_head, 1, 1));
    add(p, i, "ssm_dt.bias", FILL_DT, NE(inner, 1, 1, 1));
    add(p, i, "ssm_g_a.weight", FILL_WEIGHT, NE(e, d, 1, 1));
    add(p, i, "ssm_g_b.weight", FILL_WEIGHT, NE(d, inner, 1, 1));
    add(p, i, "ssm_norm.weight", FILL_NORM, NE(d, 1, 1, 1));
    add(p, i, "attn_output.weight", FILL_WEIGHT, NE(inner, e, 1, 1));
}

static void plan_mla(struct plan *p, const struct test_shape *s, int i)
{
    const uint64_t e = s->n_embd, h = s->n_head, r = s->kv_lora;
    if (s->q_lora) {
        add(p, i, "attn_q_a.weight", FILL_WEIGHT, NE(e, s->q_lora, 1, 1));
        add(p, i, "attn_q_a_norm.weight", FILL_NORM, NE(s->q_lora, 1, 1, 1));
        add(p, i, "attn_q_b.weight", FILL_WEIGHT, NE(s->q_lora, h * (s->nope + s->rope), 1, 1));
    } else {
        add(p, i, "attn_q.weight", FILL_WEIGHT, NE(e, h * (s->nope + s->rope), 1, 1));
    }
    add(p, i, "attn_kv_a_mqa.weight", FILL_WEIGHT, NE(e, r + s->rope, 1, 1));
    add(p, i, "attn_kv_a_norm.weight", FILL_NORM, NE(r, 1, 1, 1));
    if (s->relative && s->relative->joined_kv_b) {
        add(p, i, "attn_kv_b.weight", FILL_WEIGHT, NE(r, h * (s->nope + s->v_dim), 1, 1));
    } else {
        add(p, i, "attn_k_b.weight", FILL_WEIGHT, NE(s->nope, r, h, 1));
        add(p, i, "attn_v_b.weight", FILL_WEIGHT, NE(r, s->v_dim, h, 1));
    }
    add(p, i, "attn_output.weight", FILL_WEIGHT, NE(h * s->v_dim, e, 1, 1));
}

static void plan_moe(struct plan *p, const struct test_shape *s, int i)
{
    const uint64_t e = s->n_embd, n = s->n_exp, ff = s->n_ff_exp, shared = (uint64_t)s->n_ff_exp * s->n_shared;
    add(p, i, "ffn_gate_inp.weight", FILL_WEIGHT, NE(e, n, 1, 1));
    if (!p->failed) p->items[p->count - 1].keep_f32 = true;
    if (!s->relative || s->relative->biased) add(p, i, "exp_probs_b.bias", FILL_BIAS, NE(n, 1, 1, 1));
    add(p, i, "ffn_gate_exps.weight", FILL_WEIGHT, NE(e, ff, n, 1));
    add(p, i, "ffn_up_exps.weight", FILL_WEIGHT, NE(e, ff, n, 1));
    add(p, i, "ffn_down_exps.weight", FILL_WEIGHT, NE(ff, e, n, 1));
    if (!shared) return;
    add(p, i, "ffn_gate_shexp.weight", FILL_WEIGHT, NE(e, shared, 1, 1));
    add(p, i, "ffn_up_shexp.weight", FILL_WEIGHT, NE(e, shared, 1, 1));
    add(p, i, "ffn_down_shexp.weight", FILL_WEIGHT, NE(shared, e, 1, 1));
}

static void plan_model(struct plan *p, const struct test_shape *s)
{
    const uint64_t e = s->n_embd;
    add(p, -1, "token_embd.weight", FILL_EMBED, NE(e, s->n_vocab, 1, 1));
    add(p, -1, "output_norm.weight", FILL_NORM, NE(e, 1, 1, 1));
    add(p, -1, "output.weight", FILL_WEIGHT, NE(e, s->n_vocab, 1, 1));
    for (int i = 0; i < (int)s->n_layer; i++) {
        add(p, i, "attn_norm.weight", FILL_NORM, NE(e, 1, 1, 1));
        if (is_mla(s, (uint32_t)i))
            plan_mla(p, s, i);
        else
            plan_kda(p, s, i);
        add(p, i, "ffn_norm.weight", FILL_NORM, NE(e, 1, 1, 1));
        if ((uint32_t)i >= s->n_dense && s->n_exp) {
            plan_moe(p, s, i);
            continue;
        }
        add(p, i, "ffn_gate.weight", FILL_WEIGHT, NE(e, s->n_ff, 1, 1));
        add(p, i, "ffn_up.weight", FILL_WEIGHT, NE(e, s->n_ff, 1, 1));
        add(p, i, "ffn_down.weight", FILL_WEIGHT, NE(s->n_ff, e, 1, 1));
    }
}

static void put_text(struct gguf_writer *w, const char *key, const char *text)
{
    gguf_put_string(w, key, text, strlen(text));
}

struct number {
    const char *key;
    uint32_t value;
};

static void put_numbers(struct gguf_writer *w, const char *architecture, const struct number *numbers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char key[64];
        snprintf(key, sizeof key, "%s.%s", architecture, numbers[i].key);
        gguf_put_u32(w, key, numbers[i].value);
    }
}

/* What all files have. */
static void put_shape(struct gguf_writer *w, const char *architecture, const struct test_shape *s)
{
    const struct number numbers[] = {
        {"vocab_size", s->n_vocab},
        {"context_length", s->context},
        {"embedding_length", s->n_embd},
        {"block_count", s->n_layer},
        {"feed_forward_length", s->n_ff},
        {"attention.head_count", s->n_head},
        {"attention.kv_lora_rank", s->kv_lora},
        {"rope.dimension_count", s->rope},
        {"expert_count", s->n_exp},
        {"expert_used_count", s->n_used},
        {"expert_feed_forward_length", s->n_ff_exp},
        {"expert_shared_count", s->n_shared},
        {"leading_dense_block_count", s->n_dense},
    };
    put_numbers(w, architecture, numbers, sizeof numbers / sizeof *numbers);
}

static void put_kimi(struct gguf_writer *w, const struct test_shape *s)
{
    const struct number numbers[] = {
        {"attention.key_length", s->kv_lora + s->rope},
        {"attention.value_length", s->kv_lora},
        {"attention.key_length_mla", s->nope + s->rope},
        {"attention.value_length_mla", s->v_dim},
        {"ssm.conv_kernel", 4},
        {"kda.head_dim", s->kda},
        {"expert_gating_func", 2},
    };
    put_numbers(w, "kimi-linear", numbers, sizeof numbers / sizeof *numbers);
    int32_t kv[16] = {0};
    for (uint32_t i = 0; i < s->n_layer; i++) kv[i] = is_mla(s, i);
    gguf_put_i32_array(w, "kimi-linear.attention.head_count_kv", kv, s->n_layer);
    gguf_put_f32(w, "kimi-linear.attention.layer_norm_rms_epsilon", 1e-5f);
    gguf_put_f32(w, "kimi-linear.rope.freq_base", 10000);
    gguf_put_f32(w, "kimi-linear.expert_weights_scale", 2.446f);
}

static void put_yarn(struct gguf_writer *w, const struct test_relative *r)
{
    put_text(w, "deepseek2.rope.scaling.type", "yarn");
    gguf_put_f32(w, "deepseek2.rope.scaling.factor", r->yarn);
    gguf_put_u32(w, "deepseek2.rope.scaling.original_context_length", r->original);
    if (r->log_multiplier > 0) gguf_put_f32(w, "deepseek2.rope.scaling.yarn_log_multiplier", r->log_multiplier);
    if (r->attn_factor > 0) gguf_put_f32(w, "deepseek2.rope.scaling.attn_factor", r->attn_factor);
    if (r->beta_fast > 0) gguf_put_f32(w, "deepseek2.rope.scaling.yarn_beta_fast", r->beta_fast);
}

/* Widths of heads as files told them before 2026, where keys and values are joined. */
static void put_relative(struct gguf_writer *w, const struct test_shape *s)
{
    const struct test_relative *r = s->relative;
    const bool old = r->joined_kv_b;
    const struct number numbers[] = {
        {"attention.head_count_kv", old ? s->n_head : 1},
        {"attention.q_lora_rank", s->q_lora},
        {"attention.key_length", old ? s->nope + s->rope : s->kv_lora + s->rope},
        {"attention.value_length", old ? s->v_dim : s->kv_lora},
        {"expert_gating_func", r->softmax ? 1 : 2},
        {"attention.key_length_mla", s->nope + s->rope},
        {"attention.value_length_mla", s->v_dim},
    };
    put_numbers(w, "deepseek2", numbers, old ? 5 : 7);
    const struct number groups[] = {{"expert_group_count", r->groups}, {"expert_group_used_count", r->groups_used}};
    if (r->groups) put_numbers(w, "deepseek2", groups, 2);
    gguf_put_f32(w, "deepseek2.attention.layer_norm_rms_epsilon", 1e-6f);
    gguf_put_f32(w, "deepseek2.expert_weights_scale", r->expert_scale);
    gguf_put_f32(w, "deepseek2.rope.freq_base", r->rope_base);
    if (r->normalised) gguf_put_bool(w, "deepseek2.expert_weights_norm", true);
    if (r->yarn > 0) put_yarn(w, r);
}

/* GPT-2's printable stand-in for a byte, as UTF-8. */
static void byte_text(unsigned byte, char out[8])
{
    unsigned c = byte, skipped = 0;
    for (unsigned b = 0; b <= byte; b++) {
        bool shown = (b >= 33 && b < 127) || (b >= 161 && b != 173);
        if (!shown) c = b == byte ? 256 + skipped : c;
        skipped += !shown;
    }
    if (c < 128)
        snprintf(out, 8, "%c", (char)c);
    else
        snprintf(out, 8, "%c%c", (char)(0xc0 | c >> 6), (char)(0x80 | (c & 63)));
}

struct vocabulary {
    char (*text)[32];
    struct gguf_string *tokens;
    int32_t *types;
    char merge_text[PAIRS][4];
    struct gguf_string merges[PAIRS];
};

/* Ids 0..255 are the bytes; then merges of two letters; then fillers; the specials last. */
static void fill_vocabulary(struct vocabulary *v, size_t n, const char *const *names)
{
    size_t base = n - SPECIALS;
    for (size_t i = 0; i < n; i++) {
        v->types[i] = i >= base ? 3 : i < BYTES_TOKENS + PAIRS ? 1 : 5;
        if (i < BYTES_TOKENS) {
            byte_text((unsigned)i, v->text[i]);
        } else if (i < BYTES_TOKENS + PAIRS) {
            size_t k = i - BYTES_TOKENS;
            char a = letters[k / PAIR_LETTERS], b = letters[k % PAIR_LETTERS];
            snprintf(v->text[i], sizeof v->text[i], "%c%c", a, b);
            snprintf(v->merge_text[k], sizeof v->merge_text[k], "%c %c", a, b);
            v->merges[k] = (struct gguf_string){v->merge_text[k], 3};
        } else if (i < base) {
            snprintf(v->text[i], sizeof v->text[i], "[UNUSED%zu]", i);
        } else {
            snprintf(v->text[i], sizeof v->text[i], "%s", names[i - base]);
        }
        v->tokens[i] = (struct gguf_string){v->text[i], strlen(v->text[i])};
    }
}

/* The beginnings of the real ones, which tell them. */
static const char kimi_template[] = "{% for message in messages %}<|im_{{message.role}}|>{{message.role}}<|im_middle|>"
                                    "{{message.content}}<|im_end|>{% endfor %}<|im_assistant|>assistant<|im_middle|>";
static const char deepseek_template[] =
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ 'User: ' + message['content'] + "
    "'\n\n' }}{% elif message['role'] == 'assistant' %}{{ 'Assistant: ' + message['content'] + eos_token }}{% elif "
    "message['role'] == 'system' %}{{ message['content'] + '\n\n' }}{% endif %}{% endfor %}{{ 'Assistant:' }}";

static int put_tokenizer(struct gguf_writer *w, size_t n, bool is_deepseek, struct error *error)
{
    struct vocabulary *v = calloc(1, sizeof *v);
    if (v) {
        v->text = calloc(n, sizeof *v->text);
        v->tokens = calloc(n, sizeof *v->tokens);
        v->types = calloc(n, sizeof *v->types);
    }
    bool whole = v && v->text && v->tokens && v->types;
    if (whole) {
        fill_vocabulary(v, n, is_deepseek ? deepseek_specials : specials);
        put_text(w, "tokenizer.ggml.model", "gpt2");
        put_text(w, "tokenizer.ggml.pre", is_deepseek ? "deepseek-llm" : "kimi-k2");
        put_text(w, "tokenizer.chat_template", is_deepseek ? deepseek_template : kimi_template);
        gguf_put_string_array(w, "tokenizer.ggml.tokens", v->tokens, n);
        gguf_put_i32_array(w, "tokenizer.ggml.token_type", v->types, n);
        gguf_put_string_array(w, "tokenizer.ggml.merges", v->merges, PAIRS);
        uint32_t base = (uint32_t)(n - SPECIALS);
        gguf_put_u32(w, "tokenizer.ggml.bos_token_id", base);
        gguf_put_u32(w, "tokenizer.ggml.eos_token_id", base + 1);
        gguf_put_u32(w, "tokenizer.ggml.eot_token_id", base + 2);
        gguf_put_u32(w, "tokenizer.ggml.padding_token_id", base + 7);
        gguf_put_bool(w, "tokenizer.ggml.add_bos_token", true);
    }
    if (v) {
        free(v->text);
        free(v->tokens);
        free(v->types);
        free(v);
    }
    return whole ? 0 : error_set(error, ERROR_FAILED, "Out of memory while making a test model.");
}

/* splitmix64 (Steele, Lea, Flood 2014). */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Four 16-bit uniforms summed: close to normal, mean 0, variance 1, and the same bits on every machine. */
static float random_normal(uint64_t *state)
{
    uint64_t r = random_next(state);
    int sum = (int)(r & 0xffff) + (int)(r >> 16 & 0xffff) + (int)(r >> 32 & 0xffff) + (int)(r >> 48);
    return (float)(sum - 2 * 0xffff) * (1.7320508f / 65536);
}

static float random_uniform(uint64_t *state, float low, float high)
{
    return low + (high - low) * ((float)(random_next(state) >> 40) * 0x1p-24f);
}

static float draw(enum fill fill, float fan, uint64_t *state)
{
    switch (fill) {
    case FILL_WEIGHT:
        return random_normal(state) / fan;
    case FILL_NORM:
        return 1 + 0.1f * random_normal(state);
    case FILL_EMBED:
        return random_normal(state);
    case FILL_CONV:
        return 0.5f * random_normal(state);
    case FILL_DECAY:
        return -random_uniform(state, 0.5f, 8);
    case FILL_DT:
        return random_uniform(state, -6, -1);
    case FILL_BIAS:
        return 0.05f * random_normal(state);
    }
    return 0;
}

static const struct quant_format *item_format(const struct item *t, const struct quant_format *wanted)
{
    return t->keep_f32 ? quant_format(QUANT_F32) : quantize_fallback(wanted, t->ne[0]);
}

/* Draws, encodes and writes one tensor, row by row. The seed is the model's and the name's, so that adding a tensor
 * changes no other. */
static int write_item(struct gguf_writer *w, const struct item *t, const struct quant_format *f, uint64_t seed,
                      struct error *error)
{
    size_t n = (size_t)t->ne[0], rows = (size_t)(t->ne[1] * t->ne[2] * t->ne[3]), bytes = quant_row_bytes(f, n);
    float *row = malloc(n * sizeof *row);
    void *blocks = malloc(bytes);
    int rc = row && blocks ? 0 : error_set(error, ERROR_FAILED, "Out of memory while making a test model.");
    for (const char *c = t->name; *c; c++) seed = (seed ^ (unsigned char)*c) * 0x100000001b3u;
    for (size_t r = 0; r < rows && !rc; r++) {
        for (size_t i = 0; i < n; i++) row[i] = draw(t->fill, sqrtf((float)n), &seed);
        f->encode(row, NULL, blocks, n);
        rc = gguf_write(w, blocks, bytes, error);
    }
    free(row);
    free(blocks);
    return rc;
}

static int write_model(struct gguf_writer *w, const struct plan *p, const struct test_shape *s,
                       const struct test_model *m, struct error *error)
{
    const struct quant_format *wanted = quant_format_named(m->type ? m->type : "F32");
    const char *architecture = s->relative ? "deepseek2" : "kimi-linear";
    put_text(w, "general.architecture", architecture);
    put_text(w, "general.name", s->name);
    gguf_put_u32(w, "general.quantization_version", 2);
    put_shape(w, architecture, s);
    if (s->relative)
        put_relative(w, s);
    else
        put_kimi(w, s);
    int rc = put_tokenizer(w, s->n_vocab, s->relative && s->relative->deepseek_words, error);
    for (size_t i = 0; i < p->count && !rc; i++) {
        const struct item *t = &p->items[i];
        uint32_t n_dims = 4;
        while (n_dims > 1 && t->ne[n_dims - 1] == 1) n_dims--;
        gguf_put_tensor(w, t->name, item_format(t, wanted), n_dims, t->ne);
    }
    for (size_t i = 0; i < p->count && !rc; i++)
        rc = write_item(w, &p->items[i], item_format(&p->items[i], wanted), m->seed, error);
    return rc;
}

int test_model_write(const char *path, const struct test_model *m, struct error *error)
{
    const struct test_shape *s = test_shape_named(m->preset ? m->preset : "tiny");
    const struct quant_format *wanted = quant_format_named(m->type ? m->type : "F32");
    if (!s) return error_set(error, ERROR_USAGE, "There is no preset %s; tests/make_model.h lists them.", m->preset);
    if (!wanted || !wanted->encode) return error_set(error, ERROR_USAGE, "%s is no type to write.", m->type);
    struct gguf_writer *w = NULL;
    struct plan p = {0};
    plan_model(&p, s);
    int rc = p.failed ? error_set(error, ERROR_FAILED, "Out of memory while making a test model.")
                      : gguf_writer_open(&w, path, error);
    if (!rc) rc = write_model(w, &p, s, m, error);
    if (rc)
        gguf_writer_abort(&w);
    else
        rc = gguf_writer_finish(&w, error);
    free(p.items);
    return rc;
}
