#version 460
// SPDX-License-Identifier: MIT
//
// A matrix for each head times that head's part of one token, on hardware: mla_heads.comp where x stays in registers.
// With COMBINE x is what the splits of the rows left (mla_combine.comp), few of them. Workgroups: (rows, heads).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_decode.h"
#include "dequant.glsl"
#include "run.glsl"
#include "run_dot.glsl"
#include "parted.glsl"

layout(constant_id = 6) const bool COMBINE = false;
layout(push_constant) uniform push { params_mla_heads_one p; };

uint columns()
{
    return p.n_in;
}
uint64_t row_at(uint row)
{
    return p.w + gl_WorkGroupID.y * p.mat_bytes + uint64_t(min(gl_WorkGroupID.x * ROWS + row, p.n_out - 1)) * p.row_bytes;
}

vec2 totals_of(uint split)
{
    f32_in totals = f32_in(p.totals + 8 * uint64_t(split * p.pitch + gl_WorkGroupID.y));
    return vec2(totals.v[0], totals.v[1]);
}

void load_splits(uint run, out vec4 x[8])
{
    float high = totals_of(0).x, total = 0.0;
    for (uint s = 1; s < p.splits; s++) high = max(high, totals_of(s).x);
    [[unroll]] for (uint i = 0; i < 8; i++) x[i] = vec4(0.0);
    for (uint s = 0; s < p.splits; s++) {
        const vec2 of_split = totals_of(s);
        const float scale = exp(of_split.x - high);
        vec4 part[8];
        load_run(p.x + 4 * uint64_t(s * p.pitch + gl_WorkGroupID.y) * p.n_in, run, part);
        [[unroll]] for (uint i = 0; i < 8; i++) x[i] = fma(vec4(scale), part[i], x[i]);
        total = fma(scale, of_split.y, total);
    }
    [[unroll]] for (uint i = 0; i < 8; i++) x[i] /= total;
}

void main()
{
    const uint runs = runs_of(columns());
    [[dont_unroll]] for (uint part = gl_SubgroupID * TEAM; part < runs; part += SUBGROUPS * TEAM) {
        const bool mine = part + team_lane() < runs;
        const uint run = mine ? part + team_lane() : runs - 1;
        vec4 x[8];
        rows_begin(run);
        if (COMBINE)
            load_splits(run, x);
        else
            load_run(p.x + 4 * uint64_t(gl_WorkGroupID.y) * p.x_pitch, run, x);
        if (!mine) [[unroll]] for (uint i = 0; i < 8; i++) x[i] = vec4(0.0);
        rows_add(run, x, part >= SUBGROUPS * TEAM);
    }
    barrier();
    for (uint r = gl_LocalInvocationID.x; r < ROWS; r += GROUP) {
        const uint row = gl_WorkGroupID.x * ROWS + r;
        if (row < p.n_out) f32_ref(p.y).v[gl_WorkGroupID.y * p.n_out + row] = rows_sum(r);
    }
}
