#version 460
// SPDX-License-Identifier: MIT
//
// Routing, and h[k] = silu(gate_e x) * (up_e x) of the experts e it chooses, for one token on hardware. y of the grid is
// k. Every workgroup chooses for itself, in its first subgroup, as moe_route.comp does, while the others stage x; the
// very first leaves choice and weights in memory for moe_down_one.comp.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_decode.h"
#include "dequant.glsl"
#include "run.glsl"
#include "run_dot.glsl"
#include "staged.glsl"

layout(constant_id = 6) const uint SCORES = 8; // of an invocation: experts / SUBGROUP, rounded up
layout(push_constant) uniform push { params_moe_up_one p; };

const uint AHEAD = 2;       // loads of a row under way
const uint PAIR = 2 * ROWS; // rows of both matrices
const float LEAST = -3.4e38;
const uint TAKEN = 0;

shared uint expert;

float sigmoid_of(uint e)
{
    return 1.0 / (1.0 + exp(-f32_in(p.logits).v[e]));
}

// Numbers in the order of their scores, above TAKEN; what is not a number is the least.
uint key_of(float score)
{
    const uint bits = floatBitsToUint(score >= LEAST ? score : LEAST);
    return (bits & 0x80000000u) != 0 ? ~bits : bits | 0x80000000u;
}

void choose()
{
    const uint lane = gl_SubgroupInvocationID, k = gl_WorkGroupID.y;
    const bool writes = gl_WorkGroupID.x == 0 && k == 0;
    uint key[SCORES], mine = 0;
    [[unroll]] for (uint i = 0; i < SCORES; i++) {
        const uint e = i * SUBGROUP + lane;
        key[i] = e < p.n_expert ? key_of(sigmoid_of(e) + f32_in(p.bias).v[e]) : TAKEN;
    }
    const uint rounds = writes ? p.n_used : k + 1;
    [[dont_unroll]] for (uint j = 0; j < rounds; j++) {
        uint best = TAKEN, at = p.n_expert;
        [[unroll]] for (uint i = 0; i < SCORES; i++) {
            if (key[i] > best) {
                best = key[i];
                at = i * SUBGROUP + lane;
            }
        }
        const uint most = subgroupMax(best);
        at = subgroupMin(best == most ? at : p.n_expert);
        [[unroll]] for (uint i = 0; i < SCORES; i++)
            if (i * SUBGROUP + lane == at) key[i] = TAKEN;
        if (j == k && lane == 0) expert = at;
        if (j == lane) mine = at;
    }
    if (writes) {
        const float weight = lane < p.n_used ? sigmoid_of(mine) : 0.0;
        const float sum = subgroupAdd(weight);
        if (lane < p.n_used) {
            u32_ref(p.chosen).v[lane] = mine;
            f32_ref(p.weight).v[lane] = weight * (p.scale / max(sum, 6.103515625e-5));
        }
    }
}

// A run of each row of both matrices.
void rows_load(uint64_t gate, uint64_t up, uint first, uint run, out run_raw raw[PAIR])
{
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        const uint64_t row = uint64_t(min(first + r, p.n_out - 1)) * p.row_bytes;
        raw[2 * r] = run_load(gate + row, run, p.n_in);
        raw[2 * r + 1] = run_load(up + row, run, p.n_in);
    }
}

void main()
{
    const uint first = (gl_WorkGroupID.x * (GROUP / TEAM) + team_number()) * ROWS, lane = team_lane();
    const uint runs = (p.n_in + RUN - 1) / RUN, pitch = pitch_of(runs), last = runs - 1;
    if (gl_SubgroupID == 0)
        choose();
    else
        [[dont_unroll]] for (uint place = gl_LocalInvocationID.x - SUBGROUP; place < 8 * runs; place += GROUP - SUBGROUP)
            stage(0, pitch, place, load_place(p.x, place, p.n_in));
    barrier();

    const uint64_t gate = p.gate + uint64_t(expert) * p.gate_bytes, up = p.up + uint64_t(expert) * p.up_bytes;
    run_raw now[AHEAD][PAIR];
    [[unroll]] for (uint i = 0; i < AHEAD; i++) rows_load(gate, up, first, min(lane + i * TEAM, last), now[i]);
    float acc[PAIR];
    [[unroll]] for (uint r = 0; r < PAIR; r++) acc[r] = 0.0;
    [[dont_unroll]] for (uint some = lane; some < runs; some += AHEAD * TEAM) {
        run_raw next[AHEAD][PAIR];
        [[unroll]] for (uint i = 0; i < AHEAD; i++)
            rows_load(gate, up, first, min(some + (AHEAD + i) * TEAM, last), next[i]);
        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
            const uint run = some + i * TEAM;
            if (run < runs) {
                vec4 x[8], sums;
                staged_load(run, pitch, x, sums);
                [[unroll]] for (uint r = 0; r < PAIR; r++) acc[r] += run_times(now[i][r], run, x, sums);
            }
            [[unroll]] for (uint r = 0; r < PAIR; r++) now[i][r] = next[i][r];
        }
    }
    f32_ref h = f32_ref(p.h + uint64_t(gl_WorkGroupID.y) * p.n_out * 4);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        const float a = team_sum(acc[2 * r]), b = team_sum(acc[2 * r + 1]);
        if (first + r < p.n_out && lane == 0) h.v[first + r] = silu(a) * b;
    }
}
