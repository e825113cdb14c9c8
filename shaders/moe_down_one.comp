#version 460
// SPDX-License-Identifier: MIT
//
// y += sum over the chosen experts of weight * down_e h[k], and with SHARED + down (silu(gate) * up) of the shared
// expert, whose gate and up are products already: for one token on hardware. The hidden layers of all experts, weighted,
// lie in shared memory; a team goes through its rows of all matrices in one sweep.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_decode.h"
#include "dequant.glsl"
#include "run.glsl"
#include "run_dot.glsl"
#include "staged.glsl"

layout(constant_id = 6) const bool SHARED = true;
layout(push_constant) uniform push { params_moe_down_one p; };

uint64_t matrix_of(uint k)
{
    if (SHARED && k == p.n_used) return p.shared_w;
    return p.w + uint64_t(u32_in(p.chosen).v[k]) * p.mat_bytes;
}

void stage_hidden(uint runs, uint pitch)
{
    const uint places = 8 * runs;
    [[dont_unroll]] for (uint k = 0; k < p.n_used; k++) {
        const float weight = f32_in(p.weight).v[k];
        const uint64_t h = p.h + uint64_t(k) * p.n_in * 4;
        for (uint place = gl_LocalInvocationID.x; place < places; place += GROUP)
            stage(k * SLOTS * pitch, pitch, place, weight * load_place(h, place, p.n_in));
    }
    if (!SHARED) return;
    for (uint place = gl_LocalInvocationID.x; place < places; place += GROUP) {
        const vec4 gate = load_place(p.shared_gate, place, p.n_in), up = load_place(p.shared_up, place, p.n_in);
        stage(p.n_used * SLOTS * pitch, pitch, place, gate / (1.0 + exp(-gate)) * up);
    }
}

void main()
{
    const uint first = (gl_WorkGroupID.x * (GROUP / TEAM) + team_number()) * ROWS, lane = team_lane();
    const uint runs = (p.n_in + RUN - 1) / RUN, pitch = pitch_of(runs), last = runs - 1;
    const uint count = p.n_used + (SHARED ? 1 : 0);
    uint64_t w = matrix_of(0);
    run_raw now[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        now[r] = run_load(w + uint64_t(min(first + r, p.n_out - 1)) * p.row_bytes, min(lane, last), p.n_in);
    stage_hidden(runs, pitch);
    barrier();

    float acc[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) acc[r] = 0.0;
    // Of a pair (k, run): what comes next is loaded while this one is multiplied.
    const uint rounds = (runs + TEAM - 1) / TEAM;
    uint k = 0, run = lane;
    [[dont_unroll]] for (uint i = 0; i < count * rounds; i++) {
        uint next_k = k, next_run = run + TEAM;
        if (next_run - lane >= rounds * TEAM) {
            next_k = k + 1;
            next_run = lane;
            if (next_k < count) w = matrix_of(next_k);
        }
        run_raw next[ROWS];
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            next[r] = run_load(w + uint64_t(min(first + r, p.n_out - 1)) * p.row_bytes, min(next_run, last), p.n_in);
        if (run < runs) {
            vec4 x[8], sums;
            staged_load(k * SLOTS * pitch + run, pitch, x, sums);
            [[unroll]] for (uint r = 0; r < ROWS; r++) acc[r] += run_times(now[r], run, x, sums);
        }
        [[unroll]] for (uint r = 0; r < ROWS; r++) now[r] = next[r];
        k = next_k;
        run = next_run;
    }
    f32_ref y = f32_ref(p.y);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        const float sum = team_sum(acc[r]);
        if (first + r < p.n_out && lane == 0) y.v[first + r] += sum;
    }
}
