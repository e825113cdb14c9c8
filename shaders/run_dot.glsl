// SPDX-License-Identifier: MIT
//
// A run of weights as it lies in memory, and its product with activations. Loading and multiplying are apart, so that
// loads are under way while earlier runs are multiplied. Where a format is scale * level - minimum, levels are
// multiplied as they are and the line comes after: one multiplication a weight. Part of what dequant.glsl decodes.
//
//   run_raw run_load(uint64_t row, uint run, uint n_in)
//   float run_times(run_raw w, uint run, vec4 x[8], vec4 sums)
//
// x[2 * s + i] meets neighbours 4 i .. 4 i + 3 of segment s, sums[s] is the sum of the segment's activations; only
// formats that define WEIGHT_SUMS look at it. n_in matters where WHOLE is false.

vec4 levels(uint word) // its four bytes
{
    return vec4(float(word & 255u), float(bitfieldExtract(word, 8, 8)), float(bitfieldExtract(word, 16, 8)),
                float(word >> 24));
}
vec4 signed_levels(uint word)
{
    const int w = int(word);
    return vec4(float(bitfieldExtract(w, 0, 8)), float(bitfieldExtract(w, 8, 8)), float(bitfieldExtract(w, 16, 8)),
                float(w >> 24));
}
float total(vec4 v)
{
    return (v.x + v.y) + (v.z + v.w);
}
// The activations of a run, from memory.
void load_x4(uint64_t x, uint run, uint n_in, out vec4 v[8], out vec4 sums)
{
    float all[RUN];
    load_x(x, run, n_in, all);
    [[unroll]] for (uint i = 0; i < 8; i++) v[i] = vec4(all[4 * i], all[4 * i + 1], all[4 * i + 2], all[4 * i + 3]);
    [[unroll]] for (uint s = 0; s < 4; s++) sums[s] = total(v[2 * s] + v[2 * s + 1]);
}
// Sixteen levels in the low or high nibbles of q times four quarters of x, from x[at] on.
float nibbles_times(uvec4 q, vec4 x[8], uint at)
{
    vec4 sum = levels(q.x) * x[at];
    [[unroll]] for (uint i = 1; i < 4; i++) sum = fma(levels(q[i]), x[at + i], sum);
    return total(sum);
}

#if defined(WEIGHT_Q4_K) || defined(WEIGHT_Q5_K)
#define WEIGHT_DOT
#define WEIGHT_SUMS
struct run_raw {
    uvec4 head, q;
#ifdef WEIGHT_Q5_K
    uvec4 fifths;
#endif
};
run_raw run_load(uint64_t row, uint run, uint n_in)
{
    run_raw w;
#ifdef WEIGHT_Q4_K
    const uint64_t block = row + (run >> 3) * 144;
    w.head = load_u32x4(block);
    w.q = load_u32x4(block + 16 + 16 * (run & 7));
#else
    const uint64_t block = row + (run >> 3) * 176;
    w.head = load_u32x4(block);
    w.q = load_u32x4(block + 48 + 16 * (run & 7));
    w.fifths = load_u32x4(block + 16 + 16 * (run & 1));
#endif
    return w;
}
float run_times(run_raw w, uint run, vec4 x[8], vec4 sums)
{
    const uint chunk = (run >> 1) & 3;
    const vec2 d = unpackHalf2x16(w.head.x);
    const vec2 low = d * scale_min(w.head.yzw, 2 * chunk), high = d * scale_min(w.head.yzw, 2 * chunk + 1);
    uvec4 low_q = w.q & 0x0f0f0f0fu, high_q = (w.q >> 4) & 0x0f0f0f0fu;
#ifdef WEIGHT_Q5_K
    const uvec4 fifths = w.fifths >> (2 * chunk);
    low_q |= (fifths & 0x01010101u) << 4;
    high_q |= (fifths & 0x02020202u) << 3;
#endif
    return low.x * nibbles_times(low_q, x, 0) + high.x * nibbles_times(high_q, x, 4) -
           (low.y * (sums.x + sums.y) + high.y * (sums.z + sums.w));
}
#endif

#if defined(WEIGHT_Q6_K)
#define WEIGHT_DOT
#define WEIGHT_SUMS
struct run_raw {
    uvec2 a, b, h, scales;
    float d;
};
run_raw run_load(uint64_t row, uint run, uint n_in)
{
    const uint64_t group = row + (run >> 6) * 1680, block = group + 16 + (run >> 3 & 7) * 208;
    const uint part = run >> 2 & 1, quarter = run & 3;
    run_raw w;
    w.a = load_u32x2(block + 64 * part + 8 * quarter);
    w.b = load_u32x2(block + 64 * part + 32 + 8 * quarter);
    w.h = load_u32x2(block + 128 + 32 * part + 8 * quarter);
    w.scales = load_u32x2(block + 192 + 8 * part);
    w.d = load_half(group + 2 * (run >> 3 & 7));
    return w;
}
float run_times(run_raw w, uint run, vec4 x[8], vec4 sums)
{
    const uvec2 q[4] = {(w.a & 0x0f0f0f0fu) | (w.h & 0x03030303u) << 4, (w.b & 0x0f0f0f0fu) | (w.h & 0x0c0c0c0cu) << 2,
                        ((w.a >> 4) & 0x0f0f0f0fu) | (w.h & 0x30303030u),
                        ((w.b >> 4) & 0x0f0f0f0fu) | ((w.h >> 2) & 0x30303030u)};
    float sum = 0.0;
    [[unroll]] for (uint s = 0; s < 4; s++) {
        const float scale = float(signed_byte_of(w.scales[s / 2], 2 * (s % 2) + (run >> 1 & 1)));
        const float product = total(fma(levels(q[s].y), x[2 * s + 1], levels(q[s].x) * x[2 * s]));
        sum = fma(scale, fma(-32.0, sums[s], product), sum);
    }
    return w.d * sum;
}
#endif

#if defined(WEIGHT_Q8_0)
#define WEIGHT_DOT
struct run_raw {
    uvec4 low, high;
    float d;
};
run_raw run_load(uint64_t row, uint run, uint n_in)
{
    const uint64_t group = row + (run >> 3) * 272;
    run_raw w;
    w.low = load_u32x4(group + 16 + 32 * (run & 7));
    w.high = load_u32x4(group + 32 + 32 * (run & 7));
    w.d = load_half(group + 2 * (run & 7));
    return w;
}
float run_times(run_raw w, uint run, vec4 x[8], vec4 sums)
{
    vec4 sum = signed_levels(w.low.x) * x[0];
    [[unroll]] for (uint i = 1; i < 4; i++) sum = fma(signed_levels(w.low[i]), x[i], sum);
    [[unroll]] for (uint i = 0; i < 4; i++) sum = fma(signed_levels(w.high[i]), x[4 + i], sum);
    return w.d * total(sum);
}
#endif

#if defined(WEIGHT_Q4_0) || defined(WEIGHT_Q4_1) || defined(WEIGHT_Q5_0) || defined(WEIGHT_Q5_1)
#define WEIGHT_DOT
#define WEIGHT_SUMS
struct run_raw {
    uvec4 q;
    uint high;
    vec2 line; // weight = line.x * level + line.y
};
run_raw run_load(uint64_t row, uint run, uint n_in)
{
    run_raw w;
    w.high = 0;
#if defined(WEIGHT_Q4_0)
    const uint64_t group = row + (run >> 3) * 144;
    w.q = load_u32x4(group + 16 + 16 * (run & 7));
    w.line = load_half(group + 2 * (run & 7)) * vec2(1.0, -8.0);
#elif defined(WEIGHT_Q4_1)
    const uint64_t group = row + (run >> 3) * 160;
    w.q = load_u32x4(group + 32 + 16 * (run & 7));
    w.line = unpackHalf2x16(u32_in(group + 4 * (run & 7)).v[0]);
#elif defined(WEIGHT_Q5_0)
    const uint64_t group = row + (run >> 3) * 176;
    w.q = load_u32x4(group + 48 + 16 * (run & 7));
    w.high = u32_in(group + 16 + 4 * (run & 7)).v[0];
    w.line = load_half(group + 2 * (run & 7)) * vec2(1.0, -16.0);
#else
    const uint64_t group = row + (run >> 3) * 192;
    const uvec2 head = load_u32x2(group + 8 * (run & 7));
    w.q = load_u32x4(group + 64 + 16 * (run & 7));
    w.high = head.y;
    w.line = unpackHalf2x16(head.x);
#endif
    return w;
}
// Four neighbouring bits, from bit `at` on, as the fifths of four bytes.
uint fifths_of(uint high, uint at)
{
    return ((bitfieldExtract(high, int(at), 4) * 0x00204081u) & 0x01010101u) << 4;
}
float run_times(run_raw w, uint run, vec4 x[8], vec4 sums)
{
    uvec4 low = w.q & 0x0f0f0f0fu, high = (w.q >> 4) & 0x0f0f0f0fu;
#if defined(WEIGHT_Q5_0) || defined(WEIGHT_Q5_1)
    [[unroll]] for (uint i = 0; i < 4; i++) {
        low[i] |= fifths_of(w.high, 4 * i);
        high[i] |= fifths_of(w.high, 16 + 4 * i);
    }
#endif
    return w.line.x * (nibbles_times(low, x, 0) + nibbles_times(high, x, 4)) + w.line.y * total(sums);
}
#endif

#if defined(WEIGHT_Q2_K)
#define WEIGHT_DOT
#define WEIGHT_SUMS
struct run_raw {
    uvec2 scales, q;
    vec2 d;
};
run_raw run_load(uint64_t row, uint run, uint n_in)
{
    const uint64_t group = row + (run >> 6) * 672, block = group + 32 + (run >> 3 & 7) * 80;
    const uint part = run >> 2 & 1, quarter = run & 3;
    run_raw w;
    w.d = unpackHalf2x16(u32_in(group + 4 * (run >> 3 & 7)).v[0]);
    w.scales = load_u32x2(block + 8 * part);
    w.q = load_u32x2(block + 16 + 32 * part + 8 * quarter);
    return w;
}
float run_times(run_raw w, uint run, vec4 x[8], vec4 sums)
{
    vec2 sum = vec2(0.0);
    [[unroll]] for (uint s = 0; s < 4; s++) {
        const uint both = byte_of(w.scales[s / 2], 2 * (s % 2) + (run >> 1 & 1));
        const uvec2 q = (w.q >> (2 * s)) & 0x03030303u;
        const float product = total(fma(levels(q.y), x[2 * s + 1], levels(q.x) * x[2 * s]));
        sum = fma(vec2(float(both & 15), float(both >> 4)), vec2(product, sums[s]), sum);
    }
    return w.d.x * sum.x - w.d.y * sum.y;
}
#endif

#if defined(WEIGHT_Q3_K)
#define WEIGHT_DOT
#define WEIGHT_SUMS
struct run_raw {
    uvec2 thirds, q;
    uint scales[3];
    float d;
};
run_raw run_load(uint64_t row, uint run, uint n_in)
{
    const uint64_t group = row + (run >> 6) * 880, block = group + 112 + (run >> 3 & 7) * 96;
    const uint part = run >> 2 & 1, quarter = run & 3;
    u32_in packed = u32_in(group + 16 + 12 * (run >> 3 & 7));
    run_raw w;
    w.d = load_half(group + 2 * (run >> 3 & 7));
    [[unroll]] for (uint i = 0; i < 3; i++) w.scales[i] = packed.v[i];
    w.thirds = load_u32x2(block + 8 * quarter) >> (4 * part);
    w.q = load_u32x2(block + 32 + 32 * part + 8 * quarter);
    return w;
}
float run_times(run_raw w, uint run, vec4 x[8], vec4 sums)
{
    const uint first = 8 * (run >> 2 & 1) + (run >> 1 & 1);
    float sum = 0.0;
    [[unroll]] for (uint s = 0; s < 4; s++) {
        const uvec2 q = ((w.q >> (2 * s)) & 0x03030303u) | ((w.thirds >> s) & 0x01010101u) << 2;
        const float product = total(fma(levels(q.y), x[2 * s + 1], levels(q.x) * x[2 * s]));
        sum = fma(float(scale_of(w.scales, first + 2 * s)), fma(-4.0, sums[s], product), sum);
    }
    return w.d * sum;
}
#endif

#if defined(WEIGHT_IQ4_NL) || defined(WEIGHT_IQ4_XS)
#define WEIGHT_DOT
struct run_raw {
    uvec4 q;
    float d;
};
run_raw run_load(uint64_t row, uint run, uint n_in)
{
    run_raw w;
#ifdef WEIGHT_IQ4_NL
    const uint64_t group = row + (run >> 3) * 144;
    w.q = load_u32x4(group + 16 + 16 * (run & 7));
    w.d = load_half(group + 2 * (run & 7));
#else
    const uint64_t block = row + (run >> 3) * 136, body = block + 8 + 16 * (run & 7);
    const uvec2 head = load_u32x2(block);
    const uint low = bitfieldExtract(head.y, int(4 * (run & 7)), 4), high = bitfieldExtract(head.x, int(16 + 2 * (run & 7)), 2);
    w.q = uvec4(load_u32x2(body), load_u32x2(body + 8));
    w.d = half_to_float(head.x) * float(int(low | high << 4) - 32);
#endif
    return w;
}
vec4 values_of(uint word) // of the low nibbles of its bytes
{
    return vec4(value_of(word & 15), value_of(bitfieldExtract(word, 8, 4)), value_of(bitfieldExtract(word, 16, 4)),
                value_of(bitfieldExtract(word, 24, 4)));
}
float run_times(run_raw w, uint run, vec4 x[8], vec4 sums)
{
    vec4 sum = values_of(w.q.x) * x[0];
    [[unroll]] for (uint i = 1; i < 4; i++) sum = fma(values_of(w.q[i]), x[i], sum);
    [[unroll]] for (uint i = 0; i < 4; i++) sum = fma(values_of(w.q[i] >> 4), x[4 + i], sum);
    return w.d * total(sum);
}
#endif

// Products of decoded weights.
float decoded_times(float w[RUN], vec4 x[8])
{
    vec4 sum = vec4(0.0);
    [[unroll]] for (uint i = 0; i < 8; i++)
        sum = fma(vec4(w[4 * i], w[4 * i + 1], w[4 * i + 2], w[4 * i + 3]), x[i], sum);
    return total(sum);
}

#if defined(WEIGHT_BITS)
#define WEIGHT_DOT
#define run_raw run_bits
run_raw run_load(uint64_t row, uint run, uint n_in)
{
    return bits_load(row, run);
}
float run_times(run_raw raw, uint run, vec4 x[8], vec4 sums)
{
    float w[RUN];
    bits_decode(raw, w);
    return decoded_times(w, x);
}
#endif

// Other formats are decoded as they are loaded.
#ifndef WEIGHT_DOT
struct run_raw {
    float w[RUN];
};
run_raw run_load(uint64_t row, uint run, uint n_in)
{
    run_raw raw;
    load_w(row, run, n_in, raw.w);
    return raw;
}
float run_times(run_raw raw, uint run, vec4 x[8], vec4 sums)
{
    return decoded_times(raw.w, x);
}
#endif
