// SPDX-License-Identifier: MIT
//
// Decoding of weight blocks: one format chosen by WEIGHT_<NAME>. Mirrors quant/*.c, where the layouts are explained.
//
// A row is decoded in runs of 32 weights. A run is four segments of eight neighbours, at columns
// run_column(run) + segment_column(0..3), chosen so that a run uses every bit of what it loads: nibbles that lie in one
// byte are apart in the row. Rows lie in the packing of engine/gpu/weight.c: of every group of eight blocks, first the
// small fields of all, then the bodies, so that what is loaded at once lies on a multiple of its size.
//
//   void run_decode(uint64_t row, uint run, out float w[32])          w[8 * s + i] is column segment s, neighbour i
//   void run_decode_part(uint64_t row, uint run, uint n, out float w[32])  only for block length 1: columns >= n give 0
const uint RUN = 32;

float load_half(uint64_t a)
{
    return half_to_float(uint(u16_in(a).v[0]));
}
uint byte_of(uint word, uint i)
{
    return bitfieldExtract(word, int(8 * i), 8);
}
int signed_byte_of(uint word, uint i)
{
    return bitfieldExtract(int(word), int(8 * i), 8);
}

// ------------------------------------------------------------------------------------------------ plain numbers
#if defined(WEIGHT_F32) || defined(WEIGHT_F16) || defined(WEIGHT_BF16)
#define WEIGHT_PLAIN
#if defined(WEIGHT_F32)
float load_weight(uint64_t row, uint i)
{
    return f32_in(row).v[i];
}
#elif defined(WEIGHT_F16)
float load_weight(uint64_t row, uint i)
{
    return half_to_float(uint(u16_in(row).v[i]));
}
#else
float load_weight(uint64_t row, uint i)
{
    return uintBitsToFloat(uint(u16_in(row).v[i]) << 16);
}
#endif
// Only where rows are whole runs: then runs lie on multiples of 16 bytes.
void run_decode(uint64_t row, uint run, out float w[RUN])
{
#if defined(WEIGHT_F32)
    [[unroll]] for (uint i = 0; i < RUN; i += 4) {
        vec4 part = load_f32x4(row + 4 * (RUN * run + i));
        [[unroll]] for (uint j = 0; j < 4; j++) w[i + j] = part[j];
    }
#else
    [[unroll]] for (uint i = 0; i < RUN; i += 8) {
        uvec4 part = load_u32x4(row + 2 * (RUN * run + i));
        [[unroll]] for (uint j = 0; j < 4; j++) {
#if defined(WEIGHT_F16)
            vec2 pair = unpackHalf2x16(part[j]);
#else
            vec2 pair = uintBitsToFloat(uvec2(part[j] << 16, part[j] & 0xffff0000u));
#endif
            w[i + 2 * j] = pair.x;
            w[i + 2 * j + 1] = pair.y;
        }
    }
#endif
}
void run_decode_part(uint64_t row, uint run, uint n, out float w[RUN])
{
    [[unroll]] for (uint i = 0; i < RUN; i++) w[i] = RUN * run + i < n ? load_weight(row, RUN * run + i) : 0.0;
}
#endif

#include "dequant_32.glsl"
#include "dequant_k.glsl"
#include "dequant_iq.glsl"

// Where nothing else is said, a run is 32 neighbours.
#ifndef WEIGHT_COLUMNS
uint run_column(uint run)
{
    return RUN * run;
}
uint segment_column(uint s)
{
    return 8 * s;
}
#endif
