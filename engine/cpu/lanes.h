/* SPDX-License-Identifier: MIT
 *
 * A few floats side by side, as plain C that the compiler turns into one register: what kernels.c sums with. The order
 * of every sum is spelled out here, so it does not depend on what the compiler makes of a loop.
 */
#ifndef LECTERN_ENGINE_CPU_LANES_H
#define LECTERN_ENGINE_CPU_LANES_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 16 };
#elif defined(__AVX__)
enum { LANES = 8 };
#else
enum { LANES = 4 };
#endif

struct lanes {
    float f[LANES];
};

/* a * b + c: one rounding where the processor has the instruction, two where it has not. */
static inline float mul_add(float a, float b, float c)
{
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
    return fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

static inline struct lanes lanes_load(const float *p)
{
    struct lanes v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The first n <= LANES floats at p, then zeros. */
static inline struct lanes lanes_load_part(const float *p, size_t n)
{
    struct lanes v = {{0}};
    memcpy(&v, p, n * sizeof *p);
    return v;
}

static inline void lanes_store(float *p, struct lanes v)
{
    memcpy(p, &v, sizeof v);
}

/* The first n <= LANES floats of v. */
static inline void lanes_store_part(float *p, struct lanes v, size_t n)
{
    memcpy(p, &v, n * sizeof *p);
}

static inline struct lanes lanes_mul_add(struct lanes acc, const float *a, const float *b)
{
    for (int i = 0; i < LANES; i++) acc.f[i] = mul_add(a[i], b[i], acc.f[i]);
    return acc;
}

/* acc + a * s */
static inline struct lanes lanes_mul_add_one(struct lanes acc, struct lanes a, float s)
{
    for (int i = 0; i < LANES; i++) acc.f[i] = mul_add(a.f[i], s, acc.f[i]);
    return acc;
}

static inline struct lanes lanes_scale(struct lanes a, float s)
{
    for (int i = 0; i < LANES; i++) a.f[i] *= s;
    return a;
}

static inline float lanes_sum(struct lanes v)
{
    for (int half = LANES / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) v.f[i] += v.f[i + half];
    return v.f[0];
}

/* sum of a[i] * b[i] */
static inline float lanes_dot(const float *a, const float *b, size_t n)
{
    struct lanes acc = {{0}};
    size_t whole = n - n % LANES;
    for (size_t i = 0; i < whole; i += LANES) acc = lanes_mul_add(acc, a + i, b + i);
    if (whole < n) {
        struct lanes ta = lanes_load_part(a + whole, n - whole), tb = lanes_load_part(b + whole, n - whole);
        acc = lanes_mul_add(acc, ta.f, tb.f);
    }
    return lanes_sum(acc);
}

/* e^x within two units in the last place, without branches; 0 below -87.3, infinite above 88.7, NaN stays NaN. */
static inline float exp_lane(float x)
{
    union {
        float f;
        uint32_t u;
    } shifted, power;
    float bounded = x < -87.3f ? -87.3f : x;
    bounded = bounded > 88.8f ? 88.8f : bounded;
    shifted.f = mul_add(bounded, 1.44269504f, 12582912.0f); /* the integer lands in the low bits */
    float n = shifted.f - 12582912.0f;
    float r = mul_add(n, -0.693359375f, bounded);
    r = mul_add(n, 2.12194440e-4f, r);
    float p = 1.9875691500e-4f;
    p = mul_add(p, r, 1.3981999507e-3f);
    p = mul_add(p, r, 8.3334519073e-3f);
    p = mul_add(p, r, 4.1665795894e-2f);
    p = mul_add(p, r, 1.6666665459e-1f);
    p = mul_add(p, r, 5.0000001201e-1f);
    p = mul_add(p, r * r, r) + 1.0f;
    power.u = (shifted.u << 23) + 0x3f800000u; /* 2^n */
    float e = p * power.f;
    return x < -87.3f ? 0.0f : e;
}

static inline float sigmoid_lane(float x)
{
    return 1.0f / (1.0f + exp_lane(-x));
}

#endif
