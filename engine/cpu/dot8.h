/* SPDX-License-Identifier: MIT
 *
 * Products with activations rounded to whole numbers of three signed bytes, with a step for each 16. Included by
 * kernels.c alone. With a row of weights spread to levels (spread.h),
 *     w . x = sum over 16s of  scale * step * (level . q) + low * step * (sum of q),
 *     level . q = 256 (level . upper) + (level . low),   upper = 256 high + middle
 * where both inner products are whole numbers, exact in every variant. One byte would do for most models, but not where
 * a router weighs two experts all but equally: docs/quantization.md. Spans are padded with zeros to a multiple of 64.
 */
#ifndef LECTERN_ENGINE_CPU_DOT8_H
#define LECTERN_ENGINE_CPU_DOT8_H

#include <float.h>
#include <math.h>

#include "engine/cpu/kernels.h"
#include "engine/cpu/lanes.h"

#if defined(__AVX2__) && defined(__FMA__)
#include <immintrin.h>
#elif defined(__ARM_NEON) && defined(__aarch64__)
#include <arm_neon.h>
#endif

/* ---------------------------------------------------------------------------------------------- activations */

#define MOST_WHOLE 8323072 /* 127 * 65536: there is room for what rounding adds */

/* 16 of an input. What is not finite makes its step NaN: what comes of it is NaN, as it should be. */
static inline void round_16(const float *x, size_t i, const struct rounded *out)
{
    int8_t *restrict high = out->high + i, *restrict middle = out->middle + i, *restrict low = out->low + i;
    float most = 0;
    int bad = 0, whole = 0;
    for (int j = 0; j < 16; j++) {
        float a = fabsf(x[j]);
        most = a > most ? a : most;
        bad |= !(a <= FLT_MAX);
    }
    const float inverse = bad || most < 1e-30f ? 0 : MOST_WHOLE / most;
    for (int j = 0; j < 16; j++) {
        int32_t q = bad ? 0 : (int32_t)rintf(x[j] * inverse), rest = (q + 128) >> 8, top = (rest + 128) >> 8;
        high[j] = (int8_t)top;
        middle[j] = (int8_t)(rest - top * 256);
        low[j] = (int8_t)(q - rest * 256);
        whole += q;
    }
    const float step = bad ? NAN : most < 1e-30f ? 0 : most / MOST_WHOLE;
    out->step[i / 16] = step;
    out->sum[i / 16] = step * (float)whole;
}

static void round_input(const float *x, size_t n, const struct rounded *out)
{
    size_t padded = DOT8_PADDED(n), i = 0;
    for (; i + 16 <= n; i += 16) round_16(x + i, i, out);
    for (; i < padded; i += 16) {
        float part[16] = {0};
        if (i < n) memcpy(part, x + i, (n - i) * sizeof *x);
        round_16(part, i, out);
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
    const __m512i level = _mm512_loadu_si512(w->level + i);
    const __m512i none = _mm512_setzero_si512();
    __m512i high = _mm512_dpbusd_epi32(none, level, _mm512_loadu_si512(x->high + i));
    __m512i upper = _mm512_dpbusd_epi32(_mm512_slli_epi32(high, 8), level, _mm512_loadu_si512(x->middle + i));
    __m512i lower = _mm512_dpbusd_epi32(none, level, _mm512_loadu_si512(x->low + i));
    __m512 whole = _mm512_fmadd_ps(_mm512_cvtepi32_ps(upper), _mm512_set1_ps(256), _mm512_cvtepi32_ps(lower));
    __m128 scale = _mm_mul_ps(_mm_loadu_ps(w->scale + i / 16), _mm_loadu_ps(x->step + i / 16));
    __m512 wide = _mm512_permutexvar_ps(of_16, _mm512_castps128_ps512(scale));
    a->products = _mm512_fmadd_ps(whole, wide, a->products);
    a->offsets = _mm_fmadd_ps(_mm_loadu_ps(w->low + i / 16), _mm_loadu_ps(x->sum + i / 16), a->offsets);
}

/* Four lanes, the sum of which is the total. */
static inline __m128 sums8_fold(const struct sums8 *a)
{
    __m256 half = _mm256_add_ps(_mm512_castps512_ps256(a->products), _mm512_extractf32x8_ps(a->products, 1));
    return _mm_add_ps(_mm_add_ps(_mm256_castps256_ps128(half), _mm256_extractf128_ps(half, 1)), a->offsets);
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
        __m256i high = _mm256_slli_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(x->high + k))), 8);
        __m256i middle = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(x->middle + k)));
        __m256i low = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(x->low + k)));
        __m256 upper = _mm256_cvtepi32_ps(_mm256_madd_epi16(level, _mm256_add_epi16(high, middle)));
        __m256 lower = _mm256_cvtepi32_ps(_mm256_madd_epi16(level, low));
        __m256 whole = _mm256_fmadd_ps(upper, _mm256_set1_ps(256), lower);
        a->products = _mm256_fmadd_ps(whole, _mm256_set1_ps(w->scale[k / 16] * x->step[k / 16]), a->products);
    }
    a->offsets = _mm_fmadd_ps(_mm_loadu_ps(w->low + i / 16), _mm_loadu_ps(x->sum + i / 16), a->offsets);
}

static inline __m128 sums8_fold(const struct sums8 *a)
{
    __m128 low = _mm256_castps256_ps128(a->products), high = _mm256_extractf128_ps(a->products, 1);
    return _mm_add_ps(_mm_add_ps(low, high), a->offsets);
}

#elif defined(__ARM_NEON) && defined(__aarch64__)

struct sums8 {
    float32x4_t products, offsets;
};

/* Four whole numbers, the sum of which is the product of the 16. */
static inline int32x4_t whole_16(const int16x8_t *level, int16x8_t first, int16x8_t second)
{
    int32x4_t sum = vmull_s16(vget_low_s16(level[0]), vget_low_s16(first));
    sum = vmlal_high_s16(sum, level[0], first);
    sum = vmlal_s16(sum, vget_low_s16(level[1]), vget_low_s16(second));
    return vmlal_high_s16(sum, level[1], second);
}

static inline void sums8_add(struct sums8 *a, const struct spread *w, const struct rounded *x, size_t i)
{
    for (size_t k = i; k < i + 64; k += 16) {
        const uint8x16_t bytes = vld1q_u8(w->level + k);
        const int16x8_t level[2] = {vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes))),
                                    vreinterpretq_s16_u16(vmovl_high_u8(bytes))};
        const int8x16_t high = vld1q_s8(x->high + k), middle = vld1q_s8(x->middle + k), low = vld1q_s8(x->low + k);
        int32x4_t upper = whole_16(level, vaddw_s8(vshll_n_s8(vget_low_s8(high), 8), vget_low_s8(middle)),
                                   vaddw_high_s8(vshll_high_n_s8(high, 8), middle));
        int32x4_t lower = whole_16(level, vmovl_s8(vget_low_s8(low)), vmovl_high_s8(low));
        float32x4_t whole = vfmaq_n_f32(vcvtq_f32_s32(lower), vcvtq_f32_s32(upper), 256);
        a->products = vfmaq_n_f32(a->products, whole, w->scale[k / 16] * x->step[k / 16]);
    }
    a->offsets = vfmaq_f32(a->offsets, vld1q_f32(w->low + i / 16), vld1q_f32(x->sum + i / 16));
}

static inline void sums8_totals(const struct sums8 *sums, float *out)
{
    for (int r = 0; r < 4; r++) out[r] = vaddvq_f32(vaddq_f32(sums[r].products, sums[r].offsets));
}

#else

struct sums8 {
    float products[4], offsets[4];
};

static inline void sums8_add(struct sums8 *a, const struct spread *w, const struct rounded *x, size_t i)
{
    for (size_t k = 0; k < 4; k++) {
        size_t at = i / 16 + k;
        int32_t upper = 0, lower = 0;
        for (size_t j = at * 16; j < at * 16 + 16; j++) {
            upper += (int32_t)w->level[j] * (256 * (int32_t)x->high[j] + x->middle[j]);
            lower += (int32_t)w->level[j] * x->low[j];
        }
        float whole = mul_add((float)upper, 256, (float)lower);
        a->products[k] = mul_add(whole, w->scale[at] * x->step[at], a->products[k]);
        a->offsets[k] = mul_add(w->low[at], x->sum[at], a->offsets[k]);
    }
}

static inline float sums8_total(const struct sums8 *a)
{
    float products = (a->products[0] + a->products[2]) + (a->products[1] + a->products[3]);
    return products + ((a->offsets[0] + a->offsets[2]) + (a->offsets[1] + a->offsets[3]));
}

static inline void sums8_totals(const struct sums8 *sums, float *out)
{
    for (int r = 0; r < 4; r++) out[r] = sums8_total(&sums[r]);
}

#endif

#if defined(__AVX2__) && defined(__FMA__)
static inline void sums8_totals(const struct sums8 *sums, float *out)
{
    __m128 ab = _mm_hadd_ps(sums8_fold(&sums[0]), sums8_fold(&sums[1]));
    __m128 cd = _mm_hadd_ps(sums8_fold(&sums[2]), sums8_fold(&sums[3]));
    _mm_storeu_ps(out, _mm_hadd_ps(ab, cd));
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
            struct sums8 sums[4] = {0};
            float total[4];
            for (size_t i = 0; i < p->width; i += 64) {
                sums8_add(&sums[0], w[0], &p->x[t], i);
                sums8_add(&sums[1], w[1], &p->x[t], i);
                sums8_add(&sums[2], w[2], &p->x[t], i);
                sums8_add(&sums[3], w[3], &p->x[t], i);
            }
            sums8_totals(sums, total);
            float *y = p->y + t * p->y_stride + row;
            for (uint32_t r = 0; r < rows; r++) y[r] = p->add ? y[r] + total[r] : total[r];
        }
    }
}

#endif
