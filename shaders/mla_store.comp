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

float normalised(f32_in c, uint i, float factor)
{
    return i < R ? c.v[i] * factor * f32_in(p.gain).v[min(i, R - 1)] : c.v[i];
}

void store_plain(f32_in c, float factor, uint64_t row, uint lane)
{
    for (uint i = lane; i < R + P; i += LANES) {
        const float x = normalised(c, i, factor);
        if (DTYPE == 0)
            f32_ref(row).v[i] = x;
        else
            u16_ref(row).v[i] = to_half(x);
    }
}

void store_blocks(f32_in c, float factor, uint64_t row, uint lane)
{
    for (uint b = 0; b < (R + P) / 32; b++) {
        float x[32 / LANES], most = 0;
        [[unroll]] for (uint i = 0; i < 32 / LANES; i++) {
            x[i] = normalised(c, b * 32 + i * LANES + lane, factor);
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

void main()
{
    const uint t = gl_WorkGroupID.x * TEAMS + team_id(), lane = lane_id();
    if (t < p.n) {
        f32_in c = f32_in(p.c + uint64_t(t) * (R + P) * 4);
        const uint64_t row = row_address(p.table, p.layer, p.row_bytes, p.first + t);
        float squares = 0;
        for (uint i = lane; i < R; i += LANES) squares += c.v[i] * c.v[i];
        const float factor = 1 / sqrt(lanes_sum(squares) / R + p.eps);
        if (DTYPE == 8)
            store_blocks(c, factor, row, lane);
        else
            store_plain(c, factor, row, lane);
    }
}
