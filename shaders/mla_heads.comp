#version 460
// SPDX-License-Identifier: MIT
//
// A matrix for each head times that head's part of every token: queries into the latent space (K_b), and latent values
// out of it (V_b). SHARE lanes share the runs of a row. Workgroups: (rows, heads, tiles of TOKENS tokens).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "dequant.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint SHARE = 4; // a power of two, at most LANES
layout(constant_id = 3) const uint TOKENS = 1;

layout(push_constant) uniform push {
    params_mla_heads p;
};

void load_run(uint64_t row, uint run, out float w[RUN])
{
#ifdef WEIGHT_PLAIN
    run_decode_part(row, run, p.n_in, w);
#else
    run_decode(row, run, w);
#endif
}

void main()
{
    const uint lane = lane_id(), head = gl_WorkGroupID.y, token = gl_WorkGroupID.z * TOKENS;
    const uint r = (gl_WorkGroupID.x * TEAMS + team_id()) * (LANES / SHARE) + lane / SHARE;
    const uint64_t row = p.w + head * p.mat_bytes + uint64_t(min(r, p.n_out - 1)) * p.row_bytes;
    float acc[TOKENS];
    [[unroll]] for (uint t = 0; t < TOKENS; t++) acc[t] = 0;
    for (uint run = lane % SHARE; run * RUN < p.n_in; run += SHARE) {
        float w[RUN];
        load_run(row, run, w);
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            f32_in x = f32_in(p.x + uint64_t(min(token + t, p.n - 1) * p.n_head + head) * p.x_pitch * 4);
            [[unroll]] for (uint i = 0; i < RUN; i++) {
                const uint column = run_column(run) + segment_column(i / 8) + i % 8;
                acc[t] += w[i] * x.v[min(column, p.n_in - 1)];
            }
        }
    }
    [[unroll]] for (uint t = 0; t < TOKENS; t++) {
        float sum = acc[t];
        [[unroll]] for (uint m = SHARE / 2; m > 0; m >>= 1) sum += subgroupShuffleXor(sum, m);
        if (lane % SHARE == 0 && r < p.n_out && token + t < p.n)
            f32_ref(p.y).v[((token + t) * p.n_head + head) * p.n_out + r] = sum;
    }
}
