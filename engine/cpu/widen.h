/* SPDX-License-Identifier: MIT
 *
 * Small numbers to floats: the one thing compilers make a poor job of. Where the processor has instructions for it they
 * are used by name; the plain loops beside them give the same bits.
 */
#ifndef LECTERN_ENGINE_CPU_WIDEN_H
#define LECTERN_ENGINE_CPU_WIDEN_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX2__) && defined(__F16C__)
#include <immintrin.h>
#endif

/* IEEE half -> float without branches. Subnormals are built by a subtraction: arithmetic on subnormal floats is slow.
 */
static inline float widen_half(uint16_t h)
{
#if defined(__AVX2__) && defined(__F16C__)
    return _cvtsh_ss(h);
#else
    union {
        uint32_t u;
        float f;
    } normal, small = {0x38800000u}, out;
    uint32_t magnitude = (uint32_t)(h & 0x7fff) << 13, exponent = magnitude & 0x0f800000u;
    normal.u = magnitude + 0x38000000u;
    out.u = magnitude + 0x38800000u;
    out.f -= small.f;
    out.u = exponent ? normal.u : out.u;
    out.u = exponent == 0x0f800000u ? normal.u + 0x38000000u : out.u;
    out.u |= (uint32_t)(h & 0x8000) << 16;
    return out.f;
#endif
}

/* n halves at p, any alignment. */
static inline void widen_halves(const unsigned char *p, float *out, size_t n)
{
    size_t i = 0;
#if defined(__AVX512F__)
    for (; i + 16 <= n; i += 16)
        _mm512_storeu_ps(out + i, _mm512_cvtph_ps(_mm256_loadu_si256((const void *)(p + 2 * i))));
#elif defined(__AVX2__) && defined(__F16C__)
    for (; i + 8 <= n; i += 8) _mm256_storeu_ps(out + i, _mm256_cvtph_ps(_mm_loadu_si128((const void *)(p + 2 * i))));
#endif
    for (; i < n; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof h);
        out[i] = widen_half(h);
    }
}

/* out[j] = d * q[j] for 16 signed bytes */
static inline void widen_16_bytes(const void *q, float d, float *out)
{
#if defined(__AVX512F__)
    __m512i wide = _mm512_cvtepi8_epi32(_mm_loadu_si128(q));
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_cvtepi32_ps(wide), _mm512_set1_ps(d)));
#elif defined(__AVX2__) && defined(__F16C__)
    __m128i bytes = _mm_loadu_si128(q);
    __m256i low = _mm256_cvtepi8_epi32(bytes), high = _mm256_cvtepi8_epi32(_mm_srli_si128(bytes, 8));
    _mm256_storeu_ps(out, _mm256_mul_ps(_mm256_cvtepi32_ps(low), _mm256_set1_ps(d)));
    _mm256_storeu_ps(out + 8, _mm256_mul_ps(_mm256_cvtepi32_ps(high), _mm256_set1_ps(d)));
#else
    int8_t bytes[16];
    memcpy(bytes, q, sizeof bytes);
    for (int j = 0; j < 16; j++) out[j] = d * (float)bytes[j];
#endif
}

#endif
