/* SPDX-License-Identifier: MIT
 *
 * Two bits through codebooks of eight magnitudes (8, 25, 43) with signs apart; weight = d / 8 * (2 * scale + 1) *
 * level. IQ2_XXS: half d; for each 32: four bytes of entries, u32 of four 7-bit signs and a 4-bit scale on top IQ2_XS:
 * half d; 32 u16 of 9-bit entry and 7-bit signs; 8 bytes of scales, a nibble for each 16 IQ2_S:   half d; 32 bytes of
 * entries, 32 bytes of signs, 8 bytes of upper entry bits (two for each 8), 8 bytes of scales as in IQ2_XS
 */
#include "quant/fit.h"
#include "quant/iq_fit.h"

#include <assert.h>
#include <string.h>

enum { XXS_BYTES = 66, XS_BYTES = 74, S_BYTES = 82 };
enum { XS_SCALES = 66, S_SIGNS = 34, S_UPPER = 66, S_SCALES = 74 };
static_assert(2 + SUPER / 4 == XXS_BYTES && XS_SCALES + 8 == XS_BYTES && S_SCALES + 8 == S_BYTES, "IQ2 blocks");

static void decode_8(const struct codebook *book, unsigned entry, unsigned signs, float step, float *out)
{
    for (uint32_t i = 0; i < 8; i++) {
        float v = step * (float)codebook_level(book, entry, i);
        out[i] = signs >> i & 1 ? -v : v;
    }
}

static float step_of(float d, unsigned scale)
{
    return d * (0.5f + (float)scale) * 0.25f;
}

static void xxs_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += XXS_BYTES)
        for (size_t sub = 0; sub < 8; sub++) {
            const uint8_t *q = b + 2 + sub * 8;
            uint32_t rest = (uint32_t)q[4] | (uint32_t)q[5] << 8 | (uint32_t)q[6] << 16 | (uint32_t)q[7] << 24;
            float step = step_of(half_at(b), rest >> 28);
            for (size_t k = 0; k < 4; k++)
                decode_8(&codebook_iq2_xxs, q[k], iq_even_signs(rest >> (7 * k) & 127), step,
                         out + i + sub * 32 + k * 8);
        }
}

static void xs_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += XS_BYTES)
        for (size_t k = 0; k < SUPER / 8; k++) {
            unsigned q = b[2 + 2 * k] | (unsigned)b[3 + 2 * k] << 8;
            float step = step_of(half_at(b), bits_at(b[XS_SCALES + k / 4], k / 2 % 2 * 4, 4));
            decode_8(&codebook_iq2_xs, q & 511, iq_even_signs(q >> 9), step, out + i + k * 8);
        }
}

static void s_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += S_BYTES)
        for (size_t k = 0; k < SUPER / 8; k++) {
            unsigned entry = b[2 + k] | bits_at(b[S_UPPER + k / 4], k % 4 * 2, 2) << 8;
            float step = step_of(half_at(b), bits_at(b[S_SCALES + k / 4], k / 2 % 2 * 4, 4));
            decode_8(&codebook_iq2_s, entry, b[S_SIGNS + k], step, out + i + k * 8);
        }
}

static void fit(const float *in, const float *importance, const struct iq_shape *shape, struct iq_block *k)
{
    float x[SUPER], w[SUPER];
    fit_clean(in, importance, x, w, SUPER);
    iq_fit(x, w, shape, k);
}

static void xxs_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct iq_shape shape = {
        .book = &codebook_iq2_xxs, .sub = 32, .signs = IQ_SIGNS_EVEN, .scale_most = 15, .unit = 0.125f};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += XXS_BYTES) {
        struct iq_block k;
        fit(in + i, importance_at(importance, i), &shape, &k);
        half_put(b, k.d);
        for (size_t sub = 0; sub < 8; sub++) {
            uint8_t *q = b + 2 + sub * 8;
            uint32_t rest = (uint32_t)k.scale[sub] << 28;
            for (size_t j = 0; j < 4; j++) {
                q[j] = (uint8_t)k.code[sub * 4 + j];
                rest |= (k.signs[sub * 4 + j] & 127u) << (7 * j);
            }
            for (size_t j = 0; j < 4; j++) q[4 + j] = (uint8_t)(rest >> (8 * j));
        }
    }
}

static void put_scales(uint8_t *scales, const uint8_t *scale)
{
    for (size_t j = 0; j < 8; j++) scales[j] = (uint8_t)(scale[2 * j] | scale[2 * j + 1] << 4);
}

static void xs_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct iq_shape shape = {
        .book = &codebook_iq2_xs, .sub = 16, .signs = IQ_SIGNS_EVEN, .scale_most = 15, .unit = 0.125f};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += XS_BYTES) {
        struct iq_block k;
        fit(in + i, importance_at(importance, i), &shape, &k);
        half_put(b, k.d);
        for (size_t j = 0; j < SUPER / 8; j++) {
            unsigned q = k.code[j] | (k.signs[j] & 127u) << 9;
            b[2 + 2 * j] = (uint8_t)q;
            b[3 + 2 * j] = (uint8_t)(q >> 8);
        }
        put_scales(b + XS_SCALES, k.scale);
    }
}

static void s_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct iq_shape shape = {
        .book = &codebook_iq2_s, .sub = 16, .signs = IQ_SIGNS_FREE, .scale_most = 15, .unit = 0.125f};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += S_BYTES) {
        struct iq_block k;
        fit(in + i, importance_at(importance, i), &shape, &k);
        memset(b, 0, S_BYTES);
        half_put(b, k.d);
        memcpy(b + S_SIGNS, k.signs, sizeof k.signs);
        for (size_t j = 0; j < SUPER / 8; j++) {
            b[2 + j] = (uint8_t)k.code[j];
            b[S_UPPER + j / 4] |= (uint8_t)((k.code[j] >> 8) << (j % 4 * 2));
        }
        put_scales(b + S_SCALES, k.scale);
    }
}

const struct quant_format quant_format_iq2_xxs = {QUANT_IQ2_XXS, "IQ2_XXS", SUPER, XXS_BYTES, xxs_decode, xxs_encode};
const struct quant_format quant_format_iq2_xs = {QUANT_IQ2_XS, "IQ2_XS", SUPER, XS_BYTES, xs_decode, xs_encode};
const struct quant_format quant_format_iq2_s = {QUANT_IQ2_S, "IQ2_S", SUPER, S_BYTES, s_decode, s_encode};
