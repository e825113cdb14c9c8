// SPDX-License-Identifier: MIT
//
// A run of weights as halves, in two steps, so that other work goes between the loads and what needs their results:
//
//   struct run_raw                             what was loaded
//   run_raw run_fetch(row, run, n_in)
//   void run_halves(raw, run, out uvec4 h[4])  h[s]: the eight neighbours of segment s
//
// Of every four neighbours 0 and 2 make a word and 1 and 3 the next, as bytes lie; pack.comp has activations alike.
//
// Formats without a fetch of their own here decode at once. Numbers beyond what a half holds become the greatest half:
// scales of blocks are halves themselves, but F32, BF16 and MXFP4 reach further.

uvec4 halves_of(float w[RUN], uint s)
{
    uvec4 h;
    [[unroll]] for (uint i = 0; i < 4; i++) {
        const uint at = 8 * s + 4 * (i / 2) + i % 2;
        vec2 pair = vec2(w[at], w[at + 2]);
#if defined(WEIGHT_F32) || defined(WEIGHT_BF16) || defined(WEIGHT_MXFP4)
        pair = clamp(pair, vec2(-65504.0), vec2(65504.0));
#endif
        h[i] = packHalf2x16(pair);
    }
    return h;
}

#if defined(WEIGHT_Q4_K)

struct run_raw {
    uvec4 head, q;
};
run_raw run_fetch(uint64_t row, uint run, uint n_in)
{
    const uint64_t block = row + (run >> 3) * 144;
    return run_raw(load_u32x4(block), load_u32x4(block + 16 + 16 * (run & 7)));
}
// Two levels of 0 to 15, in the low bits of two halves, on a line. 1024 + level is exact in a half, and so is what is
// left of it less 1032; about the middle of the levels little is rounded.
uint levels_line(uint levels, f16vec2 scale, f16vec2 middle)
{
    return packFloat2x16((unpackFloat2x16(levels | 0x64006400u) - f16vec2(1032.0)) * scale + middle);
}
void run_halves(run_raw raw, uint run, out uvec4 h[4])
{
    const uint chunk = (run >> 1) & 3;
    const vec2 d = unpackHalf2x16(raw.head.x);
    [[unroll]] for (uint s = 0; s < 4; s++) {
        const vec2 line = d * scale_min(raw.head.yzw, 2 * chunk + s / 2);
        const f16vec2 scale = f16vec2(line.x), middle = f16vec2(8.0 * line.x - line.y);
        [[unroll]] for (uint i = 0; i < 2; i++) {
            const uint q = raw.q[2 * (s % 2) + i] >> (4 * (s / 2));
            h[s][2 * i] = levels_line(q & 0x000f000fu, scale, middle);
            h[s][2 * i + 1] = levels_line(q >> 8 & 0x000f000fu, scale, middle);
        }
    }
}

#elif defined(WEIGHT_Q6_K)

struct run_raw {
    uvec2 a, b, high, scales;
    uint d;
};
run_raw run_fetch(uint64_t row, uint run, uint n_in)
{
    const uint64_t group = row + (run >> 6) * 1680, block = group + 16 + (run >> 3 & 7) * 208;
    const uint part = run >> 2 & 1, quarter = run & 3;
    return run_raw(load_u32x2(block + 64 * part + 8 * quarter), load_u32x2(block + 64 * part + 32 + 8 * quarter),
                   load_u32x2(block + 128 + 32 * part + 8 * quarter), load_u32x2(block + 192 + 8 * part),
                   uint(u16_in(group + 2 * (run >> 3 & 7)).v[0]));
}
void run_halves(run_raw raw, uint run, out uvec4 h[4])
{
    const uint quarter = run & 3;
    const float d = half_to_float(raw.d);
    [[unroll]] for (uint s = 0; s < 4; s++) {
        const float scale = d * float(signed_byte_of(raw.scales[s / 2], 2 * (s % 2) + (quarter >> 1)));
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint low = (s % 2 == 0 ? raw.a[i / 2] : raw.b[i / 2]) >> (4 * (s / 2) + 8 * (i % 2));
            const uint high = raw.high[i / 2] >> (2 * s + 8 * (i % 2));
            const ivec2 q = ivec2(low & 15 | (high & 3) << 4, low >> 16 & 15 | (high >> 16 & 3) << 4) - 32;
            h[s][i] = packHalf2x16(scale * vec2(q));
        }
    }
}

#elif defined(WEIGHT_BITS)

#define run_raw run_bits
run_raw run_fetch(uint64_t row, uint run, uint n_in)
{
    return bits_load(row, run);
}
void run_halves(run_raw raw, uint run, out uvec4 h[4])
{
    float w[RUN];
    bits_decode(raw, w);
    [[unroll]] for (uint s = 0; s < 4; s++) h[s] = halves_of(w, s);
}

#else

struct run_raw {
    uvec4 h[4];
};
run_raw run_fetch(uint64_t row, uint run, uint n_in)
{
    run_raw raw;
    float w[RUN];
    load_w(row, run, n_in, w);
    [[unroll]] for (uint s = 0; s < 4; s++) raw.h[s] = halves_of(w, s);
    return raw;
}
void run_halves(run_raw raw, uint run, out uvec4 h[4])
{
    h = raw.h;
}

#endif
