#version 460
// SPDX-License-Identifier: MIT
//
// h[slot] = silu(gate_e x_t) * (up_e x_t) for a few tokens: y of the grid is the slot, e its expert, t its token. A
// subgroup computes ROWS rows of both matrices, as in matvec.comp.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "dequant.glsl"
#include "run.glsl"
#include "run_dot.glsl"

layout(constant_id = 3) const uint ROWS = 4;
layout(push_constant) uniform push { params_moe_up p; };

void main()
{
    uint first = (gl_WorkGroupID.x * (GROUP / SUBGROUP) + gl_SubgroupID) * ROWS, slot = gl_WorkGroupID.y;
    if (first >= p.n_out) return;
    uint64_t e = u32_in(p.chosen).v[slot], x = p.x + uint64_t(slot / p.n_used) * p.n_in * 4;
    uint64_t gate = p.gate + e * p.gate_bytes, up = p.up + e * p.up_bytes;
    float g[ROWS], u[ROWS];
    [[unroll]] for (uint r = 0; r < ROWS; r++) g[r] = u[r] = 0.0;
    for (uint run = gl_SubgroupInvocationID; run * RUN < p.n_in; run += SUBGROUP) {
        vec4 xs[8], sums;
        load_x4(x, run, p.n_in, xs, sums);
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            uint64_t row = uint64_t(min(first + r, p.n_out - 1)) * p.row_bytes;
            g[r] += run_times(run_load(gate + row, run, p.n_in), run, xs, sums);
            u[r] += run_times(run_load(up + row, run, p.n_in), run, xs, sums);
        }
    }
    f32_ref h = f32_ref(p.h + uint64_t(slot) * p.n_out * 4);
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        float a = subgroupAdd(g[r]), b = subgroupAdd(u[r]);
        if (first + r < p.n_out && subgroupElect()) h.v[first + r] = silu(a) * b;
    }
}
