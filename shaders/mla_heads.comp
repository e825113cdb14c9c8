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
layout(constant_id = 4) const uint ROWS = 4;  // of a lane: x is loaded once for them

layout(push_constant) uniform push {
    params_mla_heads p;
};

void load_w(uint64_t row, uint run, out float w[RUN])
{
#ifdef WEIGHT_PLAIN
    run_decode_part(row, run, p.n_in, w);
#else
    run_decode(row, run, w);
#endif
}

void load_x(uint token, uint head, uint run, out float x[RUN])
{
    f32_in from = f32_in(p.x + uint64_t(min(token, p.n - 1) * p.n_head + head) * p.x_pitch * 4);
    [[unroll]] for (uint i = 0; i < RUN; i++)
        x[i] = from.v[min(run_column(run) + segment_column(i / 8) + i % 8, p.n_in - 1)];
}

void main()
{
    const uint lane = lane_id(), head = gl_WorkGroupID.y, token = gl_WorkGroupID.z * TOKENS;
    const uint first = ((gl_WorkGroupID.x * TEAMS + team_id()) * (LANES / SHARE) + lane / SHARE) * ROWS;
    float acc[ROWS][TOKENS];
    [[unroll]] for (uint r = 0; r < ROWS; r++)
        [[unroll]] for (uint t = 0; t < TOKENS; t++) acc[r][t] = 0;
    for (uint run = lane % SHARE; run * RUN < p.n_in; run += SHARE) {
        float x[TOKENS][RUN];
        [[unroll]] for (uint t = 0; t < TOKENS; t++) load_x(token + t, head, run, x[t]);
        [[unroll]] for (uint r = 0; r < ROWS; r++) {
            float w[RUN];
            load_w(p.w + head * p.mat_bytes + uint64_t(min(first + r, p.n_out - 1)) * p.row_bytes, run, w);
            [[unroll]] for (uint t = 0; t < TOKENS; t++)
                [[unroll]] for (uint i = 0; i < RUN; i++) acc[r][t] += w[i] * x[t][i];
        }
    }
    [[unroll]] for (uint r = 0; r < ROWS; r++) {
        [[unroll]] for (uint t = 0; t < TOKENS; t++) {
            float sum = acc[r][t];
            [[unroll]] for (uint m = SHARE / 2; m > 0; m >>= 1) sum += subgroupShuffleXor(sum, m);
            if (lane % SHARE == 0 && first + r < p.n_out && token + t < p.n)
                f32_ref(p.y).v[((token + t) * p.n_head + head) * p.n_out + first + r] = sum;
        }
    }
}
