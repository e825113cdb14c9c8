/* SPDX-License-Identifier: MIT
 *
 * F32, F16, BF16: one number a weight.
 */
#include "quant/formats.h"

#include <string.h>

static void f32_decode(const void *blocks, float *out, size_t n)
{
    memcpy(out, blocks, n * sizeof *out);
}

static void f32_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    (void)importance;
    memcpy(blocks, in, n * sizeof *in);
}

static void f16_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *p = blocks;
    for (size_t i = 0; i < n; i++) out[i] = half_at(p + 2 * i);
}

static void f16_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    (void)importance;
    uint8_t *p = blocks;
    for (size_t i = 0; i < n; i++) half_put(p + 2 * i, in[i]);
}

static void bf16_decode(const void *blocks, float *out, size_t n)
{
    const uint8_t *p = blocks;
    for (size_t i = 0; i < n; i++) out[i] = quant_bf16_to_f32((uint16_t)(p[2 * i] | p[2 * i + 1] << 8));
}

static void bf16_encode(const float *in, const float *importance, void *blocks, size_t n)
{
    (void)importance;
    uint8_t *p = blocks;
    for (size_t i = 0; i < n; i++) {
        uint16_t h = quant_f32_to_bf16(in[i]);
        p[2 * i] = (uint8_t)h;
        p[2 * i + 1] = (uint8_t)(h >> 8);
    }
}

const struct quant_format quant_format_f32 = {QUANT_F32, "F32", 1, 4, f32_decode, f32_encode};
const struct quant_format quant_format_f16 = {QUANT_F16, "F16", 1, 2, f16_decode, f16_encode};
const struct quant_format quant_format_bf16 = {QUANT_BF16, "BF16", 1, 2, bf16_decode, bf16_encode};
