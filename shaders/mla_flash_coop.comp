#version 460
// SPDX-License-Identifier: MIT
//
// mla_flash.comp on cooperative matrices: keys and values as mla_expand_coop makes them, the shared part of keys from
// the rows themselves. A subgroup takes 16 tokens of a head through all keys of the range that the workgroup's tokens
// see, KEYS at a time through shared memory; what comes next is fetched while the products of what is there run.
//
// Softmax without knowing where a matrix keeps its elements: a token's row of every matrix has the same reference, which
// the sum of a score begins with, so that scores come out relative to it; weights are 2^score. A reference is a past
// maximum. It follows only when a score is BEYOND it: until then weights are at most 2^BEYOND, which halves hold, and
// nothing has to be rescaled (Dao et al., FlashAttention-2; the idle rescaling is that of FlashAttention-4).
//
// Workgroups: (tiles of 128 tokens, n_head), each of eight subgroups. N, P and V are multiples of 16.
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

const uint SUBGROUPS = MLA_FLASH_TOKENS / SIDE, THREADS = SUBGROUPS * SUBGROUP, KEYS = MLA_TILE, TILES = KEYS / SIDE;
const uint STEPS = (N + P) / SIDE, SLICES = V / SIDE, WIDTH = R + P;
// In words of 16 bytes; rows in shared memory are a word longer against bank conflicts.
const uint KEY_WORDS = (N + P) / 8, KEY_PITCH = KEY_WORDS + 1, KEYS_OWN = (KEYS * KEY_WORDS + THREADS - 1) / THREADS;
const uint VALUE_WORDS = V / 8, VALUE_PITCH = VALUE_WORDS + 1, VALUES_OWN = (KEYS * VALUE_WORDS + THREADS - 1) / THREADS;
// A subgroup's stage: a matrix of floats, 4 words a row, or TILES matrices of halves, 3 words a row of which 2 are full.
const uint FLOATS = 4, HALVES = 3, STAGE = max(SIDE * FLOATS, TILES * SIDE * HALVES);
const uint EACH = SIDE * SIDE / SUBGROUP; // elements of a staged matrix for an invocation
const float BEYOND = 8.0;

layout(push_constant) uniform push {
    params_mla_flash p;
};

shared uvec4 keys[KEYS * KEY_PITCH];
shared uvec4 values[KEYS * VALUE_PITCH];
shared uvec4 stage[SUBGROUPS * STAGE];

HALF_A queries[STEPS];
SUMS sums[SLICES], scores[TILES];
SUMS below, totals; // minus the reference; sums of the weights, in parts that add up along a row
uvec4 key_raw[KEYS_OWN], value_raw[VALUES_OWN];

// ------------------------------------------------------------------------------------------------------- staging

uint stage_at()
{
    return gl_SubgroupID * STAGE;
}

// This invocation's elements of a staged matrix are lane + SUBGROUP * i; row = element / SIDE.
uint element(uint i)
{
    return gl_SubgroupInvocationID + i * SUBGROUP;
}

float staged(uint e)
{
    return uintBitsToFloat(stage[stage_at() + e / 4][e % 4]);
}

void stage_put(uint e, float x)
{
    stage[stage_at() + e / 4][e % 4] = floatBitsToUint(x);
}

void stage_store(SUMS m)
{
    coopMatStore(m, stage, stage_at(), FLOATS, gl_CooperativeMatrixLayoutRowMajor);
    subgroupBarrier();
}

void stage_load(out SUMS m)
{
    subgroupBarrier();
    coopMatLoad(m, stage, stage_at(), FLOATS, gl_CooperativeMatrixLayoutRowMajor);
    subgroupBarrier();
}

// The rows of `tokens`, pitch floats apart; where they are not all there, the last one in their place.
void load_tokens(out SUMS m, uint64_t from, uint pitch, uint token)
{
    if (token + SIDE <= p.n) {
        coopMatLoad(m, sums_ref(from).v, token * pitch, pitch, gl_CooperativeMatrixLayoutRowMajor);
    } else {
        [[unroll]] for (uint i = 0; i < EACH; i++)
            stage_put(element(i), f32_ref(from).v[min(token + element(i) / SIDE, p.n - 1) * pitch + element(i) % SIDE]);
        stage_load(m);
    }
}

void store_tokens(SUMS m, uint64_t to, uint pitch, uint token)
{
    if (token + SIDE <= p.n) {
        coopMatStore(m, sums_ref(to).v, token * pitch, pitch, gl_CooperativeMatrixLayoutRowMajor);
    } else {
        stage_store(m);
        [[unroll]] for (uint i = 0; i < EACH; i++)
            if (token + element(i) / SIDE < p.n)
                f32_ref(to).v[(token + element(i) / SIDE) * pitch + element(i) % SIDE] = staged(element(i));
        subgroupBarrier();
    }
}

// Each row's sum, or its greatest element, in all of its elements.
void spread_rows(inout SUMS m, bool sum)
{
    float all[EACH];
    stage_store(m);
    [[unroll]] for (uint i = 0; i < EACH; i++) {
        const uint row = element(i) / SIDE * SIDE;
        all[i] = staged(row);
        [[dont_unroll]] for (uint c = 1; c < SIDE; c++)
            all[i] = sum ? all[i] + staged(row + c) : max(all[i], staged(row + c));
    }
    subgroupBarrier();
    [[unroll]] for (uint i = 0; i < EACH; i++) stage_put(element(i), all[i]);
    stage_load(m);
}

// ---------------------------------------------------------------------------------------------- what goes on between ranges

f32_ref running_of(uint token, uint head)
{
    return f32_ref(p.running + uint64_t(min(token, p.n - 1) * p.n_head + head) * 8);
}

void load_queries(uint token, uint head)
{
    SUMS x[STEPS];
    [[unroll]] for (uint s = 0; s < STEPS; s++)
        load_tokens(x[s], p.q + (head * (N + P) + s * SIDE) * 4, p.n_head * (N + P), token);
    [[unroll]] for (uint s = 0; s < STEPS; s++) {
        coopMatStore(HALF_SUMS(x[s] * p.scale), stage, stage_at(), HALVES, gl_CooperativeMatrixLayoutRowMajor);
        subgroupBarrier();
        coopMatLoad(queries[s], stage, stage_at(), HALVES, gl_CooperativeMatrixLayoutRowMajor);
        subgroupBarrier();
    }
}

void load_running(uint token, uint head)
{
    below = totals = SUMS(0.0);
    [[unroll]] for (uint s = 0; s < SLICES; s++) sums[s] = SUMS(0.0);
    if (p.start == 0) return;
    [[unroll]] for (uint i = 0; i < EACH; i++)
        stage_put(element(i), -running_of(token + element(i) / SIDE, head).v[0]);
    stage_load(below);
    [[unroll]] for (uint i = 0; i < EACH; i++)
        stage_put(element(i), element(i) % SIDE == 0 ? running_of(token + element(i) / SIDE, head).v[1] : 0.0);
    stage_load(totals);
    [[unroll]] for (uint s = 0; s < SLICES; s++)
        load_tokens(sums[s], p.o + (head * V + s * SIDE) * 4, p.n_head * V, token);
}

// done: this was the last range; divides.
void store_running(uint token, uint head, bool done)
{
    spread_rows(totals, true);
    if (done) {
        [[unroll]] for (uint s = 0; s < SLICES; s++) sums[s] = sums[s] / totals;
    } else {
        stage_store(below);
        [[unroll]] for (uint i = 0; i < EACH; i++)
            if (element(i) % SIDE == 0 && token + element(i) / SIDE < p.n)
                running_of(token + element(i) / SIDE, head).v[0] = -staged(element(i));
        subgroupBarrier();
        stage_store(totals);
        [[unroll]] for (uint i = 0; i < EACH; i++)
            if (element(i) % SIDE == 0 && token + element(i) / SIDE < p.n)
                running_of(token + element(i) / SIDE, head).v[1] = staged(element(i));
        subgroupBarrier();
    }
    [[unroll]] for (uint s = 0; s < SLICES; s++)
        store_tokens(sums[s], p.o + (head * V + s * SIDE) * 4, p.n_head * V, token);
}

// -------------------------------------------------------------------------------------------------- keys and values

void fetch_keys(uint head, uint key)
{
    const uint64_t made = p.k + uint64_t(head * p.tiles * MLA_TILE + key) * N * 2;
    const uint64_t rows = row_address(p.table, p.layer, p.row_bytes, p.start + key) + R * 2;
    [[unroll]] for (uint i = 0; i < KEYS_OWN; i++) {
        const uint at = gl_LocalInvocationID.x + i * THREADS, row = at / KEY_WORDS, word = at % KEY_WORDS;
        const uint64_t from =
            word < N / 8 ? made + 2 * (row * N + word * 8) : rows + 2 * (row * WIDTH + word * 8 - N);
        if (at < KEYS * KEY_WORDS) key_raw[i] = load_u32x4(from);
    }
}

void fill_keys()
{
    [[unroll]] for (uint i = 0; i < KEYS_OWN; i++) {
        const uint at = gl_LocalInvocationID.x + i * THREADS;
        if (at < KEYS * KEY_WORDS) keys[at / KEY_WORDS * KEY_PITCH + at % KEY_WORDS] = key_raw[i];
    }
}

void fetch_values(uint head, uint key)
{
    const uint64_t made = p.v + uint64_t(head * p.tiles * MLA_TILE + key) * V * 2;
    [[unroll]] for (uint i = 0; i < VALUES_OWN; i++) {
        const uint at = gl_LocalInvocationID.x + i * THREADS;
        if (at < KEYS * VALUE_WORDS) value_raw[i] = load_u32x4(made + 16 * at);
    }
}

void fill_values()
{
    [[unroll]] for (uint i = 0; i < VALUES_OWN; i++) {
        const uint at = gl_LocalInvocationID.x + i * THREADS;
        if (at < KEYS * VALUE_WORDS) values[at / VALUE_WORDS * VALUE_PITCH + at % VALUE_WORDS] = value_raw[i];
    }
}

// --------------------------------------------------------------------------------------------------------- a tile

void score(uint key, uint token)
{
    [[unroll]] for (uint t = 0; t < TILES; t++) scores[t] = below;
    [[unroll]] for (uint s = 0; s < STEPS; s++) {
        [[unroll]] for (uint t = 0; t < TILES; t++) {
            HALF_B b;
            coopMatLoad(b, keys, t * SIDE * KEY_PITCH + 2 * s, KEY_PITCH, gl_CooperativeMatrixLayoutColumnMajor);
            scores[t] = coopMatMulAdd(queries[s], b, scores[t]);
        }
    }
    if (p.start + key + KEYS <= p.first + min(token, p.n - 1) + 1) return;
    // Some of the tokens do not see some of the keys.
    [[unroll]] for (uint t = 0; t < TILES; t++) {
        stage_store(scores[t]);
        [[unroll]] for (uint i = 0; i < EACH; i++) {
            const uint seen = p.first + min(token + element(i) / SIDE, p.n - 1) + 1;
            if (p.start + key + t * SIDE + element(i) % SIDE >= seen) stage_put(element(i), LOWEST);
        }
        stage_load(scores[t]);
    }
}

// Raises the references of tokens with scores too far beyond. The first reference is the first maximum.
void refer(bool is_first)
{
    SUMS high = scores[0];
    float most = LOWEST;
    [[unroll]] for (uint e = 0; e < high.length(); e++) {
        [[unroll]] for (uint t = 1; t < TILES; t++) high[e] = max(high[e], scores[t][e]);
        most = max(most, high[e]);
    }
    if (!is_first && subgroupBallot(most > BEYOND) == uvec4(0)) return;
    spread_rows(high, false);
    [[unroll]] for (uint e = 0; e < high.length(); e++) {
        const float by = is_first ? high[e] : max(high[e], 0.0), keep = is_first ? 0.0 : exp2(-by);
        below[e] -= by;
        totals[e] *= keep;
        [[unroll]] for (uint t = 0; t < TILES; t++) scores[t][e] -= by;
        [[unroll]] for (uint s = 0; s < SLICES; s++) sums[s][e] *= keep;
    }
}

// Scores become weights, which become factors.
void weigh()
{
    [[unroll]] for (uint t = 0; t < TILES; t++) {
        [[unroll]] for (uint e = 0; e < totals.length(); e++) {
            scores[t][e] = exp2(scores[t][e]);
            totals[e] += scores[t][e];
        }
        coopMatStore(HALF_SUMS(scores[t]), stage, stage_at() + t * SIDE * HALVES, HALVES,
                     gl_CooperativeMatrixLayoutRowMajor);
    }
}

void add_values()
{
    [[unroll]] for (uint t = 0; t < TILES; t++) {
        HALF_A a;
        coopMatLoad(a, stage, stage_at() + t * SIDE * HALVES, HALVES, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint s = 0; s < SLICES; s++) {
            HALF_B b;
            coopMatLoad(b, values, t * SIDE * VALUE_PITCH + 2 * s, VALUE_PITCH, gl_CooperativeMatrixLayoutRowMajor);
            sums[s] = coopMatMulAdd(a, b, sums[s]);
        }
    }
}

void main()
{
    const uint head = gl_WorkGroupID.y, top = gl_WorkGroupID.x * MLA_FLASH_TOKENS, token = top + gl_SubgroupID * SIDE;
    const uint furthest = p.first + min(top + MLA_FLASH_TOKENS, p.n);
    const uint end = furthest > p.start ? min(furthest - p.start, p.count) : 0;
    if (end == 0) return;
    fetch_keys(head, 0);
    fill_keys();
    load_queries(token, head);
    load_running(token, head);
    barrier();
    [[dont_unroll]] for (uint key = 0; key < end; key += KEYS) {
        fetch_values(head, key);
        score(key, token);
        refer(p.start + key == 0);
        weigh();
        fill_values();
        barrier(); // the values are there, and the keys done with
        if (key + KEYS < end) fetch_keys(head, key + KEYS);
        add_values();
        if (key + KEYS < end) fill_keys();
        barrier();
    }
    store_running(token, head, furthest <= p.start + p.count);
}
