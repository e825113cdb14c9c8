#version 460
// SPDX-License-Identifier: MIT
//
// mla_split.comp on cooperative matrices, for rows kept as f16: a workgroup takes 16 queries (t, h) and one split of the
// rows, KEYS rows at a time through shared memory. Of the scores a subgroup sums a quarter of the channels for all keys;
// of the result it makes a quarter of the latent channels. Rows past the last one are whatever a block holds: finite,
// and weighted by 0.
//
// Workgroups: (splits, tiles of queries), each of four subgroups. R and R + P are multiples of 64.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint R = 512;
layout(constant_id = 3) const uint P = 64;
const uint DTYPE = 1;
#include "mla_row.glsl"
#include "mla_coop.glsl"

const uint SUBGROUPS = 4, KEYS = 32, TEAM = 8; // TEAM: invocations that share a query's softmax
const uint WIDTH = R + P, SLICES = R / SIDE / SUBGROUPS, STEPS = WIDTH / SIDE / SUBGROUPS;
// In words of 16 bytes, floats, halves; all with something added against bank conflicts.
const uint ROW_WORDS = WIDTH / 8, ROW_PITCH = ROW_WORDS + 1, SCORE_PITCH = KEYS + 4, WEIGHT_PITCH = KEYS + 8;
const uint SCORES = SIDE * SCORE_PITCH;

layout(push_constant) uniform push {
    params_mla_split p;
};

shared uvec4 tile[KEYS * ROW_PITCH]; // rows; at first the queries
shared float scores[SUBGROUPS * SCORES];
shared float16_t weights[SIDE * WEIGHT_PITCH];
shared float keeps[SIDE * SIDE]; // what becomes of each query's sums, in every column

HALF_A queries[STEPS];

vec2 load_query(uint query, uint i)
{
    f32_in from = f32_in(i < R ? p.qa + uint64_t(query * R + i) * 4
                               : p.q + uint64_t(query * (p.nope + P) + p.nope + i - R) * 4);
    return vec2(from.v[0], from.v[1]) * p.scale;
}

void load_queries(uint first)
{
    const uint count = p.n * p.n_head;
    for (uint i = gl_LocalInvocationID.x; i < SIDE * ROW_WORDS; i += GROUP) {
        const uint query = min(first + i / ROW_WORDS, count - 1), channel = i % ROW_WORDS * 8;
        uvec4 word;
        [[unroll]] for (uint k = 0; k < 4; k++) word[k] = packHalf2x16(load_query(query, channel + 2 * k));
        tile[i / ROW_WORDS * ROW_PITCH + i % ROW_WORDS] = word;
    }
    barrier();
    [[unroll]] for (uint i = 0; i < STEPS; i++)
        coopMatLoad(queries[i], tile, (gl_SubgroupID * STEPS + i) * 2, ROW_PITCH, gl_CooperativeMatrixLayoutRowMajor);
    barrier();
}

void load_rows(uint key)
{
    const uint64_t rows = row_address(p.table, p.layer, p.row_bytes, key);
    [[unroll]] for (uint i = 0; i < (KEYS * ROW_WORDS + 127) / 128; i++) {
        const uint at = gl_LocalInvocationID.x + i * 128;
        if (at < KEYS * ROW_WORDS) tile[at / ROW_WORDS * ROW_PITCH + at % ROW_WORDS] = load_u32x4(rows + 16 * at);
    }
}

void score()
{
    [[unroll]] for (uint k = 0; k < KEYS / SIDE; k++) {
        SUMS found = SUMS(0.0);
        [[unroll]] for (uint i = 0; i < STEPS; i++) {
            HALF_B b;
            coopMatLoad(b, tile, k * SIDE * ROW_PITCH + (gl_SubgroupID * STEPS + i) * 2, ROW_PITCH,
                        gl_CooperativeMatrixLayoutColumnMajor);
            found = coopMatMulAdd(queries[i], b, found);
        }
        coopMatStore(found, scores, gl_SubgroupID * SCORES + k * SIDE, SCORE_PITCH,
                     gl_CooperativeMatrixLayoutRowMajor);
    }
}

// Scores of a tile become weights. most and total are those of this invocation's query so far, total of its keys only.
void soften(uint key, uint sees, inout float most, inout float total)
{
    const uint row = gl_LocalInvocationID.x / TEAM, part = gl_LocalInvocationID.x % TEAM;
    float x[KEYS / TEAM], high = most;
    [[unroll]] for (uint i = 0; i < KEYS / TEAM; i++) {
        const uint at = i * TEAM + part;
        x[i] = 0.0;
        [[unroll]] for (uint s = 0; s < SUBGROUPS; s++) x[i] += scores[s * SCORES + row * SCORE_PITCH + at];
        x[i] = key + at < sees ? x[i] : LOWEST;
        high = max(high, x[i]);
    }
    [[unroll]] for (uint m = 1; m < TEAM; m *= 2) high = max(high, subgroupShuffleXor(high, m));
    const float keep = exp(most - high);
    total *= keep;
    [[unroll]] for (uint i = 0; i < KEYS / TEAM; i++) {
        const uint at = i * TEAM + part;
        const float weight = key + at < sees ? exp(x[i] - high) : 0.0;
        total += weight;
        weights[row * WEIGHT_PITCH + at] = float16_t(weight);
    }
    [[unroll]] for (uint i = 0; i < SIDE / TEAM; i++) keeps[row * SIDE + i * TEAM + part] = keep;
    most = high;
}

void add_rows(inout SUMS sums[SLICES])
{
    SUMS keep;
    coopMatLoad(keep, keeps, 0, SIDE, gl_CooperativeMatrixLayoutRowMajor);
    [[unroll]] for (uint s = 0; s < SLICES; s++) sums[s] = sums[s] * keep;
    [[unroll]] for (uint k = 0; k < KEYS; k += SIDE) {
        HALF_A a;
        coopMatLoad(a, weights, k, WEIGHT_PITCH, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            HALF_B b;
            coopMatLoad(b, tile, k * ROW_PITCH + (gl_SubgroupID * SLICES + s) * 2, ROW_PITCH,
                        gl_CooperativeMatrixLayoutRowMajor);
            sums[s] = coopMatMulAdd(a, b, sums[s]);
        }
    }
}

void main()
{
    const uint split = gl_WorkGroupID.x, first = gl_WorkGroupID.y * SIDE;
    const uint query = first + gl_LocalInvocationID.x / TEAM, count = p.n * p.n_head;
    const uint begin = split * p.keys, last = p.first + (min(first + SIDE, count) - 1) / p.n_head;
    const uint end = min(begin + p.keys, last + 1);
    const uint sees = min(p.first + min(query, count - 1) / p.n_head + 1, end);
    float most = LOWEST, total = 0.0;
    SUMS sums[SLICES];
    [[unroll]] for (uint s = 0; s < SLICES; s++) sums[s] = SUMS(0.0);
    load_queries(first);
    [[dont_unroll]] for (uint key = begin; key < end; key += KEYS) {
        load_rows(key);
        barrier();
        score();
        barrier();
        soften(key, sees, most, total);
        barrier();
        add_rows(sums);
        barrier();
    }
    sums_ref part = sums_ref(p.part + uint64_t(split * p.pitch + first) * R * 4);
    [[unroll]] for (uint s = 0; s < SLICES; s++)
        coopMatStore(sums[s], part.v, (gl_SubgroupID * SLICES + s) * SIDE, R, gl_CooperativeMatrixLayoutRowMajor);
    [[unroll]] for (uint m = 1; m < TEAM; m *= 2) total += subgroupShuffleXor(total, m);
    if (gl_LocalInvocationID.x % TEAM == 0) {
        f32_ref of_split = f32_ref(p.totals + uint64_t(split * p.pitch + query) * 8);
        of_split.v[0] = most;
        of_split.v[1] = total;
    }
}
