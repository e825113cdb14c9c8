/* SPDX-License-Identifier: MIT
 *
 * Q2_K: 256 weights as 16 bytes of scale (low nibble) and min (high nibble), one for each sub of 16, 64 bytes of bit
 * pairs, half d, half dmin; weight = d * scale * q - dmin * min. In each half of 128 weights, quarter p (32 weights) is
 * at bit 2p of the half's 32 bytes.
 */
#include "quant/fit.h"
#include "quant/k_super.h"

#include <assert.h>
#include <string.h>

enum { LEVELS = 16, STEP = 80, BYTES = 84 };
static_assert(LEVELS + SUPER / 4 == STEP && STEP + 4 == BYTES, "a Q2_K block");

static void decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += BYTES) {
        float d = half_at(b + STEP), dmin = half_at(b + STEP + 2);
        for (size_t sub = 0; sub < 16; sub++) {
            float step = d * (float)(b[sub] & 15), low = dmin * (float)(b[sub] >> 4);
            const uint8_t *q = b + LEVELS + sub / 8 * 32 + sub % 2 * 16;
            unsigned shift = sub / 2 % 4 * 2;
            for (size_t j = 0; j < 16; j++) out[i + sub * 16 + j] = step * (float)(q[j] >> shift & 3) - low;
        }
    }
}

static void encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct k_affine_shape shape = {.subs = 16, .scale_most = 15, .level_most = 3};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += BYTES) {
        float x[SUPER], w[SUPER];
        struct k_affine k;
        fit_clean(in + i, importance_at(importance, i), x, w, SUPER);
        k_affine_fit(x, w, &shape, &k);
        memset(b, 0, BYTES);
        for (size_t sub = 0; sub < 16; sub++) b[sub] = (uint8_t)(k.scale[sub] | k.min[sub] << 4);
        k_pairs_put(b + LEVELS, k.level);
        half_put(b + STEP, k.d);
        half_put(b + STEP + 2, k.dmin);
    }
}

const struct quant_format quant_format_q2_k = {QUANT_Q2_K, "Q2_K", SUPER, BYTES, decode, encode};
