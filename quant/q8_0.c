/* SPDX-License-Identifier: MIT
 *
 * Q8_0: 32 weights as half d, then 32 signed bytes q; weight = d * q.
 */
#include "quant/fit.h"
#include "quant/formats.h"

#include <assert.h>
#include <math.h>
#include <string.h>

enum { LEN = 32, BYTES = 2 + 32 };
static_assert(BYTES == 34, "a Q8_0 block");

static void decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += BYTES) {
        float d = half_at(b);
        for (size_t j = 0; j < LEN; j++) out[i + j] = d * (float)(int8_t)b[2 + j];
    }
}

/* At eight bits the step that just covers the largest weight is within a few per cent of the best error; a
 * least-squares step for its levels takes most of the rest. */
static void encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += BYTES) {
        float x[LEN], w[LEN], most = 0;
        int8_t q[2][LEN];
        fit_clean(in + i, importance_at(importance, i), x, w, LEN);
        for (size_t j = 0; j < LEN; j++) most = fmaxf(most, fabsf(x[j]));
        float d = half_put(b, most / 127);
        float error = fit_levels(x, w, LEN, d, -127, 127, q[0]);
        uint8_t other[2];
        float better = half_put(other, fit_best_step(x, w, LEN, q[0]));
        bool take = fit_levels(x, w, LEN, better, -127, 127, q[1]) < error;
        if (take) memcpy(b, other, 2);
        memcpy(b + 2, q[take], LEN);
    }
}

const struct quant_format quant_format_q8_0 = {QUANT_Q8_0, "Q8_0", LEN, BYTES, decode, encode};
