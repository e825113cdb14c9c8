/* SPDX-License-Identifier: MIT
 *
 * Blocks of low-bit weights to floats, for the formats people use most: the bits of quant/'s own decoders, in loops a
 * compiler vectorises. Included by kernels.c alone. The layouts are told in quant/.
 */
#ifndef LECTERN_ENGINE_CPU_DECODE_H
#define LECTERN_ENGINE_CPU_DECODE_H

#include "engine/cpu/widen.h"
#include "quant/quant.h"

static inline float decode_half_at(const unsigned char *p)
{
    uint16_t h;
    memcpy(&h, p, sizeof h);
    return widen_half(h);
}

static inline void decode_q8_0(const unsigned char *b, float *restrict out, size_t n)
{
    for (size_t i = 0; i < n; i += 32, b += 34, out += 32) {
        float d = decode_half_at(b);
        widen_16_bytes(b + 2, d, out);
        widen_16_bytes(b + 18, d, out + 16);
    }
}

static inline void decode_q4_0(const unsigned char *b, float *restrict out, size_t n)
{
    for (size_t i = 0; i < n; i += 32, b += 18, out += 32) {
        float d = decode_half_at(b);
        const unsigned char *q = b + 2;
        for (int j = 0; j < 16; j++) out[j] = d * (float)((q[j] & 15) - 8);
        for (int j = 0; j < 16; j++) out[16 + j] = d * (float)((q[j] >> 4) - 8);
    }
}

static inline void decode_q5_0(const unsigned char *b, float *restrict out, size_t n)
{
    for (size_t i = 0; i < n; i += 32, b += 22, out += 32) {
        float d = decode_half_at(b);
        const unsigned char *q = b + 6;
        uint32_t fifth;
        memcpy(&fifth, b + 2, sizeof fifth);
        for (int j = 0; j < 16; j++) out[j] = d * (float)((int)((q[j] & 15u) | (fifth >> j & 1u) << 4) - 16);
        for (int j = 0; j < 16; j++) out[16 + j] = d * (float)((int)(q[j] >> 4 | (fifth >> (16 + j) & 1u) << 4) - 16);
    }
}

/* Steps and offsets of subs 2 * pair and 2 * pair + 1 (quant/k_super.h has the packing). */
static inline void decode_k_scales(const unsigned char *s, int pair, float d, float d_min, float step[2], float low[2])
{
    for (int half = 0; half < 2; half++) {
        int j = pair * 2 + half;
        unsigned scale = j < 4 ? s[j] & 63u : (s[j + 4] & 15u) | (unsigned)(s[j - 4] >> 6) << 4;
        unsigned least = j < 4 ? s[j + 4] & 63u : (unsigned)(s[j + 4] >> 4) | (unsigned)(s[j] >> 6) << 4;
        step[half] = d * (float)scale;
        low[half] = d_min * (float)least;
    }
}

static inline void decode_q4_k(const unsigned char *b, float *restrict out, size_t n)
{
    for (size_t i = 0; i < n; i += 256, b += 144) {
        float d = decode_half_at(b), d_min = decode_half_at(b + 2);
        for (int pair = 0; pair < 4; pair++, out += 64) {
            const unsigned char *q = b + 16 + pair * 32;
            float step[2], low[2];
            decode_k_scales(b + 4, pair, d, d_min, step, low);
            for (int j = 0; j < 32; j++) out[j] = step[0] * (float)(q[j] & 15) - low[0];
            for (int j = 0; j < 32; j++) out[32 + j] = step[1] * (float)(q[j] >> 4) - low[1];
        }
    }
}

static inline void decode_q5_k(const unsigned char *b, float *restrict out, size_t n)
{
    for (size_t i = 0; i < n; i += 256, b += 176) {
        float d = decode_half_at(b), d_min = decode_half_at(b + 2);
        for (int pair = 0; pair < 4; pair++, out += 64) {
            const unsigned char *q = b + 48 + pair * 32, *fifth = b + 16;
            float step[2], low[2];
            decode_k_scales(b + 4, pair, d, d_min, step, low);
            for (int j = 0; j < 32; j++)
                out[j] = step[0] * (float)((q[j] & 15) | (fifth[j] >> 2 * pair & 1) << 4) - low[0];
            for (int j = 0; j < 32; j++)
                out[32 + j] = step[1] * (float)(q[j] >> 4 | (fifth[j] >> (2 * pair + 1) & 1) << 4) - low[1];
        }
    }
}

/* One quarter (32 weights) of a half block; two scales. */
static inline void decode_q6_k_quarter(const unsigned char *low, const unsigned char *up, int shift, int up_shift,
                                       const float *step, float *restrict out)
{
    int8_t level[32];
    for (int j = 0; j < 32; j++) {
        int q = (low[j] >> shift & 15) | (up[j] >> up_shift & 3) << 4;
        level[j] = (int8_t)(q - 32);
    }
    widen_16_bytes(level, step[0], out);
    widen_16_bytes(level + 16, step[1], out + 16);
}

static inline void decode_q6_k(const unsigned char *b, float *restrict out, size_t n)
{
    for (size_t i = 0; i < n; i += 256, b += 210) {
        float d = decode_half_at(b + 208);
        for (int quarter = 0; quarter < 8; quarter++, out += 32) {
            int half = quarter / 4, p = quarter % 4;
            float step[2];
            for (int j = 0; j < 2; j++) step[j] = d * (float)(int8_t)b[192 + quarter * 2 + j];
            decode_q6_k_quarter(b + half * 64 + p % 2 * 32, b + 128 + half * 32, p / 2 * 4, 2 * p, step, out);
        }
    }
}

/* As format->decode, bit for bit. */
static inline void decode_blocks(const struct quant_format *format, const void *blocks, float *out, size_t n)
{
    switch (format->type) {
    case QUANT_F16:
        widen_halves(blocks, out, n);
        break;
    case QUANT_Q4_0:
        decode_q4_0(blocks, out, n);
        break;
    case QUANT_Q5_0:
        decode_q5_0(blocks, out, n);
        break;
    case QUANT_Q8_0:
        decode_q8_0(blocks, out, n);
        break;
    case QUANT_Q4_K:
        decode_q4_k(blocks, out, n);
        break;
    case QUANT_Q5_K:
        decode_q5_k(blocks, out, n);
        break;
    case QUANT_Q6_K:
        decode_q6_k(blocks, out, n);
        break;
    default:
        format->decode(blocks, out, n);
    }
}

#endif
