#version 460
// SPDX-License-Identifier: MIT
//
// y_j[t] (+)= W_j x[t] for a few tokens and some matrices. A subgroup computes ROWS output rows for all COLUMNS tokens: its invocations share
// the runs of a row, hold the x of a run in registers, and multiply that run of each of the rows.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dequant.glsl"
#include "run.glsl"
#include "run_dot.glsl"

layout(constant_id = 3) const uint COLUMNS = 1; // tokens, of which p.n are there
layout(constant_id = 4) const uint ROWS = 4;
layout(push_constant) uniform push { params_matvec p; };
#include "jobs.glsl"

float acc[ROWS][COLUMNS];

void run_add(uint64_t w, uint n_out, uint first, uint run)
{
    const uint n_in = p.jobs.n_in;
    vec4 x[COLUMNS][8], sums[COLUMNS];
    [[unroll]] for (uint c = 0; c < COLUMNS; c++)
        load_x4(p.x + uint64_t(min(c, p.n - 1)) * n_in * 4, run, n_in, x[c], sums[c]);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        const run_raw raw = run_load(w + uint64_t(min(first + r, n_out - 1)) * p.jobs.row_bytes, run, n_in);
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) acc[r][c] += run_times(raw, run, x[c], sums[c]);
    }
}

void main()
{
    const matvec_place place = job_find(GROUP / SUBGROUP * ROWS);
    const uint first = place.first + gl_SubgroupID * ROWS, n_out = p.jobs.n_out[place.job];
    const uint64_t w = p.w + 16 * uint64_t(p.jobs.w_at[place.job]), y = p.y + 4 * uint64_t(p.jobs.y_at[place.job]);
    const bool add = (p.jobs.adds >> place.job & 1u) != 0;
    if (first >= n_out) return;
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) acc[r][c] = 0.0;
    for (uint run = gl_SubgroupInvocationID; run * RUN < p.jobs.n_in; run += SUBGROUP) run_add(w, n_out, first, run);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        [[unroll]] for (uint c = 0; c < COLUMNS; c++) {
            const float sum = subgroupAdd(acc[r][c]);
            if (first + r >= n_out || c >= p.n || !subgroupElect()) continue;
            f32_ref at = f32_ref(y + (uint64_t(c) * n_out + first + r) * 4);
            at.v[0] = (add ? at.v[0] : 0.0) + sum;
        }
    }
}
