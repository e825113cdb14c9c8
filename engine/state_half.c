/* SPDX-License-Identifier: MIT
 *
 * A snapshot of the 48B has ten million numbers: one at a time, they take longer than everything else in saving it.
 */
#include "engine/state_half.h"

#include <stdint.h>
#include <string.h>

#include "engine/cpu/kernels.h"

enum { CHUNK = 1024 };

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

/* Below 2^-14 a half is a multiple of 2^-24, which is what adding 0.5 rounds to. */
static uint32_t half_of(uint32_t u)
{
    uint32_t sign = u >> 16 & 0x8000, a = u & 0x7fffffff;
    uint32_t normal = (a - (112u << 23) + 0xfff + (a >> 13 & 1)) >> 13;
    uint32_t small = to_bits(from_bits(a) + 0.5f) - 0x3f000000;
    uint32_t large = a > 0x7f800000 ? 0x7e00 : 0x7c00;
    uint32_t h = a < 0x38800000 ? small : normal;
    return sign | (a >= 0x47800000 ? large : h);
}

static float float_of(uint32_t h)
{
    uint32_t sign = (h & 0x8000) << 16, a = h & 0x7fff;
    uint32_t normal = (a << 13) + (112u << 23), large = a << 13 | 0x7f800000;
    uint32_t small = to_bits((float)(int32_t)a * 0x1p-24f);
    uint32_t u = a < 0x400 ? small : normal;
    return from_bits(sign | (a >= 0x7c00 ? large : u));
}

void state_half_round(float *x, unsigned char *out, size_t n)
{
    uint32_t halves[CHUNK];
    for (size_t at = 0; at < n; at += CHUNK) {
        size_t count = n - at < CHUNK ? n - at : CHUNK;
        for (size_t i = 0; i < count; i++) halves[i] = half_of(to_bits(x[at + i]));
        for (size_t i = 0; i < count; i++) x[at + i] = float_of(halves[i]);
        for (size_t i = 0; i < count; i++, out += 2) {
            out[0] = (unsigned char)halves[i];
            out[1] = (unsigned char)(halves[i] >> 8);
        }
    }
}

void state_half_widen(const unsigned char *in, float *out, size_t n)
{
    cpu_kernels()->decode(quant_format(QUANT_F16), in, out, n);
}
