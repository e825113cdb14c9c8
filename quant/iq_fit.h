/* SPDX-License-Identifier: MIT
 *
 * What the codebook formats share when encoding: a super-block of 256 weights, subs with a whole-number scale, groups
 * of 8 weights with signs and one (or two half) codebook entries. weight = d * unit * (2 * scale + 1) * (sign * level +
 * shift) Private to quant/.
 */
#ifndef LECTERN_QUANT_IQ_FIT_H
#define LECTERN_QUANT_IQ_FIT_H

#include "quant/formats.h"
#include "quant/iq_codebook.h"

enum iq_signs {
    IQ_SIGNS_NONE, /* the levels have their own (IQ1) */
    IQ_SIGNS_EVEN, /* an even number of minus signs in each 8: seven bits tell the eighth */
    IQ_SIGNS_FREE,
};

struct iq_shape {
    const struct codebook *book;
    size_t sub; /* weights under one scale: 16 or 32 */
    enum iq_signs signs;
    int scale_most;
    float unit;
    float shift;        /* 0, or 1/8: added or taken away (IQ1) */
    size_t shift_group; /* weights that share its sign: 8 or 32 */
};

struct iq_block {
    float d; /* exactly representable as a half, not negative */
    uint8_t scale[16];
    uint16_t code[SUPER / 4]; /* entries, in order */
    uint8_t signs[SUPER / 8]; /* bit i: weight i of the 8 is negative */
    bool down[SUPER / 8];     /* the shift of these 8 is taken away */
};

void iq_fit(const float *x, const float *w, const struct iq_shape *, struct iq_block *out);

/* The eight signs that seven stored bits stand for: the eighth makes their number even. */
static inline uint8_t iq_even_signs(unsigned seven)
{
    unsigned folded = seven ^ seven >> 4;
    folded ^= folded >> 2;
    folded ^= folded >> 1;
    return (uint8_t)(seven | (folded & 1) << 7);
}

#endif
