#version 460
// SPDX-License-Identifier: MIT
//
// mla_flash.comp on cooperative matrices: keys and values as mla_expand_coop makes them, the shared part of keys from
// the rows themselves. A subgroup takes 16 tokens of a head through all keys of the range that the workgroup's tokens
// see, KEYS at a time through shared memory, with the running softmax of the ranges before.
//
// Workgroups: (tiles of 64 tokens, n_head), each of four subgroups. N + P is a multiple of 64; N, P and V are of 16.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint R = 512;
layout(constant_id = 3) const uint P = 64;
layout(constant_id = 4) const uint N = 128;
layout(constant_id = 5) const uint V = 128;
const uint DTYPE = 1;
#include "mla_row.glsl"
#include "mla_coop.glsl"

const uint SUBGROUPS = 4, KEYS = 32, TEAM = 2; // TEAM: invocations that share a token's softmax
const uint WIDTH = R + P, SLICES = V / SIDE, STEPS = (N + P) / SIDE;
// Pitches in words of 16 bytes, floats, halves; all with something added against bank conflicts.
const uint KEY_WORDS = (N + P) / 8, KEY_PITCH = KEY_WORDS + 1, VALUE_WORDS = V / 8, VALUE_PITCH = VALUE_WORDS + 1;
const uint SCORE_PITCH = KEYS + 4, WEIGHT_PITCH = KEYS + 8;
const uint SCORES = SIDE * SCORE_PITCH, WEIGHTS = SIDE * WEIGHT_PITCH, KEEPS = SIDE * SIDE; // of a subgroup

layout(push_constant) uniform push {
    params_mla_flash p;
};

shared uvec4 keys[KEYS * KEY_PITCH];
shared uvec4 values[KEYS * VALUE_PITCH];
shared float scores[SUBGROUPS * SCORES]; // and, before and after, sums on their way in and out
shared float16_t weights[SUBGROUPS * WEIGHTS]; // and queries on their way in
shared float keeps[SUBGROUPS * KEEPS];         // what becomes of each token's sums, in every column

HALF_A queries[STEPS];
SUMS sums[SLICES];

void load_queries(uint token, uint head)
{
    const uint base = gl_SubgroupID * WEIGHTS;
    [[unroll]] for (uint part = 0; part < (N + P) / KEYS; part++) {
        for (uint i = gl_SubgroupInvocationID; i < SIDE * KEYS; i += SUBGROUP) {
            const uint t = token + i / KEYS, channel = part * KEYS + i % KEYS;
            const float x = t < p.n ? f32_in(p.q).v[(t * p.n_head + head) * (N + P) + channel] * p.scale : 0.0;
            weights[base + i / KEYS * WEIGHT_PITCH + i % KEYS] = float16_t(x);
        }
        barrier();
        [[unroll]] for (uint i = 0; i < KEYS / SIDE; i++)
            coopMatLoad(queries[part * KEYS / SIDE + i], weights, base + i * SIDE, WEIGHT_PITCH,
                        gl_CooperativeMatrixLayoutRowMajor);
        barrier();
    }
}

// Sums of the ranges before, 16 channels at a time.
void load_sums(uint token, uint head)
{
    const uint base = gl_SubgroupID * SCORES;
    [[unroll]] for (uint s = 0; s < SLICES; s++) {
        sums[s] = SUMS(0.0);
        if (p.start == 0) continue;
        for (uint i = gl_SubgroupInvocationID; i < SIDE * SIDE; i += SUBGROUP) {
            const uint t = min(token + i / SIDE, p.n - 1);
            scores[base + i / SIDE * SCORE_PITCH + i % SIDE] =
                f32_ref(p.o).v[(t * p.n_head + head) * V + s * SIDE + i % SIDE];
        }
        barrier();
        coopMatLoad(sums[s], scores, base, SCORE_PITCH, gl_CooperativeMatrixLayoutRowMajor);
        barrier();
    }
}

// Multiplied by the token's factor, which lane / TEAM holds.
void write_sums(uint token, uint head, float factor)
{
    const uint base = gl_SubgroupID * SCORES;
    [[unroll]] for (uint s = 0; s < SLICES; s++) {
        coopMatStore(sums[s], scores, base, SCORE_PITCH, gl_CooperativeMatrixLayoutRowMajor);
        barrier();
        for (uint i = gl_SubgroupInvocationID; i < SIDE * SIDE; i += SUBGROUP) {
            const uint t = token + i / SIDE;
            const float x = scores[base + i / SIDE * SCORE_PITCH + i % SIDE] * subgroupShuffle(factor, i / SIDE * TEAM);
            if (t < p.n) f32_ref(p.o).v[(t * p.n_head + head) * V + s * SIDE + i % SIDE] = x;
        }
        barrier();
    }
}

void load_tile(uint head, uint key)
{
    const uint all = p.tiles * MLA_TILE, self = gl_LocalInvocationID.x;
    const uint64_t k = p.k + uint64_t(head * all + key) * N * 2, v = p.v + uint64_t(head * all + key) * V * 2;
    const uint64_t rows = row_address(p.table, p.layer, p.row_bytes, p.start + key) + R * 2;
    [[unroll]] for (uint i = 0; i < (KEYS * KEY_WORDS + 127) / 128; i++) {
        const uint at = self + i * 128, row = at / KEY_WORDS, word = at % KEY_WORDS;
        const uint64_t from = word < N / 8 ? k + 16 * (row * (N / 8) + word) : rows + 2 * row * WIDTH + 16 * word - 2 * N;
        if (at < KEYS * KEY_WORDS) keys[row * KEY_PITCH + word] = load_u32x4(from);
    }
    [[unroll]] for (uint i = 0; i < (KEYS * VALUE_WORDS + 127) / 128; i++) {
        const uint at = self + i * 128;
        if (at < KEYS * VALUE_WORDS)
            values[at / VALUE_WORDS * VALUE_PITCH + at % VALUE_WORDS] = load_u32x4(v + 16 * at);
    }
}

void score()
{
    [[unroll]] for (uint tile = 0; tile < KEYS / SIDE; tile++) {
        SUMS found = SUMS(0.0);
        [[unroll]] for (uint i = 0; i < STEPS; i++) {
            HALF_B b;
            coopMatLoad(b, keys, tile * SIDE * KEY_PITCH + 2 * i, KEY_PITCH, gl_CooperativeMatrixLayoutColumnMajor);
            found = coopMatMulAdd(queries[i], b, found);
        }
        coopMatStore(found, scores, gl_SubgroupID * SCORES + tile * SIDE, SCORE_PITCH,
                     gl_CooperativeMatrixLayoutRowMajor);
    }
}

// Scores become weights. sees: keys of the range that the token sees; total: of this invocation's keys only.
void soften(uint key, uint sees, inout float most, inout float total)
{
    const uint row = gl_SubgroupInvocationID / TEAM, part = gl_SubgroupInvocationID % TEAM;
    const uint from = gl_SubgroupID * SCORES + row * SCORE_PITCH, to = gl_SubgroupID * WEIGHTS + row * WEIGHT_PITCH;
    float x[KEYS / TEAM], high = most;
    [[unroll]] for (uint i = 0; i < KEYS / TEAM; i++) {
        const uint at = i * TEAM + part;
        x[i] = key + at < sees ? scores[from + at] : LOWEST;
        high = max(high, x[i]);
    }
    [[unroll]] for (uint m = 1; m < TEAM; m *= 2) high = max(high, subgroupShuffleXor(high, m));
    const float keep = exp(most - high);
    total *= keep;
    [[unroll]] for (uint i = 0; i < KEYS / TEAM; i++) {
        const uint at = i * TEAM + part;
        const float weight = key + at < sees ? exp(x[i] - high) : 0.0;
        total += weight;
        weights[to + at] = float16_t(weight);
    }
    [[unroll]] for (uint i = 0; i < SIDE / TEAM; i++) keeps[gl_SubgroupID * KEEPS + row * SIDE + i * TEAM + part] = keep;
    most = high;
}

void add_values()
{
    SUMS keep;
    coopMatLoad(keep, keeps, gl_SubgroupID * KEEPS, SIDE, gl_CooperativeMatrixLayoutRowMajor);
    [[unroll]] for (uint s = 0; s < SLICES; s++) sums[s] = sums[s] * keep;
    [[unroll]] for (uint k = 0; k < KEYS; k += SIDE) {
        HALF_A a;
        coopMatLoad(a, weights, gl_SubgroupID * WEIGHTS + k, WEIGHT_PITCH, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            HALF_B b;
            coopMatLoad(b, values, k * VALUE_PITCH + 2 * s, VALUE_PITCH, gl_CooperativeMatrixLayoutRowMajor);
            sums[s] = coopMatMulAdd(a, b, sums[s]);
        }
    }
}

void main()
{
    const uint head = gl_WorkGroupID.y, last = min(gl_WorkGroupID.x * SUBGROUPS * SIDE + SUBGROUPS * SIDE, p.n) - 1;
    const uint first = (gl_WorkGroupID.x * SUBGROUPS + gl_SubgroupID) * SIDE;
    const uint token = min(first + gl_SubgroupInvocationID / TEAM, p.n - 1);
    const uint seen = p.first + token + 1, sees = seen > p.start ? min(seen - p.start, p.count) : 0;
    const uint furthest = p.first + last + 1, end = furthest > p.start ? min(furthest - p.start, p.count) : 0;
    if (end == 0) return;
    f32_ref running = f32_ref(p.running + uint64_t(token * p.n_head + head) * 8);
    const bool leads = gl_SubgroupInvocationID % TEAM == 0;
    float most = p.start > 0 ? running.v[0] : LOWEST, total = p.start > 0 && leads ? running.v[1] : 0.0;

    load_queries(first, head);
    load_sums(first, head);
    [[dont_unroll]] for (uint key = 0; key < end; key += KEYS) {
        load_tile(head, key);
        barrier();
        score();
        subgroupBarrier();
        soften(key, sees, most, total);
        subgroupBarrier();
        add_values();
        barrier();
    }
    [[unroll]] for (uint m = 1; m < TEAM; m *= 2) total += subgroupShuffleXor(total, m);
    const bool done = seen > p.start && seen <= p.start + p.count;
    write_sums(first, head, done ? 1.0 / total : 1.0);
    if (leads && first + gl_SubgroupInvocationID / TEAM < p.n) {
        running.v[0] = most;
        running.v[1] = total;
    }
}
