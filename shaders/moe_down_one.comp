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
const uint AHEAD = 3; // loads under way
layout(push_constant) uniform push { params_moe_down_one p; };

uint64_t matrix_of(uint k)
{
    if (SHARED && k == p.n_used) return p.shared_w;
    return p.w + uint64_t(u32_in(p.chosen).v[k]) * p.mat_bytes;
}

void stage_hidden(uint runs, uint pitch)
{
    const uint places = 8 * runs;
    [[dont_unroll]] for (uint place = gl_LocalInvocationID.x; place < places; place += GROUP) {
        [[dont_unroll]] for (uint k = 0; k < p.n_used; k += AHEAD) {
            vec4 h[AHEAD];
            [[unroll]] for (uint i = 0; i < AHEAD; i++) {
                const uint slot = min(k + i, p.n_used - 1);
                h[i] = f32_in(p.weight).v[slot] * load_place(p.h + uint64_t(slot) * p.n_in * 4, place, p.n_in);
            }
            [[unroll]] for (uint i = 0; i < AHEAD; i++)
                if (k + i < p.n_used) stage((k + i) * SLOTS * pitch, pitch, place, h[i]);
        }
    }
    if (!SHARED) return;
    for (uint place = gl_LocalInvocationID.x; place < places; place += GROUP) {
        const vec4 gate = load_place(p.shared_gate, place, p.n_in), up = load_place(p.shared_up, place, p.n_in);
        stage(p.n_used * SLOTS * pitch, pitch, place, gate / (1.0 + exp(-gate)) * up);
    }
}

void pairs_load(uint first, uint lane, uint pair, uint pairs, uint rounds, out run_raw raw[AHEAD][ROWS])
{
    const uint last = (p.n_in + RUN - 1) / RUN - 1;
    [[unroll]] for (uint i = 0; i < AHEAD; i++) {
        const uint at = min(pair + i, pairs - 1);
        const uint64_t w = matrix_of(at / rounds);
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            raw[i][r] = run_load(w + uint64_t(min(first + r, p.n_out - 1)) * p.row_bytes,
                                 min(at % rounds * TEAM + lane, last), p.n_in);
    }
}

void main()
{
    const uint first = (gl_WorkGroupID.x * (GROUP / TEAM) + team_number()) * ROWS, lane = team_lane();
    const uint runs = (p.n_in + RUN - 1) / RUN, pitch = pitch_of(runs);
    const uint count = p.n_used + (SHARED ? 1 : 0);
    // Of pairs (k, run), AHEAD at a time: the next are loaded while these are multiplied.
    const uint rounds = (runs + TEAM - 1) / TEAM, pairs = count * rounds;
    run_raw now[AHEAD][ROWS];
    pairs_load(first, lane, 0, pairs, rounds, now);
    stage_hidden(runs, pitch);
    barrier();

    float acc[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) acc[r] = 0.0;
    [[dont_unroll]] for (uint pair = 0; pair < pairs; pair += AHEAD) {
        run_raw next[AHEAD][ROWS];
        pairs_load(first, lane, pair + AHEAD, pairs, rounds, next);
        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
            const uint k = (pair + i) / rounds, run = (pair + i) % rounds * TEAM + lane;
            if (pair + i < pairs && run < runs) {
                vec4 x[8], sums;
                staged_load(k * SLOTS * pitch + run, pitch, x, sums);
                [[unroll]] for (uint r = 0; r < ROWS; r++) acc[r] += run_times(now[i][r], run, x, sums);
            }
            [[unroll]] for (uint r = 0; r < ROWS; r++) now[i][r] = next[i][r];
        }
    }
    f32_ref y = f32_ref(p.y);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        const float sum = team_sum(acc[r]);
        if (first + r < p.n_out && lane == 0) y.v[first + r] += sum;
    }
}
