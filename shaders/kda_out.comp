#version 460
// SPDX-License-Identifier: MIT
//
// The end of a KDA layer: o_h <- rms_norm(o_h) * gain * sigmoid(z_h). A team for each (token, head).
// Workgroups: (n * n_head / TEAMS).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_kda.h"

layout(constant_id = 2) const uint D = 128;
const uint PER = (D + LANES - 1) / LANES;

layout(push_constant) uniform push {
    params_kda_out p;
};

void main()
{
    const uint row = gl_WorkGroupID.x * TEAMS + team_id(), lane = lane_id();
    if (row < p.rows) {
        f32_ref o = f32_ref(p.o), z = f32_ref(p.z), gain = f32_ref(p.gain);
        float x[PER], squares = 0;
        [[unroll]] for (uint i = 0; i < PER; i++) {
            const uint d = i * LANES + lane;
            x[i] = d < D ? o.v[row * D + d] : 0;
            squares += x[i] * x[i];
        }
        const float factor = 1 / sqrt(lanes_sum(squares) / D + p.eps);
        [[unroll]] for (uint i = 0; i < PER; i++) {
            const uint d = i * LANES + lane;
            if (d < D) o.v[row * D + d] = x[i] * factor * gain.v[d] / (1 + exp(-z.v[row * D + d]));
        }
    }
}
