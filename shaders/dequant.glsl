// SPDX-License-Identifier: MIT
//
// Decoding of weight blocks: one format chosen by WEIGHT_<NAME>. Mirrors quant/*.c, where the layouts are explained.
//
// A row is decoded in runs of 32 weights. A run is four segments of eight neighbours, at columns
// run_column(run) + segment_column(0..3), chosen so that a run uses every bit of what it loads: nibbles that lie in one
// byte are apart in the row. Rows lie on multiples of 16 bytes, in the packing of engine/gpu/weight.c: of every group of
// eight blocks, first the scales of all, then the bodies.
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

// ------------------------------------------------------------------------------------- blocks of 32: one run each
#if defined(WEIGHT_Q8_0)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 3) * 272;
    float d = load_half(group + 2 * (run & 7));
    [[unroll]] for (uint half_run = 0; half_run < 2; half_run++) {
        uvec4 q = load_u32x4(group + 16 + 32 * (run & 7) + 16 * half_run);
        [[unroll]] for (uint i = 0; i < 16; i++) w[16 * half_run + i] = d * float(signed_byte_of(q[i / 4], i % 4));
    }
}
#endif

#if defined(WEIGHT_Q5_0)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 3) * 176;
    float d = load_half(group + 2 * (run & 7));
    uint high = u32_in(group + 16 + 4 * (run & 7)).v[0];
    uvec4 q = load_u32x4(group + 48 + 16 * (run & 7));
    [[unroll]] for (uint i = 0; i < 16; i++) {
        uint low_q = bitfieldExtract(q[i / 4], int(8 * (i % 4)), 4) | bitfieldExtract(high, int(i), 1) << 4;
        uint high_q = bitfieldExtract(q[i / 4], int(8 * (i % 4) + 4), 4) | bitfieldExtract(high, int(i + 16), 1) << 4;
        w[i] = d * float(int(low_q) - 16);
        w[i + 16] = d * float(int(high_q) - 16);
    }
}
#endif

// ------------------------------------------------------------------------- super-blocks of 256: eight runs each
#if defined(WEIGHT_Q4_K)
// Sub-block scale and minimum j of 8, packed in 12 bytes as 6-bit numbers.
vec2 scale_min(uvec3 packed, uint j)
{
    uint shift = 8 * (j & 3);
    uint a = packed.x >> shift, b = packed.y >> shift, c = packed.z >> shift;
    uint scale = j < 4 ? a & 63 : (c & 15) | ((a >> 6) & 3) << 4;
    uint least = j < 4 ? b & 63 : ((c >> 4) & 15) | ((b >> 6) & 3) << 4;
    return vec2(float(scale), float(least));
}
#endif

#if defined(WEIGHT_Q4_K)
// A run: 16 bytes of a chunk of 32, both nibbles.
#define WEIGHT_COLUMNS
uint run_column(uint run)
{
    return 64 * (run >> 1) + 16 * (run & 1);
}
uint segment_column(uint s)
{
    return 32 * (s >> 1) + 8 * (s & 1);
}
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t block = row + (run >> 3) * 144;
    uint chunk = (run >> 1) & 3;
    uvec4 head = load_u32x4(block), q = load_u32x4(block + 16 + 16 * (run & 7));
    vec2 d = unpackHalf2x16(head.x);
    vec2 low = d * scale_min(head.yzw, 2 * chunk), high = d * scale_min(head.yzw, 2 * chunk + 1);
    [[unroll]] for (uint i = 0; i < 4; i++) {
        [[unroll]] for (uint j = 0; j < 4; j++) {
            w[4 * i + j] = low.x * float(bitfieldExtract(q[i], int(8 * j), 4)) - low.y;
            w[16 + 4 * i + j] = high.x * float(bitfieldExtract(q[i], int(8 * j + 4), 4)) - high.y;
        }
    }
}
#endif

#if defined(WEIGHT_Q6_K)
// A run: 8 + 8 bytes of low nibbles and 8 bytes of pairs of high bits, columns 32 apart.
#define WEIGHT_COLUMNS
uint run_column(uint run)
{
    return 128 * (run >> 2) + 8 * (run & 3);
}
uint segment_column(uint s)
{
    return 32 * s;
}
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 1680, block = group + 16 + (run >> 3 & 7) * 208;
    uint part = run >> 2 & 1, quarter = run & 3;
    float d = load_half(group + 2 * (run >> 3 & 7));
    uvec2 a = load_u32x2(block + 64 * part + 8 * quarter), b = load_u32x2(block + 64 * part + 32 + 8 * quarter);
    uvec2 h = load_u32x2(block + 128 + 32 * part + 8 * quarter), scales = load_u32x2(block + 192 + 8 * part);
    float scale[4];
    [[unroll]] for (uint s = 0; s < 4; s++) scale[s] = d * float(signed_byte_of(scales[s / 2], 2 * (s % 2) + (quarter >> 1)));
    [[unroll]] for (uint i = 0; i < 2; i++) {
        uint q[4] = {(a[i] & 0x0f0f0f0f) | (h[i] & 0x03030303) << 4, (b[i] & 0x0f0f0f0f) | (h[i] & 0x0c0c0c0c) << 2,
                     (a[i] >> 4 & 0x0f0f0f0f) | (h[i] & 0x30303030),
                     (b[i] >> 4 & 0x0f0f0f0f) | (h[i] >> 2 & 0x30303030)};
        [[unroll]] for (uint s = 0; s < 4; s++)
            [[unroll]] for (uint j = 0; j < 4; j++)
                w[8 * s + 4 * i + j] = scale[s] * float(int(byte_of(q[s], j)) - 32);
    }
}
#endif

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
