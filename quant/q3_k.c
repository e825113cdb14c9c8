/* SPDX-License-Identifier: MIT
 *
 * Q3_K: 256 weights as 32 bytes of third bits, 64 bytes of bit pairs, 12 bytes of 6-bit scales (16 subs of 16), half d;
 * weight = d * (scale - 32) * (pair + 4 * third bit - 4). Pairs lie as in Q2_K; the third bit of half h, quarter p is
 * bit 4h + p of byte j. Scale s has its low nibble in byte s % 8 (low for s < 8) and its upper two bits at bit
 * 2 * (s / 4) of byte 8 + s % 4.
 */
#include "quant/fit.h"
#include "quant/k_super.h"

#include <assert.h>
#include <string.h>

enum { LEVELS = 32, SCALES = 96, STEP = 108, BYTES = 110 };
static_assert(LEVELS + SUPER / 4 == SCALES && SCALES + 12 == STEP && STEP + 2 == BYTES, "a Q3_K block");

static int scale_at(const uint8_t *s, size_t sub)
{
    int low = sub < 8 ? s[sub] & 15 : s[sub - 8] >> 4;
    return (low | (s[8 + sub % 4] >> (sub / 4 * 2) & 3) << 4) - 32;
}

static void decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += BYTES) {
        float d = half_at(b + STEP);
        for (size_t sub = 0; sub < 16; sub++) {
            float step = d * (float)scale_at(b + SCALES, sub);
            const uint8_t *third = b + sub % 2 * 16, *q = b + LEVELS + sub / 8 * 32 + sub % 2 * 16;
            unsigned shift = sub / 2 % 4 * 2, bit = (unsigned)(sub / 2);
            for (size_t j = 0; j < 16; j++) {
                int level = (q[j] >> shift & 3) + 4 * (third[j] >> bit & 1) - 4;
                out[i + sub * 16 + j] = step * (float)level;
            }
        }
    }
}

static void encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct k_step_shape shape = {.scale_least = -32, .scale_most = 31, .level_least = -4, .level_most = 3};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += BYTES) {
        float x[SUPER], w[SUPER];
        uint8_t level[SUPER];
        struct k_step k;
        fit_clean(in + i, importance_at(importance, i), x, w, SUPER);
        k_step_fit(x, w, &shape, &k);
        memset(b, 0, BYTES);
        for (size_t j = 0; j < SUPER; j++) {
            level[j] = (uint8_t)(k.level[j] + 4);
            b[j % 32] |= (uint8_t)((level[j] >> 2) << (j / 32));
        }
        k_pairs_put(b + LEVELS, level);
        for (size_t sub = 0; sub < 16; sub++) {
            unsigned s = (unsigned)(k.scale[sub] + 32);
            b[SCALES + sub % 8] |= (uint8_t)((s & 15) << (sub / 8 * 4));
            b[SCALES + 8 + sub % 4] |= (uint8_t)((s >> 4) << (sub / 4 * 2));
        }
        half_put(b + STEP, k.d);
    }
}

const struct quant_format quant_format_q3_k = {QUANT_Q3_K, "Q3_K", SUPER, BYTES, decode, encode};
