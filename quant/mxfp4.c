/* SPDX-License-Identifier: MIT
 *
 * MXFP4 (OCP Microscaling 1.0): 32 weights as one exponent byte e, then 16 bytes of FP4 (E2M1) nibbles, weight j low
 * and j + 16 high of byte j; weight = 2^(e - 127) * value. The table holds doubled values, so that they are whole.
 */
#include "quant/fit.h"
#include "quant/formats.h"

#include <assert.h>
#include <math.h>

enum { LEN = 32, BYTES = 1 + 16 };
static_assert(BYTES == 17, "an MXFP4 block");

static const int8_t doubled[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static void decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += BYTES) {
        float step = ldexpf(1, b[0] - 128);
        for (size_t j = 0; j < 16; j++) {
            out[i + j] = step * doubled[b[1 + j] & 15];
            out[i + j + 16] = step * doubled[b[1 + j] >> 4];
        }
    }
}

static uint8_t nearest(float v)
{
    float size = fabsf(v);
    uint8_t at = 0;
    while (at < 7 && size * 2 > (float)(doubled[at] + doubled[at + 1])) at++;
    return (uint8_t)(at | (v < 0 && at ? 8 : 0));
}

static float choose(const float *x, const float *w, int e, uint8_t *level)
{
    float step = ldexpf(1, e - 128), inverse = ldexpf(1, 128 - e), error = 0;
    for (size_t j = 0; j < LEN; j++) {
        level[j] = nearest(x[j] * inverse);
        float off = x[j] - step * doubled[level[j]];
        error += w[j] * off * off;
    }
    return error;
}

/* The exponents around the one whose largest value just covers the largest weight. */
static void encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += BYTES) {
        float x[LEN], w[LEN], most = 0, least = INFINITY;
        int around = 0;
        fit_clean(in + i, importance_at(importance, i), x, w, LEN);
        for (size_t j = 0; j < LEN; j++) most = fmaxf(most, fabsf(x[j]));
        frexpf(most / 6, &around);
        for (int e = around + 125; e <= around + 128; e++) {
            uint8_t level[LEN];
            if (e < 1 || e > 254) continue;
            float error = choose(x, w, e, level);
            if (!(error < least)) continue;
            least = error;
            b[0] = (uint8_t)e;
            for (size_t j = 0; j < 16; j++) b[1 + j] = (uint8_t)(level[j] | level[j + 16] << 4);
        }
    }
}

const struct quant_format quant_format_mxfp4 = {QUANT_MXFP4, "MXFP4", LEN, BYTES, decode, encode};
