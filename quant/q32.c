/* SPDX-License-Identifier: MIT
 *
 * The old formats with blocks of 32: Q4_0, Q4_1, Q5_0, Q5_1. A block is half d, in the _1 formats half m, in the Q5
 * formats u32 fifth bits, then 16 bytes of nibbles (byte j: weight j low, weight j + 16 high).
 *     Q4_0: d * (q - 8)    Q5_0: d * (q - 16)    Q4_1, Q5_1: d * q + m        q = nibble (+ 16 * fifth bit)
 */
#include "quant/fit.h"
#include "quant/formats.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { LEN = 32, NIBBLES = 16 };
enum { Q4_0_BYTES = 2 + NIBBLES, Q4_1_BYTES = 4 + NIBBLES, Q5_0_BYTES = 6 + NIBBLES, Q5_1_BYTES = 8 + NIBBLES };
static_assert(Q4_0_BYTES == 18 && Q4_1_BYTES == 20 && Q5_0_BYTES == 22 && Q5_1_BYTES == 24, "blocks of 32");

static int nibble_at(const uint8_t *nibbles, size_t j)
{
    return j < 16 ? nibbles[j] & 15 : nibbles[j - 16] >> 4;
}

static int fifth_at(const uint8_t *bits, size_t j)
{
    return bits[j / 8] >> (j % 8) & 1;
}

static void put_nibbles(uint8_t *nibbles, const uint8_t *level)
{
    for (size_t j = 0; j < NIBBLES; j++) nibbles[j] = (uint8_t)((level[j] & 15) | (level[j + 16] & 15) << 4);
}

static void put_fifths(uint8_t *bits, const uint8_t *level)
{
    memset(bits, 0, 4);
    for (size_t j = 0; j < LEN; j++) bits[j / 8] |= (uint8_t)((level[j] >> 4) << (j % 8));
}

/* Stores the step and gives the levels, counted from 0, for levels -middle..middle - 1. */
static void encode_step(const float *in, const float *importance, int middle, uint8_t *d_at, uint8_t *level)
{
    float x[LEN], w[LEN];
    int8_t q[LEN];
    fit_clean(in, importance, x, w, LEN);
    float d = half_put(d_at, fit_step(x, w, LEN, -middle, middle - 1, q));
    fit_levels(x, w, LEN, d, -middle, middle - 1, q);
    for (size_t j = 0; j < LEN; j++) level[j] = (uint8_t)(q[j] + middle);
}

/* Stores d and m and gives the levels 0..most. */
static void encode_line(const float *in, const float *importance, int most, uint8_t *d_at, uint8_t *level)
{
    const struct fit_line zero = {0, 0};
    float x[LEN], w[LEN];
    uint8_t none[LEN];
    fit_clean(in, importance, x, w, LEN);
    struct fit_line line = fit_affine(x, w, LEN, most, 1, level);
    line.d = half_put(d_at, line.d);
    line.m = -half_put(d_at + 2, fminf(fmaxf(-line.m, -65504), 65504));
    /* Among the least halves, rounding d and m can cost more than all the weights are worth. */
    if (fit_line_levels(x, w, LEN, line, most, level) <= fit_line_levels(x, w, LEN, zero, most, none)) return;
    memset(d_at, 0, 4);
    memset(level, 0, LEN);
}

static void q4_0_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += Q4_0_BYTES) {
        float d = half_at(b);
        for (size_t j = 0; j < LEN; j++) out[i + j] = d * (float)(nibble_at(b + 2, j) - 8);
    }
}

static void q4_0_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks, level[LEN];
    for (size_t i = 0; i < n; i += LEN, b += Q4_0_BYTES) {
        encode_step(in + i, importance_at(importance, i), 8, b, level);
        put_nibbles(b + 2, level);
    }
}

static void q4_1_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += Q4_1_BYTES) {
        float d = half_at(b), m = half_at(b + 2);
        for (size_t j = 0; j < LEN; j++) out[i + j] = d * (float)nibble_at(b + 4, j) + m;
    }
}

static void q4_1_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks, level[LEN];
    for (size_t i = 0; i < n; i += LEN, b += Q4_1_BYTES) {
        encode_line(in + i, importance_at(importance, i), 15, b, level);
        put_nibbles(b + 4, level);
    }
}

static void q5_0_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += Q5_0_BYTES) {
        float d = half_at(b);
        for (size_t j = 0; j < LEN; j++) out[i + j] = d * (float)(nibble_at(b + 6, j) + 16 * fifth_at(b + 2, j) - 16);
    }
}

static void q5_0_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks, level[LEN];
    for (size_t i = 0; i < n; i += LEN, b += Q5_0_BYTES) {
        encode_step(in + i, importance_at(importance, i), 16, b, level);
        put_fifths(b + 2, level);
        put_nibbles(b + 6, level);
    }
}

static void q5_1_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += Q5_1_BYTES) {
        float d = half_at(b), m = half_at(b + 2);
        for (size_t j = 0; j < LEN; j++) out[i + j] = d * (float)(nibble_at(b + 8, j) + 16 * fifth_at(b + 4, j)) + m;
    }
}

static void q5_1_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks, level[LEN];
    for (size_t i = 0; i < n; i += LEN, b += Q5_1_BYTES) {
        encode_line(in + i, importance_at(importance, i), 31, b, level);
        put_fifths(b + 4, level);
        put_nibbles(b + 8, level);
    }
}

const struct quant_format quant_format_q4_0 = {QUANT_Q4_0, "Q4_0", LEN, Q4_0_BYTES, q4_0_decode, q4_0_encode};
const struct quant_format quant_format_q4_1 = {QUANT_Q4_1, "Q4_1", LEN, Q4_1_BYTES, q4_1_decode, q4_1_encode};
const struct quant_format quant_format_q5_0 = {QUANT_Q5_0, "Q5_0", LEN, Q5_0_BYTES, q5_0_decode, q5_0_encode};
const struct quant_format quant_format_q5_1 = {QUANT_Q5_1, "Q5_1", LEN, Q5_1_BYTES, q5_1_decode, q5_1_encode};
