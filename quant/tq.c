/* SPDX-License-Identifier: MIT
 *
 * Ternary formats: 256 weights of d * {-1, 0, 1}.
 *     TQ2_0: 64 bytes of bit pairs (as Q2_K's), half d; weight = d * (pair - 1)
 *     TQ1_0: 48 + 4 bytes of five trits each (the last 4 bytes: four), half d. A byte holds ceil(t * 256 / 243) for the
 *            trits' number t, first trit most significant, so that multiplying by 3 brings them out on top one by one.
 *            Trit r of byte m: weight r * 32 + m for the first 32 bytes, 160 + r * 16 + m for the next 16, 240 + r * 4
 *            + m for the last 4.
 */
#include "quant/fit.h"
#include "quant/k_super.h"

#include <assert.h>
#include <string.h>

enum { TQ1_STEP = 52, TQ1_BYTES = 54, TQ2_STEP = 64, TQ2_BYTES = 66 };
static_assert(32 * 5 + 16 * 5 + 4 * 4 == SUPER && TQ1_STEP == 32 + 16 + 4 && TQ2_STEP == SUPER / 4, "TQ blocks");

/* A run of bytes whose trits are interleaved: trit r of byte m is weight `first` + r * bytes + m. */
static const struct {
    size_t at, bytes, first, trits;
} runs[3] = {{0, 32, 0, 5}, {32, 16, 160, 5}, {48, 4, 240, 4}};

static void tq1_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += TQ1_BYTES) {
        float d = half_at(b + TQ1_STEP);
        for (size_t run = 0; run < 3; run++)
            for (size_t m = 0; m < runs[run].bytes; m++) {
                unsigned rest = b[runs[run].at + m];
                for (size_t r = 0; r < runs[run].trits; r++) {
                    out[i + runs[run].first + r * runs[run].bytes + m] = d * (float)((int)(rest * 3 >> 8) - 1);
                    rest = rest * 3 & 255;
                }
            }
    }
}

/* Stores the step at d_at and gives levels 0..2. */
static void fit_ternary(const float *in, const float *importance, uint8_t *d_at, uint8_t *level)
{
    float x[SUPER], w[SUPER];
    int8_t q[SUPER];
    fit_clean(in, importance, x, w, SUPER);
    float d = half_put(d_at, fit_step(x, w, SUPER, -1, 1, q));
    fit_levels(x, w, SUPER, d, -1, 1, q);
    for (size_t j = 0; j < SUPER; j++) level[j] = (uint8_t)(q[j] + 1);
}

static void tq1_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks, level[SUPER];
    for (size_t i = 0; i < n; i += SUPER, b += TQ1_BYTES) {
        fit_ternary(in + i, importance_at(importance, i), b + TQ1_STEP, level);
        for (size_t run = 0; run < 3; run++)
            for (size_t m = 0; m < runs[run].bytes; m++) {
                unsigned number = 0;
                for (size_t r = 0; r < 5; r++)
                    number = number * 3 + (r < runs[run].trits ? level[runs[run].first + r * runs[run].bytes + m] : 0u);
                b[runs[run].at + m] = (uint8_t)((number * 256 + 242) / 243);
            }
    }
}

static void tq2_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += TQ2_BYTES) {
        float d = half_at(b + TQ2_STEP);
        for (size_t j = 0; j < SUPER; j++) {
            int pair = b[j / 128 * 32 + j % 32] >> (j / 32 % 4 * 2) & 3;
            out[i + j] = d * (float)(pair - 1);
        }
    }
}

static void tq2_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks, level[SUPER];
    for (size_t i = 0; i < n; i += SUPER, b += TQ2_BYTES) {
        memset(b, 0, TQ2_BYTES);
        fit_ternary(in + i, importance_at(importance, i), b + TQ2_STEP, level);
        k_pairs_put(b, level);
    }
}

const struct quant_format quant_format_tq1_0 = {QUANT_TQ1_0, "TQ1_0", SUPER, TQ1_BYTES, tq1_decode, tq1_encode};
const struct quant_format quant_format_tq2_0 = {QUANT_TQ2_0, "TQ2_0", SUPER, TQ2_BYTES, tq2_decode, tq2_encode};
