// SPDX-License-Identifier: MIT
//
// Decoding of blocks of 32 weights, each one run: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 (quant/q8_0.c, q32.c), IQ4_NL (iq4.c),
// MXFP4 (mxfp4.c). Nibbles: byte j of 16 holds weight j low and weight j + 16 high. Part of dequant.glsl.

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

#if defined(WEIGHT_Q4_0) || defined(WEIGHT_Q4_1) || defined(WEIGHT_Q5_0) || defined(WEIGHT_Q5_1)
// Level i of a run: its nibble, and its bit of `high` as the fifth.
uint level_of(uvec4 q, uint high, uint i)
{
    return bitfieldExtract(q[i % 16 / 4], int(8 * (i % 4) + 4 * (i / 16)), 4) | bitfieldExtract(high, int(i), 1) << 4;
}
#endif

#if defined(WEIGHT_Q4_0)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 3) * 144;
    float d = load_half(group + 2 * (run & 7));
    uvec4 q = load_u32x4(group + 16 + 16 * (run & 7));
    [[unroll]] for (uint i = 0; i < RUN; i++) w[i] = d * float(int(level_of(q, 0, i)) - 8);
}
#endif

#if defined(WEIGHT_Q4_1)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 3) * 160;
    vec2 d = unpackHalf2x16(u32_in(group + 4 * (run & 7)).v[0]);
    uvec4 q = load_u32x4(group + 32 + 16 * (run & 7));
    [[unroll]] for (uint i = 0; i < RUN; i++) w[i] = d.x * float(level_of(q, 0, i)) + d.y;
}
#endif

#if defined(WEIGHT_Q5_0)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 3) * 176;
    float d = load_half(group + 2 * (run & 7));
    uint high = u32_in(group + 16 + 4 * (run & 7)).v[0];
    uvec4 q = load_u32x4(group + 48 + 16 * (run & 7));
    [[unroll]] for (uint i = 0; i < RUN; i++) w[i] = d * float(int(level_of(q, high, i)) - 16);
}
#endif

#if defined(WEIGHT_Q5_1)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 3) * 192;
    uvec2 head = load_u32x2(group + 8 * (run & 7));
    vec2 d = unpackHalf2x16(head.x);
    uvec4 q = load_u32x4(group + 64 + 16 * (run & 7));
    [[unroll]] for (uint i = 0; i < RUN; i++) w[i] = d.x * float(level_of(q, head.y, i)) + d.y;
}
#endif

#if defined(WEIGHT_IQ4_NL) || defined(WEIGHT_IQ4_XS)
// The uneven value of a nibble, chosen among words of four: a table in memory would be read at 32 places at once.
float value_of(uint nibble)
{
    const uint first = (nibble & 4) != 0 ? 0xf6eaddcfu : 0xbfad9881u, second = (nibble & 4) != 0 ? 0x71594535u : 0x26190d01u;
    return float(signed_byte_of((nibble & 8) != 0 ? second : first, nibble & 3));
}
void values_decode(uvec4 q, float d, out float w[RUN])
{
    [[unroll]] for (uint i = 0; i < 16; i++) {
        w[i] = d * value_of(bitfieldExtract(q[i / 4], int(8 * (i % 4)), 4));
        w[i + 16] = d * value_of(bitfieldExtract(q[i / 4], int(8 * (i % 4) + 4), 4));
    }
}
#endif

#if defined(WEIGHT_IQ4_NL)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 3) * 144;
    values_decode(load_u32x4(group + 16 + 16 * (run & 7)), load_half(group + 2 * (run & 7)), w);
}
#endif

#if defined(WEIGHT_MXFP4)
// Twice the number that four bits (sign, two of exponent, one of fraction) mean.
float value_of(uint nibble)
{
    float size = float(bitfieldExtract(0xc8643210u, int(4 * (nibble & 7)), 4));
    return (nibble & 8) != 0 ? -size : size;
}
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 3) * 136, body = group + 8 + 16 * (run & 7);
    uint e = uint(u8_in(group + (run & 7)).v[0]);
    float d = uintBitsToFloat(e < 2 ? 0x00200000u << e : (e - 1) << 23); // 2 to the power e - 128
    uvec4 q = uvec4(load_u32x2(body), load_u32x2(body + 8));
    [[unroll]] for (uint i = 0; i < 16; i++) {
        w[i] = d * value_of(bitfieldExtract(q[i / 4], int(8 * (i % 4)), 4));
        w[i + 16] = d * value_of(bitfieldExtract(q[i / 4], int(8 * (i % 4) + 4), 4));
    }
}
#endif
