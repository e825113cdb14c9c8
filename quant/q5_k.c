/* SPDX-License-Identifier: MIT
 *
 * Q5_K: Q4_K with a fifth bit: half d, half dmin, 12 bytes of scales and mins, 32 bytes of fifth bits (weight j of sub
 * s is bit s of byte j), 128 bytes of nibbles as in Q4_K; weight = d * scale * q - dmin * min.
 */
#include "quant/fit.h"
#include "quant/k_super.h"

#include <assert.h>
#include <string.h>

enum { SCALES = 4, FIFTHS = 16, LEVELS = 48, BYTES = 176 };
static_assert(FIFTHS + SUPER / 8 == LEVELS && LEVELS + SUPER / 2 == BYTES, "a Q5_K block");

static void decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += BYTES) {
        float d = half_at(b), dmin = half_at(b + 2);
        for (size_t sub = 0; sub < 8; sub++) {
            const uint8_t *q = b + LEVELS + sub / 2 * 32, *fifth = b + FIFTHS;
            unsigned scale, min, shift = sub % 2 * 4;
            k_scales_get(b + SCALES, sub, &scale, &min);
            float step = d * (float)scale, low = dmin * (float)min;
            for (size_t j = 0; j < 32; j++) {
                int level = (q[j] >> shift & 15) | (fifth[j] >> sub & 1) << 4;
                out[i + sub * 32 + j] = step * (float)level - low;
            }
        }
    }
}

static void encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct k_affine_shape shape = {.subs = 8, .scale_most = 63, .level_most = 31};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += BYTES) {
        float x[SUPER], w[SUPER];
        struct k_affine k;
        fit_clean(in + i, importance_at(importance, i), x, w, SUPER);
        k_affine_fit(x, w, &shape, &k);
        memset(b, 0, BYTES);
        half_put(b, k.d);
        half_put(b + 2, k.dmin);
        k_scales_put(b + SCALES, k.scale, k.min);
        k_nibbles_put(b + LEVELS, k.level);
        for (size_t j = 0; j < SUPER; j++) b[FIFTHS + j % 32] |= (uint8_t)((k.level[j] >> 4) << (j / 32));
    }
}

const struct quant_format quant_format_q5_k = {QUANT_Q5_K, "Q5_K", SUPER, BYTES, decode, encode};
