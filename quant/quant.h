/* SPDX-License-Identifier: MIT
 *
 * Weight formats. A format stores `block_len` consecutive weights of one matrix row in `block_bytes` bytes.
 * Each format lives in its own file (q4_k.c, iq4_nl.c, ...) and is listed once, in the table of quant.c.
 * Layouts are those of GGUF; the type numbers are GGUF's too.
 */
#ifndef LECTERN_QUANT_QUANT_H
#define LECTERN_QUANT_QUANT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum quant_type {
    QUANT_F32 = 0,
    QUANT_F16 = 1,
    QUANT_Q4_0 = 2,
    QUANT_Q4_1 = 3,
    QUANT_Q5_0 = 6,
    QUANT_Q5_1 = 7,
    QUANT_Q8_0 = 8,
    QUANT_Q2_K = 10,
    QUANT_Q3_K = 11,
    QUANT_Q4_K = 12,
    QUANT_Q5_K = 13,
    QUANT_Q6_K = 14,
    QUANT_IQ2_XXS = 16,
    QUANT_IQ2_XS = 17,
    QUANT_IQ3_XXS = 18,
    QUANT_IQ1_S = 19,
    QUANT_IQ4_NL = 20,
    QUANT_IQ3_S = 21,
    QUANT_IQ2_S = 22,
    QUANT_IQ4_XS = 23,
    QUANT_IQ1_M = 29,
    QUANT_BF16 = 30,
    QUANT_TQ1_0 = 34,
    QUANT_TQ2_0 = 35,
    QUANT_MXFP4 = 39,
};

struct quant_format {
    enum quant_type type;
    const char *name;     /* as people write it: "Q4_K", "IQ2_XXS" */
    uint32_t block_len;   /* weights in a block */
    uint32_t block_bytes; /* bytes of a block */

    /* blocks -> n floats. n is a multiple of block_len. Any bit pattern gives defined floats (NaN and Inf included);
     * out-of-range indexes cannot occur or are masked. */
    void (*decode)(const void *blocks, float *out, size_t n);

    /* n floats -> blocks, nearest in weighted squared error. importance: n non-negative weights, or NULL for all equal.
     * NULL where the format can be read but not written. */
    void (*encode)(const float *in, const float *importance, void *blocks, size_t n);
};

/* The format of a GGUF type number, or NULL when it is unknown. */
const struct quant_format *quant_format(uint32_t type);

/* The format of a name, case-insensitive, or NULL. */
const struct quant_format *quant_format_named(const char *name);

/* All formats, in the order of their type numbers; *count gets their number. */
const struct quant_format *const *quant_formats(size_t *count);

/* Bytes of a row of n weights, or 0 when n is not a multiple of the block length. */
static inline size_t quant_row_bytes(const struct quant_format *f, size_t n)
{
    return n % f->block_len ? 0 : n / f->block_len * f->block_bytes;
}

/* IEEE half and bfloat16, round to nearest even; NaN stays NaN. Plain C, no F16C needed. */
float quant_f16_to_f32(uint16_t h);
uint16_t quant_f32_to_f16(float f);
static inline float quant_bf16_to_f32(uint16_t h)
{
    union {
        uint32_t u;
        float f;
    } v = {(uint32_t)h << 16};
    return v.f;
}
uint16_t quant_f32_to_bf16(float f);

#endif
