/* SPDX-License-Identifier: MIT
 *
 * Four bits through a table of 16 uneven values (weight = step * value[nibble]); byte j of a 32 holds weight j low and
 * weight j + 16 high.
 *     IQ4_NL: 32 weights: half d, 16 bytes of nibbles; step = d
 *     IQ4_XS: 256 weights: half d, u16 upper scale bits, 4 bytes of low scale nibbles, 128 bytes of nibbles;
 *             step of each 32 = d * (scale - 32)
 * The values are llama.cpp's kvalues_iq4nl.
 */
#include "quant/fit.h"
#include "quant/formats.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { LEN = 32, NL_BYTES = 2 + 16 };
enum { UPPER = 2, LOWER = 4, LEVELS = 8, XS_BYTES = 136, SUBS = SUPER / LEN };
static_assert(NL_BYTES == 18 && LEVELS + SUPER / 2 == XS_BYTES, "IQ4 blocks");

static const int8_t values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void decode_32(const uint8_t *nibbles, float step, float *out)
{
    for (size_t j = 0; j < 16; j++) {
        out[j] = step * values[nibbles[j] & 15];
        out[j + 16] = step * values[nibbles[j] >> 4];
    }
}

/* The nearest value's index. */
static uint8_t nearest(float v)
{
    unsigned at = 0;
    for (unsigned jump = 8; jump; jump /= 2)
        if (v * 2 > (float)(values[at + jump - 1] + values[at + jump])) at += jump;
    return (uint8_t)at;
}

/* Nibbles of 32 weights for a fixed step; returns the weighted squared error. */
static float choose_32(const float *x, const float *w, float step, uint8_t *level)
{
    float inverse = step != 0 ? 1 / step : 0, error = 0;
    if (!isfinite(inverse)) inverse = 0;
    for (size_t j = 0; j < LEN; j++) {
        level[j] = nearest(x[j] * inverse);
        float e = x[j] - step * values[level[j]];
        error += w[j] * e * e;
    }
    return error;
}

static float best_step(const float *x, const float *w, const uint8_t *level)
{
    float xv = 0, vv = 0;
    for (size_t j = 0; j < LEN; j++) {
        float v = values[level[j]];
        xv += w[j] * x[j] * v;
        vv += w[j] * v * v;
    }
    return vv > 0 ? xv / vv : 0;
}

/* The step of the least error: starts that stretch the largest weight over either end of the table, each polished. */
static float fit_32(const float *x, const float *w)
{
    float most = 0, best = 0, least = INFINITY;
    for (size_t j = 0; j < LEN; j++)
        if (fabsf(x[j]) > fabsf(most)) most = x[j];
    for (int start = 0; start < 18 && most != 0; start++) {
        float end = start % 2 ? values[0] : values[15];
        float step = most / (end * (1 + 0.06f * (float)(start / 2 - 4)));
        for (int polish = 0; polish < 3 && step != 0; polish++) {
            uint8_t level[LEN];
            float error = choose_32(x, w, step, level);
            if (error < least) {
                least = error;
                best = step;
            }
            step = best_step(x, w, level);
        }
    }
    return best;
}

static void put_32(uint8_t *nibbles, const uint8_t *level)
{
    for (size_t j = 0; j < 16; j++) nibbles[j] = (uint8_t)(level[j] | level[j + 16] << 4);
}

static void nl_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += NL_BYTES) decode_32(b + 2, half_at(b), out + i);
}

static void nl_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += NL_BYTES) {
        float x[LEN], w[LEN];
        uint8_t level[LEN];
        fit_clean(in + i, importance_at(importance, i), x, w, LEN);
        choose_32(x, w, half_put(b, fit_32(x, w)), level);
        put_32(b + 2, level);
    }
}

static void xs_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += XS_BYTES) {
        float d = half_at(b);
        for (size_t sub = 0; sub < SUBS; sub++) {
            int low = b[LOWER + sub / 2] >> (sub % 2 * 4) & 15, up = b[UPPER + sub / 4] >> (sub % 4 * 2) & 3;
            decode_32(b + LEVELS + sub * 16, d * (float)((low | up << 4) - 32), out + i + sub * LEN);
        }
    }
}

struct xs_block {
    float d;
    int scale[SUBS]; /* -32..31 */
    uint8_t level[SUPER];
};

/* Each 32's whole-number scale, tried around its own step; returns the error. */
static float xs_choose(const float *x, const float *w, const float *want, struct xs_block *k)
{
    float error = 0;
    for (size_t sub = 0; sub < SUBS; sub++) {
        int scale = k->d != 0 ? fit_round(want[sub] / k->d, -32, 31) : 0;
        float least = INFINITY;
        for (int c = scale - 1; c <= scale + 1; c++) {
            uint8_t level[LEN];
            if (c < -32 || c > 31) continue;
            float e = choose_32(x + sub * LEN, w + sub * LEN, k->d * (float)c, level);
            if (!(e < least)) continue;
            least = e;
            k->scale[sub] = c;
            memcpy(k->level + sub * LEN, level, LEN);
        }
        error += least;
    }
    return error;
}

/* d anew for the chosen scales and nibbles, least squares. */
static float xs_solve(const float *x, const float *w, const struct xs_block *k)
{
    double av = 0, aa = 0;
    for (size_t j = 0; j < SUPER; j++) {
        double a = (double)k->scale[j / LEN] * values[k->level[j]];
        av += w[j] * a * (double)x[j];
        aa += w[j] * a * a;
    }
    return aa > 0 ? (float)(av / aa) : 0;
}

static void xs_fit(const float *x, const float *w, struct xs_block *out)
{
    float want[SUBS], most = 0, least = INFINITY;
    for (size_t sub = 0; sub < SUBS; sub++) {
        want[sub] = fit_32(x + sub * LEN, w + sub * LEN);
        if (fabsf(want[sub]) > fabsf(most)) most = want[sub];
    }
    struct xs_block k = {.d = most / -32};
    for (int round = 0; round < 3; round++) {
        k.d = quant_f16_to_f32(quant_f32_to_f16(k.d));
        float error = xs_choose(x, w, want, &k);
        if (error < least) {
            least = error;
            *out = k;
        }
        k.d = xs_solve(x, w, &k);
    }
}

static void xs_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += XS_BYTES) {
        float x[SUPER], w[SUPER];
        struct xs_block k;
        fit_clean(in + i, importance_at(importance, i), x, w, SUPER);
        xs_fit(x, w, &k);
        memset(b, 0, XS_BYTES);
        half_put(b, k.d);
        for (size_t sub = 0; sub < SUBS; sub++) {
            unsigned s = (unsigned)(k.scale[sub] + 32);
            b[LOWER + sub / 2] |= (uint8_t)((s & 15) << (sub % 2 * 4));
            b[UPPER + sub / 4] |= (uint8_t)((s >> 4) << (sub % 4 * 2));
            put_32(b + LEVELS + sub * 16, k.level + sub * LEN);
        }
    }
}

const struct quant_format quant_format_iq4_nl = {QUANT_IQ4_NL, "IQ4_NL", LEN, NL_BYTES, nl_decode, nl_encode};
const struct quant_format quant_format_iq4_xs = {QUANT_IQ4_XS, "IQ4_XS", SUPER, XS_BYTES, xs_decode, xs_encode};
