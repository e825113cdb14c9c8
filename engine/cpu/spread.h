/* SPDX-License-Identifier: MIT
 *
 * Rows of low-bit weights spread to bytes with a scale and an offset for each 16 of them:
 *     w = scale * level + low, level 0..255,
 * whatever their format. The layouts are told in quant/. Included by kernels.c alone; codebooks are in spread_book.h.
 */
#ifndef LECTERN_ENGINE_CPU_SPREAD_H
#define LECTERN_ENGINE_CPU_SPREAD_H

#include "engine/cpu/decode.h"
#include "engine/cpu/kernels.h"
#include "engine/cpu/spread_book.h"

static inline void put_32(const struct spread *s, size_t i, float scale, float low)
{
    s->scale[i / 16] = s->scale[i / 16 + 1] = scale;
    s->low[i / 16] = s->low[i / 16 + 1] = low;
}

/* Bytes may alias anything, the pointers they are stored through included: hence the small functions with restrict. */
static inline void low_nibbles(const unsigned char *restrict q, uint8_t *restrict out, int n)
{
    for (int j = 0; j < n; j++) out[j] = q[j] & 15;
}

static inline void high_nibbles(const unsigned char *restrict q, uint8_t *restrict out, int n)
{
    for (int j = 0; j < n; j++) out[j] = (uint8_t)(q[j] >> 4);
}

static inline void flip_signs(const unsigned char *restrict q, uint8_t *restrict out)
{
    for (int j = 0; j < 32; j++) out[j] = q[j] ^ 128;
}

static inline void add_fifths(const unsigned char *restrict fifth, uint8_t *restrict out)
{
    uint32_t bits;
    memcpy(&bits, fifth, sizeof bits);
    for (int j = 0; j < 32; j++) out[j] = (uint8_t)(out[j] | (bits >> j & 1) << 4);
}

/* Bit `from` of each byte becomes bit `to`. */
static inline void add_bits(const unsigned char *restrict bits, int from, int to, uint8_t *restrict out)
{
    for (int j = 0; j < 32; j++) out[j] = (uint8_t)(out[j] | (bits[j] >> from & 1) << to);
}

static inline void pairs(const unsigned char *restrict q, int shift, uint8_t *restrict out)
{
    for (int j = 0; j < 32; j++) out[j] = q[j] >> shift & 3;
}

static inline void add_upper_pairs(const unsigned char *restrict up, int shift, uint8_t *restrict out)
{
    for (int j = 0; j < 32; j++) out[j] = (uint8_t)(out[j] | (up[j] >> shift & 3) << 4);
}

/* ------------------------------------------------------------------------------------------- blocks of 32 */

/* The halves at the start of `count` <= 8 blocks, each the scale of 32 weights: to floats, all at once. */
static inline void put_halves(const unsigned char *b, size_t stride, size_t count, float *restrict out)
{
    uint16_t half[8] = {0};
    float f[8];
    for (size_t j = 0; j < count; j++) memcpy(&half[j], b + j * stride, sizeof *half);
    widen_halves((const unsigned char *)half, f, 8);
    for (size_t j = 0; j < 2 * count; j++) out[j] = f[j / 2];
}

/* Scales of blocks of 32 that begin with them, whose level `zero` means no weight. */
static inline void put_scales_32(const unsigned char *b, size_t stride, int zero, const struct spread *s, size_t n)
{
    float *restrict scale = s->scale, *restrict low = s->low;
    size_t i = 0;
    for (; i + 256 <= n; i += 256, b += 8 * stride) put_halves(b, stride, 8, scale + i / 16);
    if (i < n) put_halves(b, stride, (n - i) / 32, scale + i / 16);
    for (i = 0; i < n / 16; i++) low[i] = (float)-zero * scale[i];
}

static inline void spread_q8_0(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    put_scales_32(b, 34, 128, to, n);
    for (size_t i = 0; i < n; i += 32, b += 34) flip_signs(b + 2, s.level + i);
}

static inline void nibbles_32(const unsigned char *q, uint8_t *out)
{
    low_nibbles(q, out, 16);
    high_nibbles(q, out + 16, 16);
}

static inline void spread_q4_0(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    put_scales_32(b, 18, 8, to, n);
    for (size_t i = 0; i < n; i += 32, b += 18) nibbles_32(b + 2, s.level + i);
}

static inline void spread_q4_1(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 32, b += 20) {
        nibbles_32(b + 4, s.level + i);
        put_32(&s, i, decode_half_at(b), decode_half_at(b + 2));
    }
}

static inline void spread_q5_0(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    put_scales_32(b, 22, 16, to, n);
    for (size_t i = 0; i < n; i += 32, b += 22) {
        nibbles_32(b + 6, s.level + i);
        add_fifths(b + 2, s.level + i);
    }
}

static inline void spread_q5_1(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 32, b += 24) {
        nibbles_32(b + 8, s.level + i);
        add_fifths(b + 4, s.level + i);
        put_32(&s, i, decode_half_at(b), decode_half_at(b + 2));
    }
}

/* 16 bytes of nibbles, each the number of a level. */
static inline void table_32(const uint8_t levels[16], const unsigned char *restrict q, uint8_t *restrict out)
{
#if defined(__AVX2__)
    const __m128i table = _mm_loadu_si128((const void *)levels), low = _mm_set1_epi8(15);
    const __m128i bytes = _mm_loadu_si128((const void *)q);
    _mm_storeu_si128((void *)out, _mm_shuffle_epi8(table, _mm_and_si128(bytes, low)));
    _mm_storeu_si128((void *)(out + 16), _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(bytes, 4), low)));
#elif defined(__ARM_NEON) && defined(__aarch64__)
    const uint8x16_t table = vld1q_u8(levels), bytes = vld1q_u8(q);
    vst1q_u8(out, vqtbl1q_u8(table, vandq_u8(bytes, vdupq_n_u8(15))));
    vst1q_u8(out + 16, vqtbl1q_u8(table, vshrq_n_u8(bytes, 4)));
#else
    for (int j = 0; j < 16; j++) {
        out[j] = levels[q[j] & 15];
        out[j + 16] = levels[q[j] >> 4];
    }
#endif
}

/* The signed values of IQ4, counted from -128, and MXFP4's, doubled, from -12. */
static const uint8_t iq4_levels[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
static const uint8_t mxfp4_levels[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};

static inline void spread_iq4_nl(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    put_scales_32(b, 18, 128, to, n);
    for (size_t i = 0; i < n; i += 32, b += 18) table_32(iq4_levels, b + 2, s.level + i);
}

static inline void spread_mxfp4(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 32, b += 17) {
        union {
            uint32_t bits;
            float f;
        } step = {b[0] > 1 ? (uint32_t)(b[0] - 1) << 23 : 0x200000u << b[0]}; /* 2^(e - 128), subnormal below e = 2 */
        table_32(mxfp4_levels, b + 1, s.level + i);
        put_32(&s, i, step.f, -12 * step.f);
    }
}

/* ------------------------------------------------------------------------------------------- blocks of 256 */

static inline void spread_iq4_xs(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 136) {
        float d = decode_half_at(b);
        for (size_t sub = 0; sub < 8; sub++) {
            int low = b[4 + sub / 2] >> (sub % 2 * 4) & 15, up = b[2 + sub / 4] >> (sub % 4 * 2) & 3;
            float step = d * (float)((low | up << 4) - 32);
            table_32(iq4_levels, b + 8 + sub * 16, s.level + i + sub * 32);
            put_32(&s, i + sub * 32, step, -128 * step);
        }
    }
}

/* The eight 6-bit scales and offsets of Q4_K and Q5_K (quant/k_super.h has the packing), all at once. */
static inline void put_k_scales(const unsigned char *packed, float d, float d_min, float *restrict scale,
                                float *restrict low)
{
    uint32_t p[3];
    uint8_t steps[8], lows[8];
    memcpy(p, packed, sizeof p);
    const uint32_t step[2] = {p[0] & 0x3f3f3f3fu, (p[2] & 0x0f0f0f0fu) | (p[0] >> 2 & 0x30303030u)};
    const uint32_t least[2] = {p[1] & 0x3f3f3f3fu, (p[2] >> 4 & 0x0f0f0f0fu) | (p[1] >> 2 & 0x30303030u)};
    memcpy(steps, step, sizeof step);
    memcpy(lows, least, sizeof least);
    for (int j = 0; j < 16; j++) scale[j] = d * (float)steps[j / 2];
    for (int j = 0; j < 16; j++) low[j] = -d_min * (float)lows[j / 2];
}

static inline void spread_q4_k(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 144) {
        put_k_scales(b + 4, decode_half_at(b), decode_half_at(b + 2), s.scale + i / 16, s.low + i / 16);
        for (size_t pair = 0; pair < 4; pair++) {
            low_nibbles(b + 16 + pair * 32, s.level + i + pair * 64, 32);
            high_nibbles(b + 16 + pair * 32, s.level + i + pair * 64 + 32, 32);
        }
    }
}

static inline void spread_q5_k(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 176) {
        put_k_scales(b + 4, decode_half_at(b), decode_half_at(b + 2), s.scale + i / 16, s.low + i / 16);
        for (int pair = 0; pair < 4; pair++) {
            uint8_t *out = s.level + i + (size_t)pair * 64;
            low_nibbles(b + 48 + pair * 32, out, 32);
            high_nibbles(b + 48 + pair * 32, out + 32, 32);
            add_bits(b + 16, 2 * pair, 4, out);
            add_bits(b + 16, 2 * pair + 1, 4, out + 32);
        }
    }
}

static inline void put_signed_scales(const int8_t *restrict steps, float d, int zero, float *restrict scale,
                                     float *restrict low)
{
    for (int j = 0; j < 16; j++) scale[j] = d * (float)steps[j];
    for (int j = 0; j < 16; j++) low[j] = (float)-zero * scale[j];
}

static inline void spread_q6_k(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 210) {
        put_signed_scales((const int8_t *)(b + 192), decode_half_at(b + 208), 32, s.scale + i / 16, s.low + i / 16);
        for (int half = 0; half < 2; half++) {
            const unsigned char *q = b + half * 64, *up = b + 128 + half * 32;
            uint8_t *out = s.level + i + (size_t)half * 128;
            low_nibbles(q, out, 64);
            high_nibbles(q, out + 64, 64);
            for (int p = 0; p < 4; p++) add_upper_pairs(up, 2 * p, out + p * 32);
        }
    }
}

static inline void put_pair_scales(const unsigned char *restrict packed, float d, float d_min, float *restrict scale,
                                   float *restrict low)
{
    for (int j = 0; j < 16; j++) scale[j] = d * (float)(packed[j] & 15);
    for (int j = 0; j < 16; j++) low[j] = -d_min * (float)(packed[j] >> 4);
}

/* 64 bytes of bit pairs, as Q2_K has them. */
static inline void pairs_256(const unsigned char *q, uint8_t *out)
{
    for (int quarter = 0; quarter < 8; quarter++) pairs(q + quarter / 4 * 32, quarter % 4 * 2, out + quarter * 32);
}

static inline void spread_q2_k(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 84) {
        put_pair_scales(b, decode_half_at(b + 80), decode_half_at(b + 82), s.scale + i / 16, s.low + i / 16);
        pairs_256(b + 16, s.level + i);
    }
}

/* Q3_K's sixteen 6-bit scales, all at once. */
static inline void q3_k_scales(const unsigned char *packed, int8_t *out)
{
    uint32_t p[3];
    memcpy(p, packed, sizeof p);
    const uint32_t nibbles = 0x0f0f0f0fu, upper = 0x30303030u;
    const uint32_t scale[4] = {(p[0] & nibbles) | (p[2] << 4 & upper), (p[1] & nibbles) | (p[2] << 2 & upper),
                               (p[0] >> 4 & nibbles) | (p[2] & upper), (p[1] >> 4 & nibbles) | (p[2] >> 2 & upper)};
    memcpy(out, scale, sizeof scale);
    for (int j = 0; j < 16; j++) out[j] = (int8_t)(out[j] - 32);
}

static inline void spread_q3_k(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 110) {
        int8_t steps[16];
        q3_k_scales(b + 96, steps);
        put_signed_scales(steps, decode_half_at(b + 108), 4, s.scale + i / 16, s.low + i / 16);
        pairs_256(b + 32, s.level + i);
        for (int quarter = 0; quarter < 8; quarter++) add_bits(b, quarter, 2, s.level + i + (size_t)quarter * 32);
    }
}

static inline void put_256(const struct spread *s, size_t i, float scale, float low)
{
    for (size_t k = 0; k < 256; k += 32) put_32(s, i + k, scale, low);
}

static inline void spread_tq2_0(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 66) {
        float d = decode_half_at(b + 64);
        pairs_256(b, s.level + i);
        put_256(&s, i, d, -d);
    }
}

/* `count` bytes whose trits are interleaved, most significant first. */
static inline void trits(const unsigned char *restrict q, size_t count, size_t most, uint8_t *restrict out)
{
    for (size_t m = 0; m < count; m++) {
        unsigned rest = q[m];
        for (size_t r = 0; r < most; r++) {
            out[r * count + m] = (uint8_t)(rest * 3 >> 8);
            rest = rest * 3 & 255;
        }
    }
}

static inline void spread_tq1_0(const unsigned char *b, const struct spread *to, size_t n)
{
    const struct spread s = *to;
    for (size_t i = 0; i < n; i += 256, b += 54) {
        float d = decode_half_at(b + 52);
        trits(b, 32, 5, s.level + i);
        trits(b + 32, 16, 5, s.level + i + 160);
        trits(b + 48, 4, 4, s.level + i + 240);
        put_256(&s, i, d, -d);
    }
}

/* ------------------------------------------------------------------------------------------------- all formats */

typedef void spread_blocks(const unsigned char *blocks, const struct spread *, size_t n);

static spread_blocks *spread_of(enum quant_type type)
{
    static spread_blocks *const spreads[] = {
        [QUANT_Q4_0] = spread_q4_0,       [QUANT_Q4_1] = spread_q4_1,     [QUANT_Q5_0] = spread_q5_0,
        [QUANT_Q5_1] = spread_q5_1,       [QUANT_Q8_0] = spread_q8_0,     [QUANT_Q2_K] = spread_q2_k,
        [QUANT_Q3_K] = spread_q3_k,       [QUANT_Q4_K] = spread_q4_k,     [QUANT_Q5_K] = spread_q5_k,
        [QUANT_Q6_K] = spread_q6_k,       [QUANT_IQ1_S] = spread_iq1_s,   [QUANT_IQ1_M] = spread_iq1_m,
        [QUANT_IQ2_XXS] = spread_iq2_xxs, [QUANT_IQ2_XS] = spread_iq2_xs, [QUANT_IQ2_S] = spread_iq2_s,
        [QUANT_IQ3_XXS] = spread_iq3_xxs, [QUANT_IQ3_S] = spread_iq3_s,   [QUANT_IQ4_NL] = spread_iq4_nl,
        [QUANT_IQ4_XS] = spread_iq4_xs,   [QUANT_MXFP4] = spread_mxfp4,   [QUANT_TQ1_0] = spread_tq1_0,
        [QUANT_TQ2_0] = spread_tq2_0,
    };
    return (size_t)type < sizeof spreads / sizeof *spreads ? spreads[type] : NULL;
}

static bool spreads(const struct quant_format *format)
{
    return spread_of(format->type) != NULL;
}

/* What the row is padded with counts nothing. */
static void spread_row(const struct quant_format *format, const void *blocks, size_t n, const struct spread *s)
{
    for (size_t i = n; i < DOT8_PADDED(n); i++) s->level[i] = 0;
    for (size_t i = n / 16; i < DOT8_PADDED(n) / 16; i++) s->scale[i] = s->low[i] = 0;
    spread_of(format->type)(blocks, s, n);
}

#endif
