// SPDX-License-Identifier: MIT
//
// A run of weights as halves, in two steps, so that other work goes between the loads and what needs their results:
//
//   struct run_raw                             what was loaded
//   run_raw run_fetch(row, run, n_in)
//   void run_halves(raw, run, out uvec4 h[4])  h[s]: the eight neighbours of segment s
//
// Formats without a fetch of their own here decode at once. Numbers beyond what a half holds become the greatest half:
// scales of blocks are halves themselves, but F32, BF16 and MXFP4 reach further.

uvec4 halves_of(float w[RUN], uint s)
{
    uvec4 h;
    [[unroll]] for (uint i = 0; i < 4; i++) {
        vec2 pair = vec2(w[8 * s + 2 * i], w[8 * s + 2 * i + 1]);
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
void run_halves(run_raw raw, uint run, out uvec4 h[4])
{
    const uint chunk = (run >> 1) & 3;
    const vec2 d = unpackHalf2x16(raw.head.x);
    [[unroll]] for (uint s = 0; s < 4; s++) {
        const vec2 line = d * scale_min(raw.head.yzw, 2 * chunk + s / 2);
        [[unroll]] for (uint i = 0; i < 4; i++) {
            const uint q = raw.q[2 * (s % 2) + i / 2] >> (4 * (s / 2) + 16 * (i % 2));
            h[s][i] = packHalf2x16(vec2(float(q & 15), float(q >> 8 & 15)) * line.x - line.y);
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
            const uint low = (s % 2 == 0 ? raw.a[i / 2] : raw.b[i / 2]) >> (4 * (s / 2) + 16 * (i % 2));
            const uint high = raw.high[i / 2] >> (2 * s + 16 * (i % 2));
            const ivec2 q = ivec2(low & 15 | (high & 3) << 4, low >> 8 & 15 | (high >> 8 & 3) << 4) - 32;
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
