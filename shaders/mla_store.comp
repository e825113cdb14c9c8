#version 460
// SPDX-License-Identifier: MIT
//
// New rows of the timeline: RMS norm of the latent, then [latent | pe] in the dtype of the rows. A team for each token.
// Workgroups: (n / TEAMS).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint DTYPE = 0;
layout(constant_id = 3) const uint R = 512;
layout(constant_id = 4) const uint P = 64;
#include "mla_row.glsl"

layout(push_constant) uniform push {
    params_mla_store p;
};

uint16_t to_half(float x)
{
    return uint16_t(packHalf2x16(vec2(x, 0)));
}

void main()
{
    const uint t = gl_WorkGroupID.x * TEAMS + team_id(), lane = lane_id();
    if (t >= p.n) return;
    f32_in c = f32_in(p.c + uint64_t(t) * (R + P) * 4), gain = f32_in(p.gain);
    const uint64_t row = row_address(p.table, p.layer, p.row_bytes, p.first + t);
    float squares = 0;
    for (uint i = lane; i < R; i += LANES) squares += c.v[i] * c.v[i];
    const float factor = 1 / sqrt(lanes_sum(squares) / R + p.eps);
    if (DTYPE != 8) {
        for (uint i = lane; i < R + P; i += LANES) {
            const float x = i < R ? c.v[i] * factor * gain.v[i] : c.v[i];
            if (DTYPE == 0)
                f32_ref(row).v[i] = x;
            else
                u16_ref(row).v[i] = to_half(x);
        }
        return;
    }
    for (uint b = 0; b < (R + P) / 32; b++) {
        float x[32 / LANES], most = 0;
        [[unroll]] for (uint i = 0; i < 32 / LANES; i++) {
            const uint at = b * 32 + i * LANES + lane;
            x[i] = at < R ? c.v[at] * factor * gain.v[at] : c.v[at];
            most = max(most, abs(x[i]));
        }
        const uint16_t scale = to_half(lanes_max(most) / 127);
        const float step = half_to_float(uint(scale));
        if (lane == 0) u16_ref(row + b * 34).v[0] = scale;
        [[unroll]] for (uint i = 0; i < 32 / LANES; i++) {
            const float level = step > 0 ? clamp(roundEven(x[i] / step), -127, 127) : 0;
            i8_ref(row + b * 34 + 2).v[i * LANES + lane] = int8_t(level);
        }
    }
}
