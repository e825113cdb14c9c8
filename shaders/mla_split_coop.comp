#version 460
// SPDX-License-Identifier: MIT
//
// mla_split.comp on cooperative matrices, for rows kept as f16: a workgroup takes 16 queries (t, h) and one split of the
// rows, KEYS rows at a time. Scores are products with rows as they lie in memory; the sums of a subgroup are a slice of
// the latent channels. Rows past the last one are whatever a block holds: finite, and weighted by 0.
//
// Workgroups: (splits, tiles of queries), each of four subgroups. R is a multiple of 64, P of 16.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint R = 512;
layout(constant_id = 3) const uint P = 64;
const uint DTYPE = 1;
#include "mla_row.glsl"
#include "mla_coop.glsl"

const uint KEYS = 64, TEAM = 8; // TEAM: invocations that share a query's softmax
const uint WIDTH = R + P, SLICES = R / 64; // 16-channel slices of a subgroup
const uint QUERY_PITCH = WIDTH + 8, SCORE_PITCH = KEYS + 4, WEIGHT_PITCH = KEYS + 8; // against bank conflicts

layout(push_constant) uniform push {
    params_mla_split p;
};
shared float16_t queries[SIDE * QUERY_PITCH];
shared float16_t weights[SIDE * WEIGHT_PITCH];
shared float scores[SIDE * SCORE_PITCH];
shared float keeps[SIDE * SIDE]; // of each query, in every column

float load_query(uint query, uint i)
{
    return i < R ? f32_in(p.qa).v[query * R + i] : f32_in(p.q).v[query * (p.nope + P) + p.nope + i - R];
}

void load_queries(uint first)
{
    const uint count = p.n * p.n_head;
    for (uint i = gl_LocalInvocationID.x; i < SIDE * WIDTH; i += GROUP) {
        const uint query = first + i / WIDTH;
        const float x = query < count ? load_query(query, i % WIDTH) * p.scale : 0.0;
        queries[i / WIDTH * QUERY_PITCH + i % WIDTH] = float16_t(x);
    }
}

// Sixteen keys of the subgroup against all queries.
void score(half_in rows)
{
    SUMS sums = SUMS(0.0);
    const uint own = gl_SubgroupID * SIDE;
    [[dont_unroll]] for (uint at = 0; at < WIDTH; at += 2 * SIDE) {
        [[unroll]] for (uint i = at; i < at + 2 * SIDE; i += SIDE) {
            HALF_A a;
            HALF_B b;
            coopMatLoad(a, queries, i, QUERY_PITCH, gl_CooperativeMatrixLayoutRowMajor);
            coopMatLoad(b, rows.v, own * WIDTH + i, WIDTH, gl_CooperativeMatrixLayoutColumnMajor);
            sums = coopMatMulAdd(a, b, sums);
        }
    }
    coopMatStore(sums, scores, own, SCORE_PITCH, gl_CooperativeMatrixLayoutRowMajor);
}

// Scores of a tile become weights. most and total are those of this invocation's query so far, total of its keys only.
void soften(uint key, uint sees, inout float most, inout float total)
{
    const uint row = gl_LocalInvocationID.x / TEAM, lane = gl_LocalInvocationID.x % TEAM;
    float x[KEYS / TEAM], high = most;
    [[unroll]] for (uint i = 0; i < KEYS / TEAM; i++) {
        const uint at = i * TEAM + lane;
        x[i] = key + at < sees ? scores[row * SCORE_PITCH + at] : LOWEST;
        high = max(high, x[i]);
    }
    [[unroll]] for (uint m = 1; m < TEAM; m *= 2) high = max(high, subgroupShuffleXor(high, m));
    const float keep = exp(most - high);
    total *= keep;
    [[unroll]] for (uint i = 0; i < KEYS / TEAM; i++) {
        const uint at = i * TEAM + lane;
        const float weight = key + at < sees ? exp(x[i] - high) : 0.0;
        total += weight;
        weights[row * WEIGHT_PITCH + at] = float16_t(weight);
    }
    [[unroll]] for (uint i = 0; i < SIDE / TEAM; i++) keeps[row * SIDE + i * TEAM + lane] = keep;
    most = high;
}

void main()
{
    const uint split = gl_WorkGroupID.x, first = gl_WorkGroupID.y * SIDE, slice = gl_SubgroupID * SLICES * SIDE;
    const uint query = first + gl_LocalInvocationID.x / TEAM, count = p.n * p.n_head;
    const uint begin = split * p.keys, last = p.first + (min(first + SIDE, count) - 1) / p.n_head;
    const uint end = min(begin + p.keys, last + 1);
    const uint sees = min(p.first + min(query, count - 1) / p.n_head + 1, end);
    float most = LOWEST, total = 0.0;
    SUMS sums[SLICES];
    [[unroll]] for (uint s = 0; s < SLICES; s++) sums[s] = SUMS(0.0);
    load_queries(first);
    barrier();
    [[dont_unroll]] for (uint key = begin; key < end; key += KEYS) {
        half_in rows = half_in(row_address(p.table, p.layer, p.row_bytes, key));
        score(rows);
        barrier();
        soften(key, sees, most, total);
        barrier();
        SUMS keep;
        coopMatLoad(keep, keeps, 0, SIDE, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint s = 0; s < SLICES; s++) sums[s] = sums[s] * keep;
        [[dont_unroll]] for (uint k = 0; k < KEYS; k += SIDE) {
            HALF_A a;
            coopMatLoad(a, weights, k, WEIGHT_PITCH, gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint s = 0; s < SLICES; s++) {
                HALF_B b;
                coopMatLoad(b, rows.v, k * WIDTH + slice + s * SIDE, WIDTH, gl_CooperativeMatrixLayoutRowMajor);
                sums[s] = coopMatMulAdd(a, b, sums[s]);
            }
        }
    }
    sums_ref part = sums_ref(p.part + uint64_t(split * p.pitch + first) * R * 4);
    [[unroll]] for (uint s = 0; s < SLICES; s++)
        coopMatStore(sums[s], part.v, slice + s * SIDE, R, gl_CooperativeMatrixLayoutRowMajor);
    [[unroll]] for (uint m = 1; m < TEAM; m *= 2) total += subgroupShuffleXor(total, m);
    if (gl_LocalInvocationID.x % TEAM == 0) {
        f32_ref of_split = f32_ref(p.totals + uint64_t(split * p.pitch + query) * 8);
        of_split.v[0] = most;
        of_split.v[1] = total;
    }
}
