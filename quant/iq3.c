/* SPDX-License-Identifier: MIT
 *
 * Three bits through codebooks of four magnitudes with signs apart, two entries for each 8 weights.
 *     IQ3_XXS: half d; 64 bytes of entries; for each 32 a u32 of four 7-bit signs and a 4-bit scale on top;
 *              weight = d / 4 * (2 * scale + 1) * level
 *     IQ3_S:   half d; 64 bytes of entries, 8 bytes of their ninth bits, 32 bytes of signs, 4 bytes of scales (a nibble
 *              for each 32); weight = d * (2 * scale + 1) * level
 */
#include "quant/fit.h"
#include "quant/iq_fit.h"

#include <assert.h>
#include <string.h>

enum { XXS_BYTES = 98, S_BYTES = 110 };
enum { ENTRIES = 2, XXS_SIGNS = 66, S_NINTHS = 66, S_SIGNS = 74, S_SCALES = 106 };
static_assert(XXS_SIGNS + 32 == XXS_BYTES && S_SIGNS + 32 == S_SCALES && S_SCALES + 4 == S_BYTES, "IQ3 blocks");

static void decode_4(const struct codebook *book, unsigned entry, unsigned signs, float step, float *out)
{
    for (uint32_t i = 0; i < 4; i++) {
        float v = step * (float)codebook_level(book, entry, i);
        out[i] = signs >> i & 1 ? -v : v;
    }
}

static uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void xxs_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += XXS_BYTES)
        for (size_t k = 0; k < SUPER / 4; k++) {
            uint32_t rest = load_u32(b + XXS_SIGNS + k / 8 * 4);
            float step = half_at(b) * (0.5f + (float)(rest >> 28)) * 0.5f;
            unsigned signs = bits_at(iq_even_signs(rest >> (k / 2 % 4 * 7) & 127), k % 2 * 4, 4);
            decode_4(&codebook_iq3_xxs, b[ENTRIES + k], signs, step, out + i + k * 4);
        }
}

static void s_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += S_BYTES)
        for (size_t k = 0; k < SUPER / 4; k++) {
            unsigned entry = b[ENTRIES + k] | bits_at(b[S_NINTHS + k / 8], k % 8, 1) << 8;
            unsigned scale = bits_at(b[S_SCALES + k / 16], k / 8 % 2 * 4, 4);
            float step = half_at(b) * (float)(1 + 2 * scale);
            decode_4(&codebook_iq3_s, entry, bits_at(b[S_SIGNS + k / 2], k % 2 * 4, 4), step, out + i + k * 4);
        }
}

static void xxs_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct iq_shape shape = {
        .book = &codebook_iq3_xxs, .sub = 32, .signs = IQ_SIGNS_EVEN, .scale_most = 15, .unit = 0.25f};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += XXS_BYTES) {
        float x[SUPER], w[SUPER];
        struct iq_block k;
        fit_clean(in + i, importance_at(importance, i), x, w, SUPER);
        iq_fit(x, w, &shape, &k);
        half_put(b, k.d);
        for (size_t j = 0; j < SUPER / 4; j++) b[ENTRIES + j] = (uint8_t)k.code[j];
        for (size_t sub = 0; sub < 8; sub++) {
            uint32_t rest = (uint32_t)k.scale[sub] << 28;
            for (size_t j = 0; j < 4; j++) rest |= (k.signs[sub * 4 + j] & 127u) << (7 * j);
            for (size_t j = 0; j < 4; j++) b[XXS_SIGNS + sub * 4 + j] = (uint8_t)(rest >> (8 * j));
        }
    }
}

static void s_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct iq_shape shape = {
        .book = &codebook_iq3_s, .sub = 32, .signs = IQ_SIGNS_FREE, .scale_most = 15, .unit = 1};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += S_BYTES) {
        float x[SUPER], w[SUPER];
        struct iq_block k;
        fit_clean(in + i, importance_at(importance, i), x, w, SUPER);
        iq_fit(x, w, &shape, &k);
        memset(b, 0, S_BYTES);
        half_put(b, k.d);
        memcpy(b + S_SIGNS, k.signs, sizeof k.signs);
        for (size_t j = 0; j < SUPER / 4; j++) {
            b[ENTRIES + j] = (uint8_t)k.code[j];
            b[S_NINTHS + j / 8] |= (uint8_t)((k.code[j] >> 8) << (j % 8));
        }
        for (size_t j = 0; j < 4; j++) b[S_SCALES + j] = (uint8_t)(k.scale[2 * j] | k.scale[2 * j + 1] << 4);
    }
}

const struct quant_format quant_format_iq3_xxs = {QUANT_IQ3_XXS, "IQ3_XXS", SUPER, XXS_BYTES, xxs_decode, xxs_encode};
const struct quant_format quant_format_iq3_s = {QUANT_IQ3_S, "IQ3_S", SUPER, S_BYTES, s_decode, s_encode};
