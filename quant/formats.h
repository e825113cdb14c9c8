/* SPDX-License-Identifier: MIT
 *
 * The formats, one object each, gathered by the table of quant.c; and the loads and stores they share. Private to
 * quant/.
 */
#ifndef LECTERN_QUANT_FORMATS_H
#define LECTERN_QUANT_FORMATS_H

#include "quant/quant.h"

extern const struct quant_format quant_format_f32, quant_format_f16, quant_format_bf16;
extern const struct quant_format quant_format_q4_0, quant_format_q4_1, quant_format_q5_0, quant_format_q5_1;
extern const struct quant_format quant_format_q8_0, quant_format_mxfp4;
extern const struct quant_format quant_format_q2_k, quant_format_q3_k, quant_format_q4_k, quant_format_q5_k;
extern const struct quant_format quant_format_q6_k;
extern const struct quant_format quant_format_iq1_s, quant_format_iq1_m;
extern const struct quant_format quant_format_iq2_xxs, quant_format_iq2_xs, quant_format_iq2_s;
extern const struct quant_format quant_format_iq3_xxs, quant_format_iq3_s;
extern const struct quant_format quant_format_iq4_nl, quant_format_iq4_xs;
extern const struct quant_format quant_format_tq1_0, quant_format_tq2_0;

enum { SUPER = 256 }; /* weights in a super-block of the K and IQ formats */

/* Halves lie at even offsets only, never read as uint16_t: blocks need no alignment. */
static inline float half_at(const uint8_t *p)
{
    return quant_f16_to_f32((uint16_t)(p[0] | p[1] << 8));
}

/* `count` bits of a byte from bit `from` on. */
static inline unsigned bits_at(unsigned byte, size_t from, unsigned count)
{
    return byte >> from & ((1u << count) - 1);
}

/* Stores f as a half and gives back what a reader will see. */
static inline float half_put(uint8_t *p, float f)
{
    uint16_t h = quant_f32_to_f16(f);
    p[0] = (uint8_t)h;
    p[1] = (uint8_t)(h >> 8);
    return quant_f16_to_f32(h);
}

/* The importance of the weights from `at` on; NULL stays NULL. */
static inline const float *importance_at(const float *importance, size_t at)
{
    return importance ? importance + at : NULL;
}

#endif
