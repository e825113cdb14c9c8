/* SPDX-License-Identifier: MIT
 *
 * Test models: random, deterministic kimi-linear and deepseek2 GGUF files, written by our own writer and encoders. The same preset,
 * seed and type give the same bytes everywhere; the same preset and seed give the same weights in every type, up to
 * rounding. Activations stay O(1), so logits are meaningful numbers.
 */
#ifndef LECTERN_TESTS_MAKE_MODEL_H
#define LECTERN_TESTS_MAKE_MODEL_H

#include "quant/gguf.h"

/* clang-format off */
/*            layers (MLA, from 1)  n_embd heads kda  nope rope v   kv_lora experts   ff   vocab  dense
 * tiny       4 (4)                 256    4     64   64   32   64  128     8 top 2   256  512    1      fast; every op
 * odd        7 (3, 6, 7)           384    6     128  96   32   64  256     24 top 3  160  1000   1      sizes no tile likes; 2 shared
 * mini-like  8 (4, 8)              512    4     128  128  64   128 256     8 top 2   256  8192   1      the built-in model's shape
 * narrow     4 (2)                 96     3     72   24   8    40  40      5 top 5   48   512    2      widths that fill no lanes; 2 shared
 * all-mla    3 (all)               128    5     -    32   16   24  64      7 top 1   40   512    0      no state but rows; compressed queries; no shared
 * all-kda    3 (none)              80     5     120  -    -    -   -       none      -    512    3      no rows; dense
 * mla-first  3 (1)                 64     1     104  16   16   16  32      4 unused  32   512    3      one head; dense, though experts are told
 * wide       1 (none)              64     1     248  -    -    -   -       none      -    512    1      heads too wide for small GPUs
 * deepseek2, all layers MLA with rotary positions:
 * moonlight  3                     64     4     -    16   16   16  32      8 top 3   32   512    1      sigmoid, bias, normalised; 2 shared
 * lite       27                    32     2     -    8    8    8   16      6 top 2   16   512    1      softmax, raw; YaRN; attn_kv_b; 2 shared; DeepSeek's tokenizer
 * v2         3                     64     3     -    24   16   16  40      12 top 4  32   512    1      softmax, 4 groups, 2 of them; YaRN with a factor for attention, no log multiplier; compressed queries
 * v3         4                     96     4     -    32   32   24  64      16 top 4  32   512    2      sigmoid, bias, 4 groups, 2 of them; YaRN; compressed queries
 */
/* clang-format on */
struct test_model {
    const char *preset; /* NULL = "tiny" */
    const char *type;   /* a format name; NULL = "F32". Rows that are not whole blocks fall back (quantize_fallback) */
    uint64_t seed;
};

struct test_shape {
    const char *name;
    uint32_t n_embd, n_layer, n_head, kda, kv_lora, nope, rope, v_dim;
    uint32_t n_ff, n_ff_exp, n_exp, n_used, n_shared, n_vocab, context;
    uint32_t mla[4];  /* layers counted from 1; 0 ends */
    uint32_t n_dense; /* leading dense layers */
    uint32_t q_lora;  /* 0: queries are not compressed */
    const struct test_relative *relative;
};

/* A deepseek2 model. */
struct test_relative {
    bool softmax, biased, normalised, joined_kv_b;
    bool deepseek_words; /* tokenizer and chat template of DeepSeek-V2 in place of Kimi's */
    uint32_t groups, groups_used; /* 0: no groups */
    float expert_scale, rope_base;
    float yarn; /* factor; 0 = none */
    float log_multiplier, beta_fast, attn_factor; /* 0: not told */
    uint32_t original;
};

/* The shape of a preset, or NULL. */
const struct test_shape *test_shape_named(const char *preset);

/* Writes the model. ERROR_USAGE for an unknown preset or type. */
int test_model_write(const char *path, const struct test_model *, struct error *error);

#endif
