/* SPDX-License-Identifier: MIT
 *
 * Products with activations rounded to 8 bits. Included by kernels.c alone. A row of weights is spread to bytes with a
 * scale and an offset for each 16 of them: w = scale * level + low, level 0..255, whatever its format; a token's input
 * is rounded to signed bytes with a step for each 32. Then
 *     w . x = sum over 16s of  scale * step * (level . q) + low * step * (sum of q)
 * where (level . q) is a whole number, exact in every variant. Spans are padded with zeros to a multiple of 64.
 */
#ifndef LECTERN_ENGINE_CPU_DOT8_H
#define LECTERN_ENGINE_CPU_DOT8_H

#include <float.h>
#include <math.h>

#include "engine/cpu/decode.h"
#include "engine/cpu/kernels.h"

/* ---------------------------------------------------------------------------------------------- activations */

/* An input that is not finite makes its step NaN: what comes of it is NaN, as it should be. */
static inline void round_32(const float *x, int8_t *q, float *step, float *sum)
{
    float most = 0, inverse;
    for (int i = 0; i < 32; i++) {
        float a = fabsf(x[i]);
        most = a > most ? a : most;
    }
    int bad = 0;
    for (int i = 0; i < 32; i++) bad |= !(fabsf(x[i]) <= FLT_MAX);
    inverse = bad || most < 1e-30f ? 0 : 127 / most;
    step[0] = step[1] = bad ? NAN : most < 1e-30f ? 0 : most / 127;
    for (int i = 0; i < 32; i++) {
        float v = bad ? 0 : x[i] * inverse;
        q[i] = (int8_t)(int32_t)((v + 12582912.0f) - 12582912.0f);
    }
    for (int half = 0; half < 2; half++) {
        int whole = 0;
        for (int i = 0; i < 16; i++) whole += q[half * 16 + i];
        sum[half] = step[half] * (float)whole;
    }
}

static void round_input(const float *x, size_t n, const struct rounded *out)
{
    size_t padded = DOT8_PADDED(n), i = 0;
    for (; i + 32 <= n; i += 32) round_32(x + i, out->q + i, out->step + i / 16, out->sum + i / 16);
    for (; i < padded; i += 32) {
        float rest[32] = {0};
        if (i < n) memcpy(rest, x + i, (n - i) * sizeof *x);
        round_32(rest, out->q + i, out->step + i / 16, out->sum + i / 16);
    }
}

/* -------------------------------------------------------------------------------------------------- weights */

static inline void put_32(const struct spread *s, size_t i, float scale, float low)
{
    s->scale[i / 16] = s->scale[i / 16 + 1] = scale;
    s->low[i / 16] = s->low[i / 16 + 1] = low;
}

/* Bytes may alias anything, the pointers they are stored through included: hence the small functions with restrict. */
static inline void low_nibbles(const unsigned char *restrict q, uint8_t *restrict out, int n)
{
    for (int j = 0; j < n; j++) out[j] = q[j] & 15;
}

static inline void high_nibbles(const unsigned char *restrict q, uint8_t *restrict out, int n)
{
    for (int j = 0; j < n; j++) out[j] = (uint8_t)(q[j] >> 4);
}

static inline void flip_signs(const unsigned char *restrict q, uint8_t *restrict out)
{
    for (int j = 0; j < 32; j++) out[j] = q[j] ^ 128;
}

static inline void add_fifths(const unsigned char *restrict fifth, uint8_t *restrict out)
{
    uint32_t bits;
    memcpy(&bits, fifth, sizeof bits);
    for (int j = 0; j < 32; j++) out[j] = (uint8_t)(out[j] | (bits >> j & 1) << 4);
}

/* Bit `from` of each byte becomes bit `to`. */
static inline void add_bits(const unsigned char *restrict bits, int from, int to, uint8_t *restrict out)
{
    for (int j = 0; j < 32; j++) out[j] = (uint8_t)(out[j] | (bits[j] >> from & 1) << to);
}

static inline void pairs(const unsigned char *restrict q, int shift, uint8_t *restrict out)
{
    for (int j = 0; j < 32; j++) out[j] = q[j] >> shift & 3;
}

static inline void add_upper_pairs(const unsigned char *restrict up, int shift, uint8_t *restrict out)
{
    for (int j = 0; j < 32; j++) out[j] = (uint8_t)(out[j] | (up[j] >> shift & 3) << 4);
}

static inline void spread_q8_0(const unsigned char *b, const struct spread *s, size_t n)
{
    for (size_t i = 0; i < n; i += 32, b += 34) {
        float d = decode_half_at(b);
        flip_signs(b + 2, s->level + i);
        put_32(s, i, d, -128 * d);
    }
}

static inline void spread_q4_0(const unsigned char *b, const struct spread *s, size_t n)
{
    for (size_t i = 0; i < n; i += 32, b += 18) {
        float d = decode_half_at(b);
        low_nibbles(b + 2, s->level + i, 16);
        high_nibbles(b + 2, s->level + i + 16, 16);
        put_32(s, i, d, -8 * d);
    }
}

static inline void spread_q5_0(const unsigned char *b, const struct spread *s, size_t n)
{
    for (size_t i = 0; i < n; i += 32, b += 22) {
        float d = decode_half_at(b);
        uint8_t *out = s->level + i;
        low_nibbles(b + 6, out, 16);
        high_nibbles(b + 6, out + 16, 16);
        add_fifths(b + 2, out);
        put_32(s, i, d, -16 * d);
    }
}

/* Bytes of a table of 16 signed values, as levels counted from -128. */
static inline void spread_iq4_32(const unsigned char *q, uint8_t *out)
{
    static const uint8_t levels[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};
#if defined(__AVX2__)
    const __m128i table = _mm_loadu_si128((const void *)levels), low = _mm_set1_epi8(15);
    const __m128i bytes = _mm_loadu_si128((const void *)q);
    _mm_storeu_si128((void *)out, _mm_shuffle_epi8(table, _mm_and_si128(bytes, low)));
    _mm_storeu_si128((void *)(out + 16), _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(bytes, 4), low)));
#else
    for (int j = 0; j < 16; j++) {
        out[j] = levels[q[j] & 15];
        out[j + 16] = levels[q[j] >> 4];
    }
#endif
}

static inline void spread_iq4_nl(const unsigned char *b, const struct spread *s, size_t n)
{
    for (size_t i = 0; i < n; i += 32, b += 18) {
        float d = decode_half_at(b);
        spread_iq4_32(b + 2, s->level + i);
        put_32(s, i, d, -128 * d);
    }
}

static inline void spread_iq4_xs(const unsigned char *b, const struct spread *s, size_t n)
{
    for (size_t i = 0; i < n; i += 256, b += 136) {
        float d = decode_half_at(b);
        for (size_t sub = 0; sub < 8; sub++) {
            int low = b[4 + sub / 2] >> (sub % 2 * 4) & 15, up = b[2 + sub / 4] >> (sub % 4 * 2) & 3;
            float step = d * (float)((low | up << 4) - 32);
            spread_iq4_32(b + 8 + sub * 16, s->level + i + sub * 32);
            put_32(s, i + sub * 32, step, -128 * step);
        }
    }
}

static inline void spread_q4_k(const unsigned char *b, const struct spread *s, size_t n)
{
    for (size_t i = 0; i < n; i += 256, b += 144) {
        float d = decode_half_at(b), d_min = decode_half_at(b + 2);
        for (int pair = 0; pair < 4; pair++) {
            size_t at = i + (size_t)pair * 64;
            float step[2], low[2];
            decode_k_scales(b + 4, pair, d, d_min, step, low);
            low_nibbles(b + 16 + pair * 32, s->level + at, 32);
            high_nibbles(b + 16 + pair * 32, s->level + at + 32, 32);
            put_32(s, at, step[0], -low[0]);
            put_32(s, at + 32, step[1], -low[1]);
        }
    }
}

static inline void spread_q5_k(const unsigned char *b, const struct spread *s, size_t n)
{
    for (size_t i = 0; i < n; i += 256, b += 176) {
        float d = decode_half_at(b), d_min = decode_half_at(b + 2);
        for (int pair = 0; pair < 4; pair++) {
            size_t at = i + (size_t)pair * 64;
            uint8_t *out = s->level + at;
            const unsigned char *q = b + 48 + pair * 32, *fifth = b + 16;
            float step[2], low[2];
            decode_k_scales(b + 4, pair, d, d_min, step, low);
            low_nibbles(q, out, 32);
            high_nibbles(q, out + 32, 32);
            add_bits(fifth, 2 * pair, 4, out);
            add_bits(fifth, 2 * pair + 1, 4, out + 32);
            put_32(s, at, step[0], -low[0]);
            put_32(s, at + 32, step[1], -low[1]);
        }
    }
}

static inline void spread_q6_k(const unsigned char *b, const struct spread *s, size_t n)
{
    for (size_t i = 0; i < n; i += 256, b += 210) {
        float d = decode_half_at(b + 208);
        for (int quarter = 0; quarter < 8; quarter++) {
            int half = quarter / 4, p = quarter % 4, shift = p / 2 * 4;
            const unsigned char *low = b + half * 64 + p % 2 * 32, *up = b + 128 + half * 32;
            size_t at = i + (size_t)quarter * 32;
            if (shift)
                high_nibbles(low, s->level + at, 32);
            else
                low_nibbles(low, s->level + at, 32);
            add_upper_pairs(up, 2 * p, s->level + at);
            for (size_t j = 0; j < 2; j++) {
                s->scale[at / 16 + j] = d * (float)(int8_t)b[192 + quarter * 2 + (int)j];
                s->low[at / 16 + j] = -32 * s->scale[at / 16 + j];
            }
        }
    }
}

static inline void spread_q2_k(const unsigned char *b, const struct spread *s, size_t n)
{
    for (size_t i = 0; i < n; i += 256, b += 84) {
        float d = decode_half_at(b + 80), d_min = decode_half_at(b + 82);
        for (int quarter = 0; quarter < 8; quarter++) {
            const unsigned char *q = b + 16 + quarter / 4 * 32;
            size_t at = i + (size_t)quarter * 32;
            pairs(q, quarter % 4 * 2, s->level + at);
            for (size_t j = 0; j < 2; j++) {
                unsigned char pair = b[quarter * 2 + (int)j];
                s->scale[at / 16 + j] = d * (float)(pair & 15);
                s->low[at / 16 + j] = -d_min * (float)(pair >> 4);
            }
        }
    }
}

static inline void spread_q3_k(const unsigned char *b, const struct spread *s, size_t n)
{
    for (size_t i = 0; i < n; i += 256, b += 110) {
        float d = decode_half_at(b + 108);
        const unsigned char *packed = b + 96;
        for (int quarter = 0; quarter < 8; quarter++) {
            const unsigned char *q = b + 32 + quarter / 4 * 32;
            size_t at = i + (size_t)quarter * 32;
            pairs(q, quarter % 4 * 2, s->level + at);
            add_bits(b, quarter, 2, s->level + at);
            for (int j = 0; j < 2; j++) {
                int sub = quarter * 2 + j, nibble = sub < 8 ? packed[sub] & 15 : packed[sub - 8] >> 4;
                float scale = d * (float)((nibble | (packed[8 + sub % 4] >> (sub / 4 * 2) & 3) << 4) - 32);
                s->scale[at / 16 + (size_t)j] = scale;
                s->low[at / 16 + (size_t)j] = -4 * scale;
            }
        }
    }
}

static bool spreads(const struct quant_format *format)
{
    switch (format->type) {
    case QUANT_Q8_0:
    case QUANT_Q4_0:
    case QUANT_Q5_0:
    case QUANT_IQ4_NL:
    case QUANT_IQ4_XS:
    case QUANT_Q2_K:
    case QUANT_Q3_K:
    case QUANT_Q4_K:
    case QUANT_Q5_K:
    case QUANT_Q6_K:
        return true;
    default:
        return false;
    }
}

static void spread_row(const struct quant_format *format, const void *blocks, size_t n, const struct spread *s)
{
    size_t rest = DOT8_PADDED(n) - n;
    memset(s->level + n, 0, rest);
    for (size_t i = n / 16; i < (n + rest) / 16; i++) s->scale[i] = s->low[i] = 0;
    switch (format->type) {
    case QUANT_Q8_0:
        spread_q8_0(blocks, s, n);
        break;
    case QUANT_Q4_0:
        spread_q4_0(blocks, s, n);
        break;
    case QUANT_Q5_0:
        spread_q5_0(blocks, s, n);
        break;
    case QUANT_IQ4_NL:
        spread_iq4_nl(blocks, s, n);
        break;
    case QUANT_IQ4_XS:
        spread_iq4_xs(blocks, s, n);
        break;
    case QUANT_Q2_K:
        spread_q2_k(blocks, s, n);
        break;
    case QUANT_Q3_K:
        spread_q3_k(blocks, s, n);
        break;
    case QUANT_Q4_K:
        spread_q4_k(blocks, s, n);
        break;
    case QUANT_Q5_K:
        spread_q5_k(blocks, s, n);
        break;
    case QUANT_Q6_K:
        spread_q6_k(blocks, s, n);
        break;
    default: /* see spreads */
        break;
    }
}

/* ------------------------------------------------------------------------------------------------- products */

#if defined(__AVX512VNNI__)

/* Four lanes of whole numbers for each 16 weights; their scales are spread over them. */
struct sums8 {
    __m512 products;
    __m128 offsets;
};

static inline void sums8_add(struct sums8 *a, const struct spread *w, const struct rounded *x, size_t i)
{
    const __m512i of_16 = _mm512_set_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0);
    __m512i whole =
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), _mm512_loadu_si512(w->level + i), _mm512_loadu_si512(x->q + i));
    __m128 scale = _mm_mul_ps(_mm_loadu_ps(w->scale + i / 16), _mm_loadu_ps(x->step + i / 16));
    __m512 wide = _mm512_permutexvar_ps(of_16, _mm512_castps128_ps512(scale));
    a->products = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole), wide, a->products);
    a->offsets = _mm_fmadd_ps(_mm_loadu_ps(w->low + i / 16), _mm_loadu_ps(x->sum + i / 16), a->offsets);
}

static inline float sums8_total(const struct sums8 *a)
{
    float products[16], offsets[4];
    _mm512_storeu_ps(products, a->products);
    _mm_storeu_ps(offsets, a->offsets);
    for (int half = 8; half > 0; half /= 2)
        for (int i = 0; i < half; i++) products[i] += products[i + half];
    return products[0] + ((offsets[0] + offsets[2]) + (offsets[1] + offsets[3]));
}

#elif defined(__AVX2__) && defined(__FMA__)

struct sums8 {
    __m256 products;
    __m128 offsets;
};

static inline void sums8_add(struct sums8 *a, const struct spread *w, const struct rounded *x, size_t i)
{
    for (size_t k = i; k < i + 64; k += 16) {
        __m256i level = _mm256_cvtepu8_epi16(_mm_loadu_si128((const void *)(w->level + k)));
        __m256i q = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(x->q + k)));
        __m256 whole = _mm256_cvtepi32_ps(_mm256_madd_epi16(level, q));
        a->products = _mm256_fmadd_ps(whole, _mm256_set1_ps(w->scale[k / 16] * x->step[k / 16]), a->products);
    }
    a->offsets = _mm_fmadd_ps(_mm_loadu_ps(w->low + i / 16), _mm_loadu_ps(x->sum + i / 16), a->offsets);
}

static inline float sums8_total(const struct sums8 *a)
{
    float products[8], offsets[4];
    _mm256_storeu_ps(products, a->products);
    _mm_storeu_ps(offsets, a->offsets);
    for (int half = 4; half > 0; half /= 2)
        for (int i = 0; i < half; i++) products[i] += products[i + half];
    return products[0] + ((offsets[0] + offsets[2]) + (offsets[1] + offsets[3]));
}

#else

struct sums8 {
    float products[4], offsets[4];
};

static inline void sums8_add(struct sums8 *a, const struct spread *w, const struct rounded *x, size_t i)
{
    for (size_t k = 0; k < 4; k++) {
        size_t at = i / 16 + k;
        int32_t whole = 0;
        for (size_t j = at * 16; j < at * 16 + 16; j++) whole += (int32_t)w->level[j] * x->q[j];
        a->products[k] = mul_add((float)whole, w->scale[at] * x->step[at], a->products[k]);
        a->offsets[k] = mul_add(w->low[at], x->sum[at], a->offsets[k]);
    }
}

static inline float sums8_total(const struct sums8 *a)
{
    float products = (a->products[0] + a->products[2]) + (a->products[1] + a->products[3]);
    return products + ((a->offsets[0] + a->offsets[2]) + (a->offsets[1] + a->offsets[3]));
}

#endif

/* Four rows of one token at a time: what is loaded of the token serves four. The last rows are repeated at the edge. */
static void dot8(const struct dot8_params *p)
{
    for (uint32_t row = 0; row < p->rows; row += 4) {
        uint32_t rows = p->rows - row < 4 ? p->rows - row : 4;
        const struct spread *w[4];
        for (uint32_t r = 0; r < 4; r++) w[r] = p->w + row + (r < rows ? r : rows - 1);
        for (uint32_t t = 0; t < p->n; t++) {
            struct sums8 a = {0}, b = {0}, c = {0}, d = {0};
            for (size_t i = 0; i < p->width; i += 64) {
                sums8_add(&a, w[0], &p->x[t], i);
                sums8_add(&b, w[1], &p->x[t], i);
                sums8_add(&c, w[2], &p->x[t], i);
                sums8_add(&d, w[3], &p->x[t], i);
            }
            const float sums[4] = {sums8_total(&a), sums8_total(&b), sums8_total(&c), sums8_total(&d)};
            float *y = p->y + t * p->y_stride + row;
            for (uint32_t r = 0; r < rows; r++) y[r] = p->add ? y[r] + sums[r] : sums[r];
        }
    }
}

#endif
