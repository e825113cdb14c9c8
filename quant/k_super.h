/* SPDX-License-Identifier: MIT
 *
 * What the K formats share: super-blocks of 256 weights cut into subs, each sub with a small whole-number scale (and
 * min) of its own, all under one half d (and dmin). Private to quant/.
 */
#ifndef LECTERN_QUANT_K_SUPER_H
#define LECTERN_QUANT_K_SUPER_H

#include "quant/formats.h"

/* Q2_K, Q4_K, Q5_K: weight = d * scale * level - dmin * min. */
struct k_affine_shape {
    size_t subs;    /* in a super-block: 8 or 16 */
    int scale_most; /* of scale and of min; the least is 0 */
    int level_most;
};
struct k_affine {
    float d, dmin; /* exactly representable as halves */
    uint8_t scale[16], min[16];
    uint8_t level[SUPER];
};
void k_affine_fit(const float *x, const float *w, const struct k_affine_shape *, struct k_affine *out);

/* Q3_K, Q6_K: weight = d * scale * level; 16 subs. */
struct k_step_shape {
    int scale_least, scale_most;
    int level_least, level_most;
};
struct k_step {
    float d;
    int8_t scale[16];
    int8_t level[SUPER];
};
void k_step_fit(const float *x, const float *w, const struct k_step_shape *, struct k_step *out);

/* Eight pairs of 6-bit scale and min in 12 bytes, as Q4_K and Q5_K hold them: pairs 0..3 in the low 6 bits of bytes j
 * and j + 4; pairs 4..7 have their low nibbles in byte j + 4 and their upper two bits on top of bytes j - 4 and j. */
static inline void k_scales_get(const uint8_t *s, size_t j, unsigned *scale, unsigned *min)
{
    *scale = j < 4 ? s[j] & 63u : (s[j + 4] & 15u) | (unsigned)(s[j - 4] >> 6) << 4;
    *min = j < 4 ? s[j + 4] & 63u : (unsigned)(s[j + 4] >> 4) | (unsigned)(s[j] >> 6) << 4;
}
void k_scales_put(uint8_t *s, const uint8_t *scale, const uint8_t *min);

/* 256 levels into 128 bytes: byte j of each 32 holds weight j of two neighbouring 32s, the first low (Q4_K, Q5_K). Only
 * the low four bits of a level are taken. */
void k_nibbles_put(uint8_t *nibbles, const uint8_t *level);

/* 256 levels into 64 bytes of bit pairs: byte j of each 32 holds weight j of four neighbouring 32s, the first lowest
 * (Q2_K, Q3_K, TQ2_0). Only the low two bits of a level are taken. The bytes are zero before. */
void k_pairs_put(uint8_t *pairs, const uint8_t *level);

#endif
