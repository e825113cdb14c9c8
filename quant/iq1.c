/* SPDX-License-Identifier: MIT
 *
 * One and a half bits: a codebook of eight trits (-1, 0, 1), shifted up or down by an eighth;
 * weight = d * (2 * scale + 1) * (trit +- 1/8).
 *     IQ1_S: half d; 32 bytes of entries; for each 32 a u16: four times three upper entry bits, a 3-bit scale at bit
 * 12, bit 15 = shift down IQ1_M: 32 bytes of entries; 16 bytes, a nibble for each 8: three upper entry bits, bit 3 =
 * shift down; four u16, each with four 3-bit scales (for each 16) and, on top, a nibble of the half d, the lowest first
 */
#include "quant/fit.h"
#include "quant/iq_fit.h"

#include <assert.h>
#include <string.h>

enum { S_ENTRIES = 2, S_UPPER = 34, S_BYTES = 50, M_UPPER = 32, M_SCALES = 48, M_BYTES = 56 };
static_assert(S_UPPER + 16 == S_BYTES && M_UPPER + 16 == M_SCALES && M_SCALES + 8 == M_BYTES, "IQ1 blocks");

static const float shift = 0.125f;

static void decode_8(unsigned entry, float step, bool down, float *out)
{
    for (uint32_t i = 0; i < 8; i++)
        out[i] = step * ((float)codebook_level(&codebook_iq1, entry, i) + (down ? -shift : shift));
}

static unsigned load_u16(const uint8_t *p)
{
    return p[0] | (unsigned)p[1] << 8;
}

static void put_u16(uint8_t *p, unsigned v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static void s_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += S_BYTES)
        for (size_t k = 0; k < SUPER / 8; k++) {
            unsigned upper = load_u16(b + S_UPPER + k / 4 * 2);
            float step = half_at(b) * (float)(2 * (upper >> 12 & 7) + 1);
            unsigned entry = b[S_ENTRIES + k] | (upper >> (k % 4 * 3) & 7) << 8;
            decode_8(entry, step, upper >> 15, out + i + k * 8);
        }
}

static void m_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += M_BYTES) {
        unsigned bits = 0;
        for (size_t j = 0; j < 4; j++) bits |= load_u16(b + M_SCALES + 2 * j) >> 12 << (4 * j);
        float d = quant_f16_to_f32((uint16_t)bits);
        for (size_t k = 0; k < SUPER / 8; k++) {
            unsigned upper = bits_at(b[M_UPPER + k / 2], k % 2 * 4, 4);
            unsigned scale = load_u16(b + M_SCALES + k / 8 * 2) >> (k / 2 % 4 * 3) & 7;
            decode_8(b[k] | (upper & 7) << 8, d * (float)(2 * scale + 1), upper >> 3, out + i + k * 8);
        }
    }
}

static void s_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct iq_shape shape = {.book = &codebook_iq1,
                                          .sub = 32,
                                          .signs = IQ_SIGNS_NONE,
                                          .scale_most = 7,
                                          .unit = 1,
                                          .shift = 0.125f,
                                          .shift_group = 32};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += S_BYTES) {
        float x[SUPER], w[SUPER];
        struct iq_block k;
        fit_clean(in + i, importance_at(importance, i), x, w, SUPER);
        iq_fit(x, w, &shape, &k);
        half_put(b, k.d);
        for (size_t j = 0; j < SUPER / 8; j++) b[S_ENTRIES + j] = (uint8_t)k.code[j];
        for (size_t sub = 0; sub < 8; sub++) {
            unsigned upper = (unsigned)k.scale[sub] << 12 | (k.down[sub * 4] ? 1u << 15 : 0);
            for (size_t j = 0; j < 4; j++) upper |= (unsigned)(k.code[sub * 4 + j] >> 8) << (3 * j);
            put_u16(b + S_UPPER + sub * 2, upper);
        }
    }
}

static void m_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    static const struct iq_shape shape = {.book = &codebook_iq1,
                                          .sub = 16,
                                          .signs = IQ_SIGNS_NONE,
                                          .scale_most = 7,
                                          .unit = 1,
                                          .shift = 0.125f,
                                          .shift_group = 8};
    uint8_t *b = blocks;
    for (size_t i = 0; i < n; i += SUPER, b += M_BYTES) {
        float x[SUPER], w[SUPER];
        struct iq_block k;
        fit_clean(in + i, importance_at(importance, i), x, w, SUPER);
        iq_fit(x, w, &shape, &k);
        memset(b, 0, M_BYTES);
        for (size_t j = 0; j < SUPER / 8; j++) {
            unsigned upper = (unsigned)(k.code[j] >> 8) | (k.down[j] ? 8 : 0);
            b[j] = (uint8_t)k.code[j];
            b[M_UPPER + j / 2] |= (uint8_t)(upper << (j % 2 * 4));
        }
        unsigned d = quant_f32_to_f16(k.d);
        for (size_t j = 0; j < 4; j++) {
            unsigned bits = (d >> (4 * j) & 15) << 12;
            for (size_t s = 0; s < 4; s++) bits |= (unsigned)k.scale[4 * j + s] << (3 * s);
            put_u16(b + M_SCALES + 2 * j, bits);
        }
    }
}

const struct quant_format quant_format_iq1_s = {QUANT_IQ1_S, "IQ1_S", SUPER, S_BYTES, s_decode, s_encode};
const struct quant_format quant_format_iq1_m = {QUANT_IQ1_M, "IQ1_M", SUPER, M_BYTES, m_decode, m_encode};
