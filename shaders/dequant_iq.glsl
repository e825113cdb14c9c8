// SPDX-License-Identifier: MIT
//
// Decoding of super-blocks of 256 weights through codebooks: IQ1 (quant/iq1.c), IQ2 (iq2.c), IQ3 (iq3.c). A run is a
// sub-block of 32 neighbours. iq_grids.glsl is made from quant/iq_grids.c: a word holds two codes, the first low; a code
// is eight level numbers of two bits or four of four. Part of dequant.glsl.

#if defined(WEIGHT_IQ1_S) || defined(WEIGHT_IQ1_M)
#define CODES iq1_s_codes
#elif defined(WEIGHT_IQ2_XXS)
#define CODES iq2_xxs_codes
#elif defined(WEIGHT_IQ2_XS)
#define CODES iq2_xs_codes
#elif defined(WEIGHT_IQ2_S)
#define CODES iq2_s_codes
#elif defined(WEIGHT_IQ3_XXS)
#define CODES iq3_xxs_codes
#elif defined(WEIGHT_IQ3_S)
#define CODES iq3_s_codes
#endif

#ifdef CODES
#include "iq_grids.glsl"
uint code_of(uint entry)
{
    return bitfieldExtract(CODES[entry >> 1], int(16 * (entry & 1)), 16);
}
// Seven signs, and the eighth that makes their number even.
uint even_signs(uint seven)
{
    return seven | (bitCount(seven) & 1) << 7;
}
float signed_level(uint level, uint signs, uint i)
{
    return (signs >> i & 1) != 0 ? -float(level) : float(level);
}
#endif

#if defined(WEIGHT_IQ1_S) || defined(WEIGHT_IQ1_M)
// Eight weights from w[at] on: trits, all moved down or up by an eighth.
void eight_decode(uint entry, float step, bool down, uint at, inout float w[RUN])
{
    uint code = code_of(entry);
    [[unroll]] for (uint i = 0; i < 8; i++)
        w[at + i] = step * (float(int(bitfieldExtract(code, int(2 * i), 2)) - 1) + (down ? -0.125 : 0.125));
}
#endif

#if defined(WEIGHT_IQ1_S)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 400, block = group + 16 + (run >> 3 & 7) * 48;
    uint entries = u32_in(block + 4 * (run & 7)).v[0], upper = uint(u16_in(block + 32 + 2 * (run & 7)).v[0]);
    float step = load_half(group + 2 * (run >> 3 & 7)) * float(2 * bitfieldExtract(upper, 12, 3) + 1);
    [[unroll]] for (uint k = 0; k < 4; k++)
        eight_decode(byte_of(entries, k) | bitfieldExtract(upper, int(3 * k), 3) << 8, step, upper >> 15 != 0, 8 * k, w);
}
#endif

#if defined(WEIGHT_IQ1_M)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t block = row + (run >> 3) * 56;
    uint entries = u32_in(block + 4 * (run & 7)).v[0], upper = uint(u16_in(block + 32 + 2 * (run & 7)).v[0]);
    uvec2 scales = load_u32x2(block + 48), tops = scales >> 12;
    float d = half_to_float((tops.x & 15) | (tops.x >> 12 & 240) | (tops.y & 15) << 8 | (tops.y >> 16 & 15) << 12);
    uint pair = bitfieldExtract(scales[run >> 2 & 1], int(16 * (run >> 1 & 1) + 6 * (run & 1)), 6);
    [[unroll]] for (uint k = 0; k < 4; k++) {
        uint more = bitfieldExtract(upper, int(4 * k), 4);
        float step = d * float(2 * bitfieldExtract(pair, int(3 * (k / 2)), 3) + 1);
        eight_decode(byte_of(entries, k) | (more & 7) << 8, step, more >> 3 != 0, 8 * k, w);
    }
}
#endif

#if defined(WEIGHT_IQ2_XXS) || defined(WEIGHT_IQ2_XS) || defined(WEIGHT_IQ2_S)
// Eight weights from w[at] on, of levels 8, 25 and 43.
void eight_decode(uint entry, uint signs, float step, uint at, inout float w[RUN])
{
    uint code = code_of(entry);
    [[unroll]] for (uint i = 0; i < 8; i++) {
        uint number = bitfieldExtract(code, int(2 * i), 2);
        w[at + i] = step * signed_level(8 + 17 * number + (number >> 1), signs, i);
    }
}
float step_of(float d, uint scale)
{
    return d * (0.5 + float(scale)) * 0.25;
}
#endif

#if defined(WEIGHT_IQ2_XXS)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 528;
    uvec2 q = load_u32x2(group + 16 + 8 * (run & 63));
    float step = step_of(load_half(group + 2 * (run >> 3 & 7)), q.y >> 28);
    [[unroll]] for (uint k = 0; k < 4; k++)
        eight_decode(byte_of(q.x, k), even_signs(bitfieldExtract(q.y, int(7 * k), 7)), step, 8 * k, w);
}
#endif

#if defined(WEIGHT_IQ2_XS)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 592, block = group + 16 + (run >> 3 & 7) * 72;
    uvec2 q = load_u32x2(block + 8 * (run & 7));
    uint scales = uint(u8_in(block + 64 + (run & 7)).v[0]);
    float d = load_half(group + 2 * (run >> 3 & 7));
    [[unroll]] for (uint k = 0; k < 4; k++) {
        uint both = bitfieldExtract(q[k / 2], int(16 * (k % 2)), 16);
        float step = step_of(d, bitfieldExtract(scales, int(4 * (k / 2)), 4));
        eight_decode(both & 511, even_signs(both >> 9), step, 8 * k, w);
    }
}
#endif

#if defined(WEIGHT_IQ2_S)
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 656, block = group + 16 + (run >> 3 & 7) * 80;
    uint entries = u32_in(block + 4 * (run & 7)).v[0], signs = u32_in(block + 32 + 4 * (run & 7)).v[0];
    uint upper = uint(u8_in(block + 64 + (run & 7)).v[0]), scales = uint(u8_in(block + 72 + (run & 7)).v[0]);
    float d = load_half(group + 2 * (run >> 3 & 7));
    [[unroll]] for (uint k = 0; k < 4; k++) {
        float step = step_of(d, bitfieldExtract(scales, int(4 * (k / 2)), 4));
        uint entry = byte_of(entries, k) | bitfieldExtract(upper, int(2 * k), 2) << 8;
        eight_decode(entry, byte_of(signs, k), step, 8 * k, w);
    }
}
#endif

#if defined(WEIGHT_IQ3_XXS)
// Levels 4, 12, .. 52 and 62.
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 784, block = group + 16 + (run >> 3 & 7) * 96;
    uvec2 entries = load_u32x2(block + 8 * (run & 7));
    uint rest = u32_in(block + 64 + 4 * (run & 7)).v[0];
    float step = load_half(group + 2 * (run >> 3 & 7)) * (0.5 + float(rest >> 28)) * 0.5;
    [[unroll]] for (uint k = 0; k < 8; k++) {
        uint code = code_of(byte_of(entries[k / 4], k % 4)), signs = even_signs(bitfieldExtract(rest, int(7 * (k / 2)), 7));
        [[unroll]] for (uint i = 0; i < 4; i++) {
            uint number = bitfieldExtract(code, int(4 * i), 4);
            w[4 * k + i] = step * signed_level(4 + 8 * number + (number == 7 ? 2 : 0), signs, 4 * (k % 2) + i);
        }
    }
}
#endif

#if defined(WEIGHT_IQ3_S)
// Levels 1, 3, .. 15.
void run_decode(uint64_t row, uint run, out float w[RUN])
{
    uint64_t group = row + (run >> 6) * 880, block = group + 16 + (run >> 3 & 7) * 108;
    u32_in entries = u32_in(block + 8 * (run & 7));
    uint ninths = uint(u8_in(block + 64 + (run & 7)).v[0]), signs = u32_in(block + 72 + 4 * (run & 7)).v[0];
    uint scale = bitfieldExtract(u32_in(block + 104).v[0], int(4 * (run & 7)), 4);
    float step = load_half(group + 2 * (run >> 3 & 7)) * float(1 + 2 * scale);
    [[unroll]] for (uint k = 0; k < 8; k++) {
        uint code = code_of(byte_of(entries.v[k / 4], k % 4) | bitfieldExtract(ninths, int(k), 1) << 8);
        [[unroll]] for (uint i = 0; i < 4; i++)
            w[4 * k + i] = step * signed_level(1 + 2 * bitfieldExtract(code, int(4 * i), 4), signs, 4 * k + i);
    }
}
#endif
