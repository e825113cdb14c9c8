// SPDX-License-Identifier: MIT
//
// Decoding of super-blocks of 256 weights, each eight runs: Q2_K to Q6_K (quant/q?_k.c), IQ4_XS (iq4.c), TQ1_0 and TQ2_0
// (tq.c). Part of dequant.glsl.

#if defined(WEIGHT_Q4_K) || defined(WEIGHT_Q5_K)
// A run takes both nibbles of 16 bytes: columns 32 apart.
#define WEIGHT_COLUMNS
uint run_column(uint run)
{
    return 64 * (run >> 1) + 16 * (run & 1);
}
uint segment_column(uint s)
{
    return 32 * (s >> 1) + 8 * (s & 1);
}
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

#if defined(WEIGHT_Q5_K)
// As Q4_K, and 16 bytes with the fifth bits of all sub-blocks.
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t block = row + (run >> 3) * 176;
    uint chunk = (run >> 1) & 3;
    uvec4 head = load_u32x4(block), fifths = load_u32x4(block + 16 + 16 * (run & 1)) >> (2 * chunk);
    uvec4 q = load_u32x4(block + 48 + 16 * (run & 7));
    uvec4 low_q = (q & 0x0f0f0f0f) | (fifths & 0x01010101) << 4;
    uvec4 high_q = (q >> 4 & 0x0f0f0f0f) | (fifths & 0x02020202) << 3;
    vec2 d = unpackHalf2x16(head.x);
    vec2 low = d * scale_min(head.yzw, 2 * chunk), high = d * scale_min(head.yzw, 2 * chunk + 1);
    [[unroll]] for (uint i = 0; i < 4; i++) {
        [[unroll]] for (uint j = 0; j < 4; j++) {
            w[4 * i + j] = low.x * float(byte_of(low_q[i], j)) - low.y;
            w[16 + 4 * i + j] = high.x * float(byte_of(high_q[i], j)) - high.y;
        }
    }
}
#endif

#if defined(WEIGHT_Q6_K) || defined(WEIGHT_Q2_K) || defined(WEIGHT_Q3_K) || defined(WEIGHT_TQ2_0)
// A run takes all four pairs of bits of 8 bytes: columns 32 apart.
#define WEIGHT_COLUMNS
uint run_column(uint run)
{
    return 128 * (run >> 2) + 8 * (run & 3);
}
uint segment_column(uint s)
{
    return 32 * s;
}
#endif

#if defined(WEIGHT_Q6_K)
// A run: 8 + 8 bytes of low nibbles and 8 bytes of pairs of high bits.
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

#if defined(WEIGHT_Q2_K)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 672, block = group + 32 + (run >> 3 & 7) * 80;
    uint part = run >> 2 & 1, quarter = run & 3;
    vec2 d = unpackHalf2x16(u32_in(group + 4 * (run >> 3 & 7)).v[0]);
    uvec2 scales = load_u32x2(block + 8 * part), q = load_u32x2(block + 16 + 32 * part + 8 * quarter);
    [[unroll]] for (uint s = 0; s < 4; s++) {
        uint both = byte_of(scales[s / 2], 2 * (s % 2) + (quarter >> 1));
        vec2 line = d * vec2(float(both & 15), float(both >> 4));
        [[unroll]] for (uint i = 0; i < 8; i++)
            w[8 * s + i] = line.x * float(bitfieldExtract(q[i / 4], int(8 * (i % 4) + 2 * s), 2)) - line.y;
    }
}
#endif

#if defined(WEIGHT_Q3_K)
// Scale (sub) of 16, packed in 12 bytes as 6-bit numbers.
int scale_of(uint scales[3], uint sub)
{
    uint low = bitfieldExtract(scales[sub >> 2 & 1], int(8 * (sub & 3) + 4 * (sub >> 3)), 4);
    return int(low | bitfieldExtract(scales[2], int(8 * (sub & 3) + 2 * (sub >> 2)), 2) << 4) - 32;
}
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 880, block = group + 112 + (run >> 3 & 7) * 96;
    uint part = run >> 2 & 1, quarter = run & 3;
    float d = load_half(group + 2 * (run >> 3 & 7));
    u32_in packed = u32_in(group + 16 + 12 * (run >> 3 & 7));
    uint scales[3] = {packed.v[0], packed.v[1], packed.v[2]};
    uvec2 thirds = load_u32x2(block + 8 * quarter) >> (4 * part), q = load_u32x2(block + 32 + 32 * part + 8 * quarter);
    [[unroll]] for (uint s = 0; s < 4; s++) {
        float step = d * float(scale_of(scales, 8 * part + 2 * s + (quarter >> 1)));
        [[unroll]] for (uint i = 0; i < 8; i++) {
            uint third = bitfieldExtract(thirds[i / 4], int(8 * (i % 4) + s), 1);
            w[8 * s + i] = step * float(int(bitfieldExtract(q[i / 4], int(8 * (i % 4) + 2 * s), 2) | third << 2) - 4);
        }
    }
}
#endif

#if defined(WEIGHT_IQ4_XS)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t block = row + (run >> 3) * 136, body = block + 8 + 16 * (run & 7);
    uvec2 head = load_u32x2(block);
    uint scale = bitfieldExtract(head.y, int(4 * (run & 7)), 4) | bitfieldExtract(head.x, int(16 + 2 * (run & 7)), 2) << 4;
    float d = half_to_float(head.x) * float(int(scale) - 32);
    values_decode(uvec4(load_u32x2(body), load_u32x2(body + 8)), d, w);
}
#endif

#if defined(WEIGHT_TQ2_0)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 528, block = group + 16 + (run >> 3 & 7) * 64;
    float d = load_half(group + 2 * (run >> 3 & 7));
    uvec2 q = load_u32x2(block + 8 * (run & 7));
    [[unroll]] for (uint i = 0; i < RUN; i++)
        w[i] = d * float(int(bitfieldExtract(q[i % 8 / 4], int(8 * (i % 4) + 2 * (i / 8)), 2)) - 1);
}
#endif

#if defined(WEIGHT_TQ1_0)
// Four neighbours, of 64 fours in a block, are the same trit of four neighbouring bytes: x = word of the block, y = trit.
uvec2 trit_place(uint four)
{
    uint second = four - 40;
    return four < 40 ? uvec2(four & 7, four >> 3) : four < 60 ? uvec2(8 + (second & 3), second >> 2) : uvec2(12, four - 60);
}
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 432;
    u32_in words = u32_in(group + 16 + (run >> 3 & 7) * 52);
    float d = load_half(group + 2 * (run >> 3 & 7));
    [[unroll]] for (uint k = 0; k < 8; k++) {
        uvec2 place = trit_place(8 * (run & 7) + k);
        uint word = words.v[place.x], power = 1;
        [[unroll]] for (uint r = 0; r < 4; r++) power *= r < place.y ? 3 : 1;
        [[unroll]] for (uint j = 0; j < 4; j++)
            w[4 * k + j] = d * float(int((byte_of(word, j) * power & 255) * 3 >> 8) - 1);
    }
}
#endif
