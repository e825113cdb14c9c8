/* SPDX-License-Identifier: MIT
 *
 * Rows of the codebook formats (IQ1, IQ2, IQ3) spread to bytes: spread.h says how. An entry's level numbers become
 * levels, eight or four at a time in one word: a byte each, so that nothing carries from one to the next. Levels are
 * counted from -128.
 */
#ifndef LECTERN_ENGINE_CPU_SPREAD_BOOK_H
#define LECTERN_ENGINE_CPU_SPREAD_BOOK_H

#include "engine/cpu/decode.h"
#include "engine/cpu/kernels.h"
#include "quant/iq_codebook.h"

#define EACH 0x0101010101010101u /* times a byte: that byte eight times */

/* Eight numbers of two bits, lowest first, to bytes. */
static inline uint64_t pairs_to_bytes(uint64_t code)
{
    code = (code | code << 24) & 0x000000ff000000ffu;
    code = (code | code << 12) & 0x000f000f000f000fu;
    return (code | code << 6) & 0x0303030303030303u;
}

/* Four numbers of four bits. */
static inline uint64_t nibbles_to_bytes(uint64_t code)
{
    code = (code | code << 8) & 0x00ff00ffu;
    return (code | code << 4) & 0x0f0f0f0fu;
}

/* Bit i of eight to all bits of byte i. */
static inline uint64_t bits_to_bytes(uint64_t bits)
{
    uint64_t spread = bits * EACH & 0x8040201008040201u;
    return ((spread + EACH * 127) >> 7 & EACH) * 255;
}

/* 128 + level, or 128 - level where the sign bit is set; levels are under 128. */
static inline void put_signed_8(uint64_t level, uint64_t signs, uint8_t *out)
{
    const uint64_t down = bits_to_bytes(signs), zero = EACH * 128;
    const uint64_t bytes = ((zero + level) & ~down) | ((zero - level) & down);
    memcpy(out, &bytes, sizeof bytes);
}

/* Seven signs, the eighth makes their number even. */
static inline unsigned even_signs(unsigned seven)
{
    unsigned folded = seven ^ seven >> 4;
    folded ^= folded >> 2;
    folded ^= folded >> 1;
    return seven | (folded & 1) << 7;
}

static inline void put_16(const struct spread *s, size_t i, float step)
{
    s->scale[i / 16] = step;
    s->low[i / 16] = -128 * step;
}

static inline uint32_t word_at(const unsigned char *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static inline unsigned half_word_at(const unsigned char *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

/* ---------------------------------------------------------------------------- IQ2: 8, 25, 43 with signs apart */

static inline uint64_t iq2_levels(unsigned code)
{
    uint64_t number = pairs_to_bytes(code);
    return EACH * 8 + 17 * number + (number >> 1 & EACH);
}

static inline float iq2_step(float d, unsigned scale)
{
    return d * (0.5f + (float)scale) * 0.25f;
}

static inline void spread_iq2_xxs(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 66) {
        const float d = decode_half_at(b);
        for (size_t sub = 0; sub < 8; sub++) {
            const unsigned char *q = b + 2 + sub * 8;
            const uint32_t rest = word_at(q + 4);
            for (size_t k = 0; k < 4; k++)
                put_signed_8(iq2_levels(iq2_xxs_codes[q[k]]), even_signs(rest >> (7 * k) & 127),
                             s.level + i + sub * 32 + k * 8);
            put_16(&s, i + sub * 32, iq2_step(d, rest >> 28));
            put_16(&s, i + sub * 32 + 16, iq2_step(d, rest >> 28));
        }
    }
}

/* A nibble for each 16. */
static inline void put_iq2_scales(const unsigned char *scales, float d, const struct spread *s, size_t i)
{
    for (size_t k = 0; k < 16; k++) put_16(s, i + k * 16, iq2_step(d, scales[k / 2] >> (k % 2 * 4) & 15));
}

static inline void spread_iq2_xs(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 74) {
        for (size_t k = 0; k < 32; k++) {
            const unsigned q = half_word_at(b + 2 + 2 * k);
            put_signed_8(iq2_levels(iq2_xs_codes[q & 511]), even_signs(q >> 9), s.level + i + k * 8);
        }
        put_iq2_scales(b + 66, decode_half_at(b), &s, i);
    }
}

static inline void spread_iq2_s(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 82) {
        for (size_t k = 0; k < 32; k++) {
            const unsigned upper = b[66 + k / 4] >> (k % 4 * 2) & 3;
            put_signed_8(iq2_levels(iq2_s_codes[b[2 + k] | upper << 8]), b[34 + k], s.level + i + k * 8);
        }
        put_iq2_scales(b + 74, decode_half_at(b), &s, i);
    }
}

/* --------------------------------------------------------------------- IQ3: two entries of four for each eight */

/* 4, 12, 20 .. 52, 62 */
static inline uint64_t iq3_xxs_levels(unsigned first, unsigned second)
{
    const uint64_t number = nibbles_to_bytes(iq3_xxs_codes[first]) | nibbles_to_bytes(iq3_xxs_codes[second]) << 32;
    return EACH * 4 + 8 * number + ((number + EACH) >> 3 & EACH) * 2;
}

static inline void spread_iq3_xxs(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 98) {
        const float d = decode_half_at(b);
        for (size_t sub = 0; sub < 8; sub++) {
            const uint32_t rest = word_at(b + 66 + sub * 4);
            const float step = d * (0.5f + (float)(rest >> 28)) * 0.5f;
            for (size_t k = 0; k < 4; k++) {
                const unsigned char *q = b + 2 + sub * 8 + k * 2;
                put_signed_8(iq3_xxs_levels(q[0], q[1]), even_signs(rest >> (7 * k) & 127),
                             s.level + i + sub * 32 + k * 8);
            }
            put_16(&s, i + sub * 32, step);
            put_16(&s, i + sub * 32 + 16, step);
        }
    }
}

/* 1, 3, 5 .. 15 */
static inline uint64_t iq3_s_levels(unsigned first, unsigned second)
{
    return EACH + 2 * (nibbles_to_bytes(iq3_s_codes[first]) | nibbles_to_bytes(iq3_s_codes[second]) << 32);
}

static inline void spread_iq3_s(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 110) {
        const float d = decode_half_at(b);
        for (size_t k = 0; k < 32; k++) {
            const unsigned ninths = b[66 + k / 4] >> (k % 4 * 2);
            const unsigned first = b[2 + 2 * k] | (ninths & 1) << 8, second = b[3 + 2 * k] | (ninths >> 1 & 1) << 8;
            put_signed_8(iq3_s_levels(first, second), b[74 + k], s.level + i + k * 8);
        }
        for (size_t k = 0; k < 16; k++)
            put_16(&s, i + k * 16, d * (float)(1 + 2 * (b[106 + k / 4] >> (k / 2 % 2 * 4) & 15)));
    }
}

/* ----------------------------------------------------- IQ1: -1, 0, 1, an eighth up or down; levels are eighths */

static inline void put_trits(unsigned entry, bool down, uint8_t *out)
{
    const uint64_t bytes = EACH * (down ? 119 : 121) + 8 * pairs_to_bytes(iq1_s_codes[entry]);
    memcpy(out, &bytes, sizeof bytes);
}

static inline void spread_iq1_s(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 50) {
        const float d = decode_half_at(b) * 0.125f;
        for (size_t sub = 0; sub < 8; sub++) {
            const unsigned upper = half_word_at(b + 34 + sub * 2);
            const float step = d * (float)(2 * (upper >> 12 & 7) + 1);
            for (size_t k = 0; k < 4; k++)
                put_trits(b[2 + sub * 4 + k] | (upper >> (k * 3) & 7) << 8, upper >> 15,
                          s.level + i + sub * 32 + k * 8);
            put_16(&s, i + sub * 32, step);
            put_16(&s, i + sub * 32 + 16, step);
        }
    }
}

static inline void spread_iq1_m(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 56) {
        unsigned bits = 0;
        for (size_t j = 0; j < 4; j++) bits |= half_word_at(b + 48 + 2 * j) >> 12 << (4 * j);
        const float d = widen_half((uint16_t)bits) * 0.125f;
        for (size_t k = 0; k < 32; k++) {
            const unsigned upper = b[32 + k / 2] >> (k % 2 * 4) & 15;
            put_trits(b[k] | (upper & 7) << 8, upper >> 3, s.level + i + k * 8);
        }
        for (size_t k = 0; k < 16; k++)
            put_16(&s, i + k * 16, d * (float)(2 * (half_word_at(b + 48 + k / 4 * 2) >> (k % 4 * 3) & 7) + 1));
    }
}

#undef EACH

#endif
