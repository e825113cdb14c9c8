#version 460
// SPDX-License-Identifier: MIT
//
// y[t] (+)= W x[t] for a few tokens. A subgroup computes ROWS output rows for all COLUMNS tokens: its invocations share
// the runs of a row, hold the x of a run in registers, and decode that run of each of the rows.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dequant.glsl"
#include "run.glsl"

layout(constant_id = 3) const uint COLUMNS = 1; // tokens, of which p.n are there
layout(constant_id = 4) const uint ROWS = 4;
layout(push_constant) uniform push { params_matvec p; };

float acc[ROWS][COLUMNS];

void run_add(uint first, uint run)
{
    float x[COLUMNS][RUN];
    [[unroll]] for (uint c = 0; c < COLUMNS; c++) load_x(p.x + uint64_t(min(c, p.n - 1)) * p.n_in * 4, run, p.n_in, x[c]);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        float w[RUN];
        load_w(p.w + uint64_t(min(first + r, p.n_out - 1)) * p.row_bytes, run, p.n_in, w);
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) acc[r][c] += run_dot(w, x[c]);
    }
}

void main()
{
    uint first = (gl_WorkGroupID.x * (GROUP / SUBGROUP) + gl_SubgroupID) * ROWS;
    if (first >= p.n_out) return;
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) acc[r][c] = 0.0;
    for (uint run = gl_SubgroupInvocationID; run * RUN < p.n_in; run += SUBGROUP) run_add(first, run);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            float sum = subgroupAdd(acc[r][c]);
            if (first + r >= p.n_out || c >= p.n || !subgroupElect()) continue;
            f32_ref y = f32_ref(p.y + (uint64_t(c) * p.n_out + first + r) * 4);
            y.v[0] = (p.add != 0 ? y.v[0] : 0.0) + sum;
        }
    }
}
