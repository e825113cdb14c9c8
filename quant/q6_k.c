/* SPDX-License-Identifier: MIT
 *
 * Q6_K: 256 weights as 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed bytes of scales (subs of 16),
 * half d; weight = d * scale * (q - 32). In each half of 128 weights, quarter p (32 weights) has its nibbles in byte
 * j + 32 * (p & 1), low for p < 2, and its upper bits at bit 2p of byte j.
 */
#include "quant/fit.h"
#include "quant/k_super.h"

#include <assert.h>
#include <string.h>

enum { UPPER = 128, SCALES = 192, STEP = 208, BYTES = 210 };
static_assert(STEP + 2 == BYTES && UPPER + SUPER / 4 == SCALES && SCALES + 16 == STEP, "a Q6_K block");

static void decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += BYTES) {
        float d = half_at(b + STEP);
        for (size_t quarter = 0; quarter < 8; quarter++) {
            size_t half = quarter / 4, p = quarter % 4;
            const uint8_t *low = b + half * 64 + p % 2 * 32, *up = b + UPPER + half * 32;
            for (size_t j = 0; j < 32; j++) {
                float step = d * (float)(int8_t)b[SCALES + quarter * 2 + j / 16];
                int level = (low[j] >> (p / 2 * 4) & 15) | (up[j] >> (2 * p) & 3) << 4;
                out[i + quarter * 32 + j] = step * (float)(level - 32);
            }
        }
    }
}

static void encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct k_step_shape shape = {
        .scale_least = -128, .scale_most = 127, .level_least = -32, .level_most = 31};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += BYTES) {
        float x[SUPER], w[SUPER];
        struct k_step k;
        fit_clean(in + i, importance_at(importance, i), x, w, SUPER);
        k_step_fit(x, w, &shape, &k);
        memset(b, 0, BYTES);
        for (size_t j = 0; j < SUPER; j++) {
            size_t half = j / 128, p = j / 32 % 4;
            unsigned level = (unsigned)(k.level[j] + 32);
            b[half * 64 + p % 2 * 32 + j % 32] |= (uint8_t)((level & 15) << (p / 2 * 4));
            b[UPPER + half * 32 + j % 32] |= (uint8_t)((level >> 4) << (2 * p));
        }
        memcpy(b + SCALES, k.scale, 16);
        half_put(b + STEP, k.d);
    }
}

const struct quant_format quant_format_q6_k = {QUANT_Q6_K, "Q6_K", SUPER, BYTES, decode, encode};
