#version 460
// SPDX-License-Identifier: MIT
//
// y += sum over the chosen experts of weight * down_e h[k], and with SHARED + down (silu(gate) * up) of the shared
// expert, whose gate and up are products already: for one token on hardware. A subgroup has a part of an expert.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_decode.h"
#include "dequant.glsl"
#include "run.glsl"
#include "run_dot.glsl"
#include "parted.glsl"

layout(constant_id = 6) const bool SHARED = true;
layout(push_constant) uniform push { params_moe_down_one p; };

uint64_t matrix; // of this subgroup's expert

uint columns()
{
    return p.n_in;
}
uint64_t row_at(uint row)
{
    return matrix + uint64_t(min(gl_WorkGroupID.x * ROWS + row, p.n_out - 1)) * p.row_bytes;
}

// The hidden layer of the shared expert.
void load_shared(uint run, out vec4 x[8])
{
    vec4 up[8];
    load_run(p.shared_gate, run, x);
    load_run(p.shared_up, run, up);
    [[unroll]] for (uint i = 0; i < 8; i++) x[i] = x[i] / (1.0 + exp(-x[i])) * up[i];
}

void main()
{
    const uint runs = runs_of(columns()), per = (runs + TEAM - 1) / TEAM;
    const uint units = (p.n_used + (SHARED ? 1 : 0)) * per;
    [[dont_unroll]] for (uint unit = gl_SubgroupID; unit < units; unit += SUBGROUPS) {
        const uint k = unit / per, part = unit % per * TEAM;
        const bool mine = part + team_lane() < runs, is_shared = SHARED && k == p.n_used;
        const uint run = mine ? part + team_lane() : runs - 1;
        matrix = is_shared ? p.shared_w : p.w + uint64_t(u32_in(p.chosen).v[k]) * p.mat_bytes;
        vec4 x[8];
        rows_begin(run);
        float weight = 1.0;
        if (is_shared) {
            load_shared(run, x);
        } else {
            load_run(p.h + uint64_t(k) * p.n_in * 4, run, x);
            weight = f32_in(p.weight).v[k];
        }
        [[unroll]] for (uint i = 0; i < 8; i++) x[i] *= mine ? weight : 0.0;
        rows_add(run, x, unit >= SUBGROUPS);
    }
    barrier();
    f32_ref y = f32_ref(p.y);
    for (uint r = gl_LocalInvocationID.x; r < ROWS; r += GROUP) {
        const uint row = gl_WorkGroupID.x * ROWS + r;
        if (row < p.n_out) y.v[row] += rows_sum(r);
    }
}
