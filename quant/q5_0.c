/* SPDX-License-Identifier: MIT
 *
 * Q5_0: 32 weights as half d, u32 fifth bits, 16 bytes of nibbles (byte j: weight j low, weight j + 16 high);
 * weight = d * (q - 16), q = nibble + 16 * fifth bit.
 */
#include "quant/fit.h"
#include "quant/formats.h"

#include <assert.h>
#include <string.h>

enum { LEN = 32, BYTES = 2 + 4 + 16 };
static_assert(BYTES == 22, "a Q5_0 block");

static void decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += BYTES) {
        float d = half_at(b);
        for (size_t j = 0; j < LEN; j++) {
            int nibble = j < 16 ? b[6 + j] & 15 : b[6 + j - 16] >> 4;
            int fifth = b[2 + j / 8] >> (j % 8) & 1;
            out[i + j] = d * (float)(nibble + 16 * fifth - 16);
        }
    }
}

static void encode(const float *in, const float *importance, void *blocks, size_t n)
{
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += LEN, b += BYTES) {
        float x[LEN], w[LEN];
        int8_t q[LEN];
        fit_clean(in + i, importance_at(importance, i), x, w, LEN);
        memset(b, 0, BYTES);
        float d = half_put(b, fit_step(x, w, LEN, -16, 15, q));
        fit_levels(x, w, LEN, d, -16, 15, q);
        for (size_t j = 0; j < LEN; j++) {
            int level = q[j] + 16;
            b[6 + j % 16] |= (uint8_t)((level & 15) << (j < 16 ? 0 : 4));
            b[2 + j / 8] |= (uint8_t)((level >> 4) << (j % 8));
        }
    }
}

const struct quant_format quant_format_q5_0 = {QUANT_Q5_0, "Q5_0", LEN, BYTES, decode, encode};
