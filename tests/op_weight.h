/* SPDX-License-Identifier: MIT
 *
 * Weights for operation tests: a seeded stack of matrices in any format, on the backend and decoded on the host.
 */
#ifndef LECTERN_TESTS_OP_WEIGHT_H
#define LECTERN_TESTS_OP_WEIGHT_H

#include "tests/op_check.h"

struct check_weight {
    struct weight w;
    float *values; /* [n_mat][n_out][n_in], as the format decodes them */
    unsigned char *blocks;
};

/* The formats that both backends have. */
static const char *const check_formats[] = {"F32",    "F16",   "BF16",    "Q8_0",   "Q6_K",   "Q4_K",  "Q5_0",
                                            "Q5_K",   "Q3_K",  "Q2_K",    "IQ4_NL", "IQ4_XS", "Q4_0",  "Q4_1",
                                            "Q5_1",   "MXFP4", "TQ1_0",   "TQ2_0",  "IQ1_S",  "IQ1_M", "IQ2_XXS",
                                            "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S"};
enum { CHECK_FORMATS = sizeof check_formats / sizeof *check_formats };

/* LECTERN_TYPES, a list like "Q4_K,Q6_K", leaves out products in all other formats: a real GPU's driver takes its time
 * to compile each. */
static inline bool check_wanted(const char *format)
{
    const char *list = getenv("LECTERN_TYPES");
    const size_t length = strlen(format);
    if (!list) return true;
    for (const char *at = strstr(list, format); at; at = strstr(at + 1, format))
        if ((at == list || at[-1] == ',') && (at[length] == ',' || !at[length])) return true;
    return false;
}

/* Whether a product of n tokens may round both factors to f16; f32 matrices never are. */
static inline bool check_halves(const struct check *c, const char *format, uint32_t n)
{
    return n > 8 && strcmp(format, "F32") != 0 && c->halves;
}

/* Most NMSE of a sum of products where each of `factors` is rounded to f16, independently: each by at most 2^-11 of
 * itself. */
static inline double check_rounded(uint32_t factors)
{
    return factors * 0x1p-22;
}

/* Whether a format has codebooks. */
static inline bool check_codebook(const struct quant_format *f)
{
    return !strncmp(f->name, "IQ1_", 4) || !strncmp(f->name, "IQ2_", 4) || !strncmp(f->name, "IQ3_", 4);
}

/* Makes everything of blocks with codebooks random but d: every entry, sign and scale is met, and encoding, which
 * searches, is spared. The half d comes first, but in IQ1_M lies on top of four u16 at the end. */
static inline void check_scramble(struct check *c, const struct quant_format *f, unsigned char *blocks, size_t bytes)
{
    const bool spread = !strcmp(f->name, "IQ1_M");
    static const uint16_t d = 0x2400; /* 1/64 */
    for (size_t i = 0; i < bytes; i++) blocks[i] = (unsigned char)(check_uniform(c) * 256);
    for (unsigned char *b = blocks; b < blocks + bytes; b += f->block_bytes) {
        for (size_t j = 0; spread && j < 4; j++)
            b[49 + 2 * j] = (unsigned char)((b[49 + 2 * j] & 15) | (d >> (4 * j) & 15) << 4);
        if (!spread) {
            b[0] = (unsigned char)d;
            b[1] = (unsigned char)(d >> 8);
        }
    }
}

static inline struct check_weight check_weight(struct check *c, const char *format, uint32_t n_in, uint32_t n_out,
                                               uint32_t n_mat)
{
    const struct quant_format *f = quant_format_named(format);
    struct error error;
    assert_non_null(f);
    const size_t rows = (size_t)n_out * n_mat, row_bytes = quant_row_bytes(f, n_in);
    assert_true(row_bytes > 0);
    struct check_weight out = {.values = malloc(rows * n_in * sizeof(float)), .blocks = malloc(rows * row_bytes)};
    float *row = malloc(n_in * sizeof *row);
    assert_true(out.values && out.blocks && row);
    for (size_t r = 0; r < rows; r++) {
        for (uint32_t i = 0; i < n_in; i++) row[i] = check_normal(c);
        if (check_codebook(f))
            check_scramble(c, f, out.blocks + r * row_bytes, row_bytes);
        else
            f->encode(row, NULL, out.blocks + r * row_bytes, n_in);
        f->decode(out.blocks + r * row_bytes, out.values + r * n_in, n_in);
    }
    free(row);
    const struct gguf_tensor tensor = {.name = {"weight", 6},
                                       .format = f,
                                       .n_dims = 3,
                                       .ne = {n_in, n_out, n_mat, 1},
                                       .data = out.blocks,
                                       .bytes = rows * row_bytes};
    check_ok(c->ops->weight_load(c->backend, &tensor, &out.w, &error), &error);
    return out;
}

/* The cpu uses the blocks in place: there is nothing to release then. */
static inline void check_weight_free(struct check *c, struct check_weight *w)
{
    if (w->w.addr != (uint64_t)(uintptr_t)w->blocks) c->ops->release(c->backend, w->w.addr);
    free(w->values);
    free(w->blocks);
}

/* Row `row` of matrix `mat` times x, in double precision. */
static inline double check_dot(const struct check_weight *w, uint32_t mat, uint32_t row, const float *x)
{
    const float *values = w->values + ((size_t)mat * w->w.n_out + row) * w->w.n_in;
    double sum = 0;
    for (uint32_t i = 0; i < w->w.n_in; i++) sum += (double)values[i] * (double)x[i];
    return sum;
}

#endif
