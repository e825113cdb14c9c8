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

layout(constant_id = 2) const uint D = 128; // a multiple of 8
const uint QUADS = D / 4;
const uint PITCH = QUADS + 1; // of a row in shared memory: odd, against bank conflicts
const uint TILES = 36;        // 2 x 2 tiles on and below the diagonal

layout(push_constant) uniform push {
    params_kda_chunk p;
};

shared vec4 keys[KDA_CHUNK * PITCH];
shared vec4 queries[KDA_CHUNK * PITCH];
shared vec4 decays[KDA_CHUNK * PITCH]; // g, then G, its running sum
shared float betas[KDA_CHUNK];
shared float coupling[KDA_CHUNK * KDA_CHUNK]; // A_kk, strictly below the diagonal

vec4 load_quad(f32_ref x, uint at)
{
    return vec4(x.v[at], x.v[at + 1], x.v[at + 2], x.v[at + 3]);
}

void load_chunk(uint self, uint first, uint head)
{
    const uint width = p.n_head * D;
    for (uint i = self; i < KDA_CHUNK * QUADS; i += GROUP) {
        const uint t = i / QUADS, quad = i % QUADS, at = (first + t) * width + head * D + quad * 4;
        const bool in_range = first + t < p.n;
        keys[t * PITCH + quad] = in_range ? load_quad(f32_ref(p.k), at) : vec4(0);
        queries[t * PITCH + quad] = in_range ? load_quad(f32_ref(p.q), at) : vec4(0);
        decays[t * PITCH + quad] = in_range ? load_quad(f32_ref(p.g), at) : vec4(0);
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
void pair_tile(uint a, uint b, f32_ref record)
{
    vec4 kk = vec4(0), qk = vec4(0); // (0,0) (0,1) (1,0) (1,1)
    for (uint quad = 0; quad < QUADS; quad++) {
        const uint i0 = 2 * a * PITCH + quad, j0 = 2 * b * PITCH + quad;
        const vec4 gi0 = decays[i0], gi1 = decays[i0 + PITCH], gj0 = decays[j0], gj1 = decays[j0 + PITCH];
        const vec4 ki0 = keys[i0], ki1 = keys[i0 + PITCH], kj0 = keys[j0], kj1 = keys[j0 + PITCH];
        const vec4 qi0 = queries[i0], qi1 = queries[i0 + PITCH];
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
    [[unroll]] for (uint i = 0; i < 4; i++) {
        const uint row = 2 * a + i / 2, column = 2 * b + i % 2;
        coupling[row * KDA_CHUNK + column] = betas[row] * kk[i];
        record.v[65 * D + row * KDA_CHUNK + column] = qk[i];
    }
}

void substitute(inout vec4 x[KDA_CHUNK])
{
    [[unroll]] for (uint i = 1; i < KDA_CHUNK; i++)
        [[unroll]] for (uint j = 0; j < i; j++)
            x[i] -= coupling[i * KDA_CHUNK + j] * x[j];
}

void solve_u(uint quad, uint first, uint head, f32_ref record)
{
    vec4 x[KDA_CHUNK];
    [[unroll]] for (uint i = 0; i < KDA_CHUNK; i++) {
        const uint at = ((first + i) * p.n_head + head) * D + quad * 4;
        x[i] = first + i < p.n ? betas[i] * load_quad(f32_ref(p.v), at) : vec4(0);
    }
    substitute(x);
    [[unroll]] for (uint i = 0; i < KDA_CHUNK; i++)
        [[unroll]] for (uint c = 0; c < 4; c++)
            record.v[48 * D + i * D + quad * 4 + c] = x[i][c];
}

void solve_w(uint quad, f32_ref record)
{
    const vec4 last = decays[(KDA_CHUNK - 1) * PITCH + quad];
    const uint block = quad / 2, inside = quad % 2 * 4;
    vec4 x[KDA_CHUNK];
    [[unroll]] for (uint i = 0; i < KDA_CHUNK; i++) {
        const vec4 g = decays[i * PITCH + quad], k = keys[i * PITCH + quad];
        const vec4 decay = exp(g), qe = queries[i * PITCH + quad] * decay, ke = k * exp(last - g);
        x[i] = betas[i] * k * decay;
        [[unroll]] for (uint c = 0; c < 4; c++) {
            record.v[block * 256 + i * 16 + 8 + inside + c] = qe[c];
            record.v[32 * D + block * 128 + i * 8 + inside + c] = ke[c];
        }
    }
    substitute(x);
    const vec4 through = exp(last);
    [[unroll]] for (uint c = 0; c < 4; c++) {
        record.v[64 * D + quad * 4 + c] = through[c];
        [[unroll]] for (uint i = 0; i < KDA_CHUNK; i++)
            record.v[block * 256 + i * 16 + inside + c] = x[i][c];
    }
}

void main()
{
    const uint self = gl_LocalInvocationID.x, head = gl_WorkGroupID.x, chunk = gl_WorkGroupID.y;
    const uint first = chunk * KDA_CHUNK;
    f32_ref record = f32_ref(p.records + 4ul * KDA_RECORD(D) * (chunk * p.n_head + head));
    load_chunk(self, first, head);
    for (uint tile = self; tile < TILES; tile += GROUP) {
        uint a = 0;
        while ((a + 1) * (a + 2) / 2 <= tile)
            a++;
        pair_tile(a, tile - a * (a + 1) / 2, record);
    }
    barrier();
    for (uint i = self; i < 2 * QUADS; i += GROUP) {
        if (i < QUADS)
            solve_u(i, first, head, record);
        else
            solve_w(i - QUADS, record);
    }
}
