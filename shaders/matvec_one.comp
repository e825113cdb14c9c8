#version 460
// SPDX-License-Identifier: MIT
//
// y_j (+)= W_j x' for one token and up to MATVEC_JOBS matrices of one format on the same x; x' = x, or with NORM
// rms_norm(x) * gain. Every workgroup stages x' itself, without the scale of the norm, which is one factor of the
// result. The first workgroups leave x' in memory for who needs it.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_decode.h"
#include "dequant.glsl"
#include "run.glsl"
#include "run_dot.glsl"
#include "staged.glsl"

layout(constant_id = 6) const bool NORM = false;
const uint AHEAD = 2; // loads of a row under way
layout(push_constant) uniform push { params_matvec_one p; };
#include "jobs.glsl"

shared float squares_of[64];

// Stages x (times gain); leaves the sum of squares of each subgroup.
void stage_x(uint pitch, uint places)
{
    float squares = 0.0;
    [[dont_unroll]] for (uint place = gl_LocalInvocationID.x; place < places; place += GROUP) {
        vec4 x = load_place(p.x, place, p.jobs.n_in);
        if (NORM) {
            squares += dot(x, x);
            x *= load_place(p.gain, place, p.jobs.n_in);
        }
        stage(0, pitch, place, x);
    }
    if (NORM) {
        squares = subgroupAdd(squares);
        if (subgroupElect()) squares_of[gl_SubgroupID] = squares;
    }
}

void write_normalised(uint pitch, uint places, float scale)
{
    const uint place = gl_WorkGroupID.x * GROUP + gl_LocalInvocationID.x;
    if (place >= places) return;
    const uint column = place_column(place);
    const vec4 x = staged[(place >> 3) + (place & 7) * pitch] * scale;
    [[unroll]] for (uint i = 0; i < 4; i++)
        if (column + i < p.jobs.n_in) f32_ref(p.a).v[column + i] = x[i];
}

void main()
{
    const matvec_place place = job_find(GROUP / TEAM * ROWS);
    const uint job = place.job, n_out = p.jobs.n_out[job];
    const uint first = place.first + team_number() * ROWS, lane = team_lane();
    const uint runs = (p.jobs.n_in + RUN - 1) / RUN, pitch = pitch_of(runs), last = runs - 1;
    const uint64_t w = p.w + 16 * uint64_t(p.jobs.w_at[job]);

    run_raw now[AHEAD][ROWS];
    [[unroll]] for (uint i = 0; i < AHEAD; i++)
        [[unroll]] for (uint r = 0; r < ROWS; r++)
            now[i][r] = run_load(w + uint64_t(min(first + r, n_out - 1)) * p.jobs.row_bytes, min(lane + i * TEAM, last), p.jobs.n_in);
    stage_x(pitch, 8 * runs);
    barrier();

    float scale = 1.0;
    if (NORM) {
        float squares = 0.0;
        for (uint i = 0; i < GROUP / SUBGROUP; i++) squares += squares_of[i];
        scale = inversesqrt(squares / float(p.jobs.n_in) + p.eps);
        if (p.a != 0) write_normalised(pitch, 8 * runs, scale);
    }
    float acc[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) acc[r] = 0.0;
    [[dont_unroll]] for (uint some = lane; some < runs; some += AHEAD * TEAM) {
        run_raw next[AHEAD][ROWS];
        [[unroll]] for (uint i = 0; i < AHEAD; i++)
            [[unroll]] for (uint r = 0; r < ROWS; r++)
                next[i][r] = run_load(w + uint64_t(min(first + r, n_out - 1)) * p.jobs.row_bytes,
                                      min(some + (AHEAD + i) * TEAM, last), p.jobs.n_in);
        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
            const uint run = some + i * TEAM;
            if (run < runs) {
                vec4 x[8], sums;
                staged_load(run, pitch, x, sums);
                [[unroll]] for (uint r = 0; r < ROWS; r++) acc[r] += run_times(now[i][r], run, x, sums);
            }
            [[unroll]] for (uint r = 0; r < ROWS; r++) now[i][r] = next[i][r];
        }
    }
    f32_ref y = f32_ref(p.y + 4 * uint64_t(p.jobs.y_at[job]));
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        const float sum = scale * team_sum(acc[r]);
        if (first + r < n_out && lane == 0) y.v[first + r] = ((p.jobs.adds >> job & 1u) != 0 ? y.v[first + r] : 0.0) + sum;
    }
}
