#version 460
// SPDX-License-Identifier: MIT
//
// y[t] += sum over the choices of weight * down_e h[slot] for a few tokens: y of the grid is the token. A subgroup
// computes ROWS rows, as in matvec.comp.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dequant.glsl"
#include "run.glsl"
#include "run_dot.glsl"

layout(constant_id = 3) const uint ROWS = 4;
layout(push_constant) uniform push { params_moe_down p; };

void main()
{
    uint first = (gl_WorkGroupID.x * (GROUP / SUBGROUP) + gl_SubgroupID) * ROWS, t = gl_WorkGroupID.y;
    if (first >= p.n_out) return;
    float acc[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) acc[r] = 0.0;
    for (uint k = 0; k < p.n_used; k++) {
        uint slot = t * p.n_used + k;
        uint64_t w = p.w + u32_in(p.chosen).v[slot] * p.mat_bytes, h = p.h + uint64_t(slot) * p.n_in * 4;
        float weight = f32_in(p.weight).v[slot];
        for (uint run = gl_SubgroupInvocationID; run * RUN < p.n_in; run += SUBGROUP) {
            vec4 hs[8], sums;
            load_x4(h, run, p.n_in, hs, sums);
            [[unroll]] for (uint r = 0; r < ROWS; r++) {
                const run_raw raw = run_load(w + uint64_t(min(first + r, p.n_out - 1)) * p.row_bytes, run, p.n_in);
                acc[r] += weight * run_times(raw, run, hs, sums);
            }
        }
    }
    f32_ref y = f32_ref(p.y + uint64_t(t) * p.n_out * 4);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        float sum = subgroupAdd(acc[r]);
        if (first + r < p.n_out && subgroupElect()) y.v[first + r] += sum;
    }
}
