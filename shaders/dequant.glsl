// SPDX-License-Identifier: MIT
//
// Decoding of weight blocks: one format chosen by WEIGHT_<NAME>. Mirrors quant/*.c, where the layouts are explained.
//
// A row is decoded in runs of 32 weights. A run is four segments of eight neighbours, at columns
// run_column(run) + segment_column(0..3), chosen so that a run uses every bit of what it loads: nibbles that lie in one
// byte are apart in the row. Blocks may lie on any even address (BLOCK_ALIGN says how much more is certain).
//
//   void run_decode(uint64_t row, uint run, out float w[32])          w[8 * s + i] is column segment s, neighbour i
//   void run_decode_part(uint64_t row, uint run, uint n, out float w[32])  only for block length 1: columns >= n give 0
const uint RUN = 32;

uint load_u16(uint64_t a)
{
    return uint(u16_in(a).v[0]);
}
uint load_u8(uint64_t a)
{
    return uint(u8_in(a).v[0]);
}
// A word on an even address.
uint load_pair(uint64_t a)
{
    return uint(u16_in(a).v[0]) | uint(u16_in(a).v[1]) << 16;
}
float load_half(uint64_t a)
{
    return half_to_float(load_u16(a));
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
const uint WEIGHT_BYTES = 4;
float load_weight(uint64_t row, uint i)
{
    return f32_in(row).v[i];
}
#elif defined(WEIGHT_F16)
const uint WEIGHT_BYTES = 2;
float load_weight(uint64_t row, uint i)
{
    return half_to_float(uint(u16_in(row).v[i]));
}
#else
const uint WEIGHT_BYTES = 2;
float load_weight(uint64_t row, uint i)
{
    return uintBitsToFloat(uint(u16_in(row).v[i]) << 16);
}
#endif
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    [[unroll]] for (uint i = 0; i < RUN; i++) w[i] = load_weight(row, RUN * run + i);
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
    uint64_t block = row + run * 34;
    float d = load_half(block);
    [[unroll]] for (uint i = 0; i < RUN / 4; i++) {
        uint q = load_pair(block + 2 + 4 * i);
        [[unroll]] for (uint j = 0; j < 4; j++) w[4 * i + j] = d * float(signed_byte_of(q, j));
    }
}
#endif

#if defined(WEIGHT_Q5_0)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t block = row + run * 22;
    float d = load_half(block);
    uint high = load_pair(block + 2);
    [[unroll]] for (uint i = 0; i < 4; i++) {
        uint q = load_pair(block + 6 + 4 * i);
        [[unroll]] for (uint j = 0; j < 4; j++) {
            uint at = 4 * i + j;
            uint low_q = bitfieldExtract(q, int(8 * j), 4) | bitfieldExtract(high, int(at), 1) << 4;
            uint high_q = bitfieldExtract(q, int(8 * j + 4), 4) | bitfieldExtract(high, int(at + 16), 1) << 4;
            w[at] = d * float(int(low_q) - 16);
            w[at + 16] = d * float(int(high_q) - 16);
        }
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
    uvec4 head = u32x4_in(block).v[0];
    uvec4 q = u32x4_in(block).v[1 + (run & 7)];
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
    uint64_t block = row + (run >> 3) * 210;
    uint part = (run >> 2) & 1, quarter = run & 3;
    uint64_t low = block + 64 * part + 8 * quarter, high = block + 128 + 32 * part + 8 * quarter;
    uint64_t scales = block + 192 + 8 * part + (quarter >> 1);
    float d = load_half(block + 208);
    float scale[4];
    [[unroll]] for (uint s = 0; s < 4; s++) scale[s] = d * float(i8_in(scales + 2 * s).v[0]);
    [[unroll]] for (uint i = 0; i < 2; i++) {
        uint a = load_pair(low + 4 * i), b = load_pair(low + 32 + 4 * i), h = load_pair(high + 4 * i);
        uint q[4] = {(a & 0x0f0f0f0f) | (h & 0x03030303) << 4, (b & 0x0f0f0f0f) | (h & 0x0c0c0c0c) << 2,
                     (a >> 4 & 0x0f0f0f0f) | (h & 0x30303030), (b >> 4 & 0x0f0f0f0f) | (h >> 2 & 0x30303030)};
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
