#version 460
// SPDX-License-Identifier: MIT
//
// Chunked KDA, pass 1: everything that needs no state, for each (head, chunk of 16 tokens). Leaves a record, see
// params_kda.h. Tokens past the end count as k = v = q = beta = g = 0. Workgroups: (n_head, chunks).
//
// Decays only ever appear as exp(G_i - G_j) with j <= i, which is at most 1. U and W come by forward substitution
// right away: x_i = beta_i y_i - sum_{j<i} A_ij x_j with y = v or k exp(G); the inverse of I + A is never formed.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_kda.h"

layout(constant_id = 2) const uint D = 128;  // a multiple of 8
layout(constant_id = 3) const uint PARTS = 4; // neighbours that share a tile of pairs: 1, 2 or 4
const uint QUADS = D / 4;
const uint PITCH = QUADS + 1; // of a row in shared memory: odd, against bank conflicts
const uint TILES = 36;        // 2 x 2 tiles on and below the diagonal

layout(push_constant) uniform push {
    params_kda_chunk p;
};

// Rows of the chunk: k, then beta k exp(G), at KEYS; q, then beta v, at QUERIES.
const uint KEYS = 0, QUERIES = KDA_CHUNK * PITCH;
shared vec4 rows[2 * KDA_CHUNK * PITCH];
shared vec4 decays[KDA_CHUNK * PITCH]; // g, then G, its running sum
shared float betas[KDA_CHUNK];
shared float coupling[KDA_CHUNK * KDA_CHUNK]; // A_kk, strictly below the diagonal

// Everything lies on multiples of four floats.
void store_quad(uint64_t record, uint at, vec4 v)
{
    const uvec4 word = floatBitsToUint(v);
    u64x2_ref(record + 4 * at).v[0] = u64vec2(pack64(word.xy), pack64(word.zw));
}

void load_chunk(uint self, uint first, uint head)
{
    const uint width = p.n_head * D;
    for (uint i = self; i < KDA_CHUNK * QUADS; i += GROUP) {
        const uint t = i / QUADS, quad = i % QUADS, at = (first + t) * width + head * D + quad * 4;
        const bool in_range = first + t < p.n;
        rows[KEYS + t * PITCH + quad] = in_range ? load_f32x4(p.k + 4ul * at) : vec4(0);
        rows[QUERIES + t * PITCH + quad] = in_range ? load_f32x4(p.q + 4ul * at) : vec4(0);
        decays[t * PITCH + quad] = in_range ? load_f32x4(p.g + 4ul * at) : vec4(0);
    }
    if (self < KDA_CHUNK)
        betas[self] = first + self < p.n ? f32_ref(p.beta).v[(first + self) * p.n_head + head] : 0;
    barrier();
    for (uint quad = self; quad < QUADS; quad += GROUP) {
        vec4 sum = vec4(0);
        for (uint t = 0; t < KDA_CHUNK; t++) {
            sum += decays[t * PITCH + quad];
            decays[t * PITCH + quad] = sum;
        }
    }
    barrier();
}

// exp(G_i - G_j); above the diagonal, where nobody reads the result, clipped to stay finite
vec4 decay_between(vec4 gi, vec4 gj)
{
    return exp(min(gi - gj, vec4(0)));
}

// The 2 x 2 pairs of rows 2a, 2a + 1 with columns 2b, 2b + 1 of A_kk and A_qk.
void pair_tile(uint a, uint b, uint part, f32_ref record)
{
    vec4 kk = vec4(0), qk = vec4(0); // (0,0) (0,1) (1,0) (1,1)
    for (uint quad = part; quad < QUADS; quad += PARTS) {
        const uint i0 = 2 * a * PITCH + quad, j0 = 2 * b * PITCH + quad;
        const vec4 gi0 = decays[i0], gi1 = decays[i0 + PITCH], gj0 = decays[j0], gj1 = decays[j0 + PITCH];
        const vec4 ki0 = rows[KEYS + i0], ki1 = rows[KEYS + i0 + PITCH], kj0 = rows[KEYS + j0], kj1 = rows[KEYS + j0 + PITCH];
        const vec4 qi0 = rows[QUERIES + i0], qi1 = rows[QUERIES + i0 + PITCH];
        vec4 e = kj0 * decay_between(gi0, gj0);
        kk.x += dot(ki0, e);
        qk.x += dot(qi0, e);
        e = kj1 * decay_between(gi0, gj1);
        kk.y += dot(ki0, e);
        qk.y += dot(qi0, e);
        e = kj0 * decay_between(gi1, gj0);
        kk.z += dot(ki1, e);
        qk.z += dot(qi1, e);
        e = kj1 * decay_between(gi1, gj1);
        kk.w += dot(ki1, e);
        qk.w += dot(qi1, e);
    }
    [[unroll]] for (uint m = 1; m < PARTS; m *= 2) {
        kk += subgroupShuffleXor(kk, m);
        qk += subgroupShuffleXor(qk, m);
    }
    for (uint i = part; i < 4; i += PARTS) {
        const uint row = 2 * a + i / 2, column = 2 * b + i % 2;
        coupling[row * KDA_CHUNK + column] = betas[row] * kk[i];
        record.v[65 * D + row * KDA_CHUNK + column] = qk[i];
    }
}

// q exp(G), k exp(G_last - G) and exp(G_last) go to the record; right-hand sides take the places of k and q.
void decay_rows(uint self, uint first, uint head, uint64_t record)
{
    for (uint i = self; i < KDA_CHUNK * QUADS; i += GROUP) {
        const uint t = i / QUADS, quad = i % QUADS, at = t * PITCH + quad, block = quad / 2, inside = quad % 2 * 4;
        const vec4 last = decays[(KDA_CHUNK - 1) * PITCH + quad], g = decays[at], k = rows[KEYS + at];
        const vec4 decay = exp(g), qe = rows[QUERIES + at] * decay, ke = k * exp(last - g);
        vec4 v = vec4(0);
        if (first + t < p.n) v = load_f32x4(p.v + 4ul * (((first + t) * p.n_head + head) * D + quad * 4));
        store_quad(record, block * 256 + t * 16 + 8 + inside, qe);
        store_quad(record, 32 * D + block * 128 + t * 8 + inside, ke);
        if (t == KDA_CHUNK - 1) store_quad(record, 64 * D + quad * 4, decay);
        rows[KEYS + at] = betas[t] * k * decay;
        rows[QUERIES + at] = betas[t] * v;
    }
}

// Four columns of U or W. Element (i, c) goes to record[to + i * pitch + c].
void solve(uint from, uint64_t record, uint to, uint pitch)
{
    vec4 x[KDA_CHUNK];
    [[unroll]] for (uint i = 0; i < KDA_CHUNK; i++) {
        x[i] = rows[from + i * PITCH];
        [[unroll]] for (uint j = 0; j < i; j++) x[i] -= coupling[i * KDA_CHUNK + j] * x[j];
        store_quad(record, to + i * pitch, x[i]);
    }
}

void main()
{
    const uint self = gl_LocalInvocationID.x, head = gl_WorkGroupID.x, chunk = gl_WorkGroupID.y;
    const uint first = chunk * KDA_CHUNK;
    const uint64_t record = p.records + 4ul * KDA_RECORD(D) * (chunk * p.n_head + head);
    load_chunk(self, first, head);
    for (uint tile = self / PARTS; tile < TILES; tile += GROUP / PARTS) {
        uint a = 0;
        while ((a + 1) * (a + 2) / 2 <= tile)
            a++;
        pair_tile(a, tile - a * (a + 1) / 2, self % PARTS, f32_ref(record));
    }
    barrier();
    decay_rows(self, first, head, record);
    barrier();
    for (uint i = self; i < 2 * QUADS; i += GROUP) {
        const bool is_u = i < QUADS;
        const uint quad = is_u ? i : i - QUADS;
        solve((is_u ? QUERIES : KEYS) + quad, record, is_u ? 48 * D + quad * 4 : quad / 2 * 256 + quad % 2 * 4,
              is_u ? D : 16);
    }
}
