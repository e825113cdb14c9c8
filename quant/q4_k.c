/* SPDX-License-Identifier: MIT
 *
 * Q4_K: 256 weights as half d, half dmin, 12 bytes of 6-bit scales and mins (8 subs of 32), 128 bytes of nibbles (32
 * bytes for two subs: the first low, the second high); weight = d * scale * nibble - dmin * min.
 */
#include "quant/fit.h"
#include "quant/k_super.h"

#include <assert.h>
#include <string.h>

enum { SCALES = 4, LEVELS = 16, BYTES = 2 + 2 + 12 + SUPER / 2 };
static_assert(BYTES == 144, "a Q4_K block");

static void decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += BYTES) {
        float d = half_at(b), dmin = half_at(b + 2);
        for (size_t sub = 0; sub < 8; sub++) {
            const uint8_t *q = b + LEVELS + sub / 2 * 32;
            unsigned scale, min, shift = sub % 2 * 4;
            k_scales_get(b + SCALES, sub, &scale, &min);
            float step = d * (float)scale, low = dmin * (float)min;
            for (size_t j = 0; j < 32; j++) out[i + sub * 32 + j] = step * (float)(q[j] >> shift & 15) - low;
        }
    }
}

static void encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct k_affine_shape shape = {.subs = 8, .scale_most = 63, .level_most = 15};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += BYTES) {
        float x[SUPER], w[SUPER];
        struct k_affine k;
        fit_clean(in + i, importance_at(importance, i), x, w, SUPER);
        k_affine_fit(x, w, &shape, &k);
        half_put(b, k.d);
        half_put(b + 2, k.dmin);
        k_scales_put(b + SCALES, k.scale, k.min);
        k_nibbles_put(b + LEVELS, k.level);
    }
}

const struct quant_format quant_format_q4_k = {QUANT_Q4_K, "Q4_K", SUPER, BYTES, decode, encode};
