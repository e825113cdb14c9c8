/* SPDX-License-Identifier: MIT
 *
 * Codebooks: the IQ formats store 4 or 8 weights at once as the number of an entry in a table of level patterns.
 * Looking up is for decoders, finding the nearest entry for encoders. Private to quant/, but for the codes: kernels decode
 * with them too.
 */
#ifndef LECTERN_QUANT_IQ_CODEBOOK_H
#define LECTERN_QUANT_IQ_CODEBOOK_H

#include <stddef.h>
#include <stdint.h>

extern const uint16_t iq2_xxs_codes[256], iq2_xs_codes[512], iq2_s_codes[1024];
extern const uint16_t iq3_xxs_codes[256], iq3_s_codes[512];
extern const uint16_t iq1_s_codes[2048];

enum { CODEBOOK_NEAR = 16, CODEBOOK_MOST_DIM = 8 };

struct codebook_index;

struct codebook {
    const uint16_t *codes;
    uint32_t count;
    uint32_t dim, bits;   /* levels in a code; bits of a level number in it: 8 x 2 or 4 x 4 */
    uint32_t n_levels;    /* 3 or 8 */
    const int8_t *levels; /* ascending */
    struct codebook_index *index;
};
extern const struct codebook codebook_iq2_xxs, codebook_iq2_xs, codebook_iq2_s;
extern const struct codebook codebook_iq3_xxs, codebook_iq3_s;
extern const struct codebook codebook_iq1;

/* Level i of entry `at` (< count). */
static inline int codebook_level(const struct codebook *book, uint32_t at, uint32_t i)
{
    return book->levels[book->codes[at] >> (book->bits * i) & ((1u << book->bits) - 1)];
}

/* The entry nearest to t[dim] (in units of levels) in squared error weighted by w[dim]; *error += that error. */
uint32_t codebook_find(const struct codebook *, const float *t, const float *w, float *error);

#endif
