// SPDX-License-Identifier: MIT
//
// Decoding of super-blocks of 256 weights, each eight runs, through codebooks: IQ1_S and IQ1_M (quant/iq1.c), IQ2_XXS,
// IQ2_XS and IQ2_S (iq2.c), IQ3_XXS and IQ3_S (iq3.c). Part of dequant.glsl.
//
// The codebooks are in memory, the only thing that has a descriptor (engine/gpu/codebook.c): as constants of a kernel
// they take most of the time that its compilation takes. A code is eight level numbers of two bits or four of four.
//
// Loading what a run has and looking it up are apart, for kernels that do other work between:
//
//   run_bits bits_load(uint64_t row, uint run)
//   void bits_decode(run_bits b, out float w[32])
#if defined(WEIGHT_IQ2_XXS) || defined(WEIGHT_IQ2_XS) || defined(WEIGHT_IQ2_S)
#define WEIGHT_IQ2
#endif
#if defined(WEIGHT_IQ3_XXS) || defined(WEIGHT_IQ3_S)
#define WEIGHT_IQ3
#endif
#if defined(WEIGHT_IQ1_S) || defined(WEIGHT_IQ1_M)
#define WEIGHT_IQ1
#endif

#if defined(WEIGHT_IQ1) || defined(WEIGHT_IQ2) || defined(WEIGHT_IQ3)
#define WEIGHT_BITS
#include "codebooks.h"

layout(set = 0, binding = 0, scalar) readonly restrict buffer codebooks
{
    uint16_t v[CODEBOOK_CODES];
} codes;

// Seven signs are stored of eight: those that are set are even in number.
uint even_signs(uint seven)
{
    return seven | (bitCount(seven) & 1) << 7;
}
float with_sign(float x, uint signs, uint i)
{
    return uintBitsToFloat(floatBitsToUint(x) ^ (signs >> i & 1) << 31);
}
uint load_u8(uint64_t a)
{
    return uint(u8_in(a).v[0]);
}
uint load_u16(uint64_t a)
{
    return uint(u16_in(a).v[0]);
}
uint load_u32(uint64_t a)
{
    return u32_in(a).v[0];
}

struct run_bits {
    uvec2 q;     // entries, with what lies between them
    uint signs;  // where they are apart
    uint fields; // scales and upper bits of entries
    float d;     // of the block
};
#endif

#if defined(WEIGHT_IQ2)
// Levels 8, 25, 43.
void eight_decode(uint code, uint signs, float step, uint s, inout float w[RUN])
{
    [[unroll]] for (uint i = 0; i < 8; i++) {
        const uint n = bitfieldExtract(code, int(2 * i), 2);
        w[8 * s + i] = with_sign(step * float(8 + 17 * n + (n >> 1)), signs, i);
    }
}
float step_of(float d, uint scale)
{
    return d * (0.5 + float(scale)) * 0.25;
}
#endif

#if defined(WEIGHT_IQ2_XXS)
run_bits bits_load(uint64_t row, uint run)
{
    const uint64_t group = row + (run >> 6) * 528;
    return run_bits(load_u32x2(group + 16 + 8 * (run & 63)), 0, 0, load_half(group + 2 * (run >> 3 & 7)));
}
void bits_decode(run_bits b, out float w[RUN])
{
    const float step = step_of(b.d, b.q.y >> 28);
    [[unroll]] for (uint s = 0; s < 4; s++)
        eight_decode(codes.v[CODEBOOK_IQ2_XXS + byte_of(b.q.x, s)], even_signs(bitfieldExtract(b.q.y, int(7 * s), 7)),
                     step, s, w);
}
#endif

#if defined(WEIGHT_IQ2_XS)
run_bits bits_load(uint64_t row, uint run)
{
    const uint64_t group = row + (run >> 6) * 592;
    return run_bits(load_u32x2(group + 80 + 8 * (run & 63)), 0, load_u8(group + 16 + (run & 63)),
                    load_half(group + 2 * (run >> 3 & 7)));
}
void bits_decode(run_bits b, out float w[RUN])
{
    [[unroll]] for (uint s = 0; s < 4; s++) {
        const uint part = bitfieldExtract(b.q[s / 2], int(16 * (s % 2)), 16);
        eight_decode(codes.v[CODEBOOK_IQ2_XS + (part & 511)], even_signs(part >> 9),
                     step_of(b.d, bitfieldExtract(b.fields, int(4 * (s / 2)), 4)), s, w);
    }
}
#endif

#if defined(WEIGHT_IQ2_S)
run_bits bits_load(uint64_t row, uint run)
{
    const uint64_t group = row + (run >> 6) * 656;
    const uint64_t fields = group + 16 + 16 * (run >> 3 & 7) + (run & 7);
    const uint64_t body = group + 144 + 64 * (run >> 3 & 7) + 4 * (run & 7);
    return run_bits(uvec2(load_u32(body), 0), load_u32(body + 32), load_u8(fields) | load_u8(fields + 8) << 8,
                    load_half(group + 2 * (run >> 3 & 7)));
}
void bits_decode(run_bits b, out float w[RUN])
{
    [[unroll]] for (uint s = 0; s < 4; s++)
        eight_decode(codes.v[CODEBOOK_IQ2_S + (byte_of(b.q.x, s) | bitfieldExtract(b.fields, int(2 * s), 2) << 8)],
                     byte_of(b.signs, s), step_of(b.d, bitfieldExtract(b.fields, int(8 + 4 * (s / 2)), 4)), s, w);
}
#endif

#if defined(WEIGHT_IQ3)
void eight_decode(uint first, uint second, uint signs, float step, uint s, inout float w[RUN])
{
    [[unroll]] for (uint i = 0; i < 8; i++) {
        const uint n = bitfieldExtract(i < 4 ? first : second, int(4 * (i % 4)), 4);
#if defined(WEIGHT_IQ3_XXS)
        const uint level = 4 + 8 * n + (n + 1 >> 3 << 1); // 4, 12, .. 52, 62
#else
        const uint level = 1 + 2 * n;
#endif
        w[8 * s + i] = with_sign(step * float(level), signs, i);
    }
}
#endif

#if defined(WEIGHT_IQ3_XXS)
run_bits bits_load(uint64_t row, uint run)
{
    const uint64_t group = row + (run >> 6) * 784, body = group + 16 + 96 * (run >> 3 & 7);
    return run_bits(load_u32x2(body + 8 * (run & 7)), load_u32(body + 64 + 4 * (run & 7)), 0,
                    load_half(group + 2 * (run >> 3 & 7)));
}
void bits_decode(run_bits b, out float w[RUN])
{
    const float step = b.d * (0.5 + float(b.signs >> 28)) * 0.5;
    [[unroll]] for (uint s = 0; s < 4; s++)
        eight_decode(codes.v[CODEBOOK_IQ3_XXS + byte_of(b.q[s / 2], 2 * (s % 2))],
                     codes.v[CODEBOOK_IQ3_XXS + byte_of(b.q[s / 2], 2 * (s % 2) + 1)],
                     even_signs(bitfieldExtract(b.signs, int(7 * s), 7)), step, s, w);
}
#endif

#if defined(WEIGHT_IQ3_S)
// Fields: eight ninth bits, the scale.
run_bits bits_load(uint64_t row, uint run)
{
    const uint64_t group = row + (run >> 6) * 880, body = group + 48 + 104 * (run >> 3 & 7);
    const uint scale = bitfieldExtract(load_u8(group + 16 + (run >> 1 & 31)), int(4 * (run & 1)), 4);
    return run_bits(load_u32x2(body + 8 * (run & 7)), load_u32(body + 72 + 4 * (run & 7)),
                    load_u8(body + 64 + (run & 7)) | scale << 8, load_half(group + 2 * (run >> 3 & 7)));
}
void bits_decode(run_bits b, out float w[RUN])
{
    const float step = b.d * float(1 + 2 * (b.fields >> 8));
    [[unroll]] for (uint s = 0; s < 4; s++) {
        const uint first = byte_of(b.q[s / 2], 2 * (s % 2)) | bitfieldExtract(b.fields, int(2 * s), 1) << 8;
        const uint second = byte_of(b.q[s / 2], 2 * (s % 2) + 1) | bitfieldExtract(b.fields, int(2 * s + 1), 1) << 8;
        eight_decode(codes.v[CODEBOOK_IQ3_S + first], codes.v[CODEBOOK_IQ3_S + second], byte_of(b.signs, s), step, s,
                     w);
    }
}
#endif

#if defined(WEIGHT_IQ1)
// Levels -1, 0, 1, shifted by an eighth.
void eight_decode(uint entry, float step, bool down, uint s, inout float w[RUN])
{
    const uint code = codes.v[CODEBOOK_IQ1 + entry];
    [[unroll]] for (uint i = 0; i < 8; i++)
        w[8 * s + i] = step * (float(int(bitfieldExtract(code, int(2 * i), 2)) - 1) + (down ? -0.125 : 0.125));
}
#endif

#if defined(WEIGHT_IQ1_S)
run_bits bits_load(uint64_t row, uint run)
{
    const uint64_t group = row + (run >> 6) * 400, body = group + 16 + 48 * (run >> 3 & 7);
    return run_bits(uvec2(load_u32(body + 4 * (run & 7)), 0), 0, load_u16(body + 32 + 2 * (run & 7)),
                    load_half(group + 2 * (run >> 3 & 7)));
}
void bits_decode(run_bits b, out float w[RUN])
{
    const float step = b.d * float(2 * bitfieldExtract(b.fields, 12, 3) + 1);
    [[unroll]] for (uint s = 0; s < 4; s++)
        eight_decode(byte_of(b.q.x, s) | bitfieldExtract(b.fields, int(3 * s), 3) << 8, step, b.fields >> 15 != 0, s,
                     w);
}
#endif

#if defined(WEIGHT_IQ1_M)
// Fields: four nibbles of upper bits and direction, two scales.
run_bits bits_load(uint64_t row, uint run)
{
    const uint64_t block = row + (run >> 3) * 56;
    const uvec2 scales = load_u32x2(block + 48), tops = scales >> 12 & 0xf000fu;
    const float d = half_to_float((tops.x | tops.x >> 12) & 0xff | ((tops.y | tops.y >> 12) & 0xff) << 8);
    const uint two = scales[run >> 2 & 1] >> (16 * (run >> 1 & 1) + 6 * (run & 1));
    return run_bits(uvec2(load_u32(block + 4 * (run & 7)), 0), 0, load_u16(block + 32 + 2 * (run & 7)) | two << 16, d);
}
void bits_decode(run_bits b, out float w[RUN])
{
    [[unroll]] for (uint s = 0; s < 4; s++) {
        const uint part = bitfieldExtract(b.fields, int(4 * s), 4);
        const float step = b.d * float(2 * bitfieldExtract(b.fields, int(16 + 3 * (s / 2)), 3) + 1);
        eight_decode(byte_of(b.q.x, s) | (part & 7) << 8, step, part >> 3 != 0, s, w);
    }
}
#endif

#if defined(WEIGHT_BITS)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    bits_decode(bits_load(row, run), w);
}
#endif
