/* SPDX-License-Identifier: MIT
 *
 * IEEE 754 half precision and bfloat16, in plain integer arithmetic.
 */
#include "quant/quant.h"

#include <string.h>

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

static uint32_t to_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

float quant_f16_to_f32(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000) << 16;
    uint32_t exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return from_bits(sign | 0x7f800000 | fraction << 13);
    if (exponent) return from_bits(sign | (exponent + 112) << 23 | fraction << 13);
    /* Subnormal: fraction * 2^-24, exact in a float. */
    float f = (float)fraction * 0x1p-24f;
    return sign ? -f : f;
}

/* Shifts right by n (1..31), rounding to nearest, ties to even. */
static uint32_t shift_even(uint32_t v, unsigned n)
{
    uint32_t half = 1u << (n - 1), rest = v & ((half << 1) - 1);
    v >>= n;
    return v + (rest > half || (rest == half && (v & 1)));
}

uint16_t quant_f32_to_f16(float f)
{
    uint32_t u = to_bits(f);
    uint16_t sign = (uint16_t)(u >> 16 & 0x8000);
    u &= 0x7fffffff;
    if (u > 0x7f800000) return (uint16_t)(sign | 0x7e00);                            /* NaN */
    if (u >= 0x47800000) return (uint16_t)(sign | 0x7c00);                           /* 65536 and above: infinity */
    if (u >= 0x38800000) return (uint16_t)(sign | shift_even(u - (112u << 23), 13)); /* a carry makes 65520 infinity */
    if (u < 0x33000000) return sign; /* below half of the least subnormal */
    uint32_t fraction = (u & 0x7fffff) | 0x800000;
    return (uint16_t)(sign | shift_even(fraction, 126 - (u >> 23)));
}

uint16_t quant_f32_to_bf16(float f)
{
    uint32_t u = to_bits(f);
    if ((u & 0x7fffffff) > 0x7f800000) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)shift_even(u, 16);
}
