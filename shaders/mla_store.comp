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

const uint PER = (R + P + LANES - 1) / LANES; // elements of a lane, LANES apart

void store_plain(float x[PER], uint64_t row, uint lane)
{
    [[unroll]] for (uint i = 0; i < PER; i++) {
        const uint at = i * LANES + lane;
        if (at < R + P) {
            if (DTYPE == 0)
                f32_ref(row).v[at] = x[i];
            else
                u16_ref(row).v[at] = to_half(x[i]);
        }
    }
}

void store_blocks(float x[PER], uint64_t row, uint lane)
{
    const uint PART = 32 / LANES;
    [[unroll]] for (uint b = 0; b < (R + P) / 32; b++) {
        float most = 0;
        [[unroll]] for (uint i = 0; i < PART; i++) most = max(most, abs(x[b * PART + i]));
        const uint16_t scale = to_half(lanes_max(most) / 127);
        const float step = half_to_float(uint(scale));
        if (lane == 0) u16_ref(row + b * 34).v[0] = scale;
        [[unroll]] for (uint i = 0; i < PART; i++) {
            const float level = step > 0 ? clamp(roundEven(x[b * PART + i] / step), -127, 127) : 0;
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
        // All loads first: with one token there is nobody else to wait with.
        float x[PER], gain[PER], squares = 0;
        [[unroll]] for (uint i = 0; i < PER; i++) {
            const uint at = min(i * LANES + lane, R + P - 1);
            x[i] = c.v[at];
            gain[i] = at < R ? f32_in(p.gain).v[min(at, R - 1)] : 0;
        }
        [[unroll]] for (uint i = 0; i < PER; i++) squares += i * LANES + lane < R ? x[i] * x[i] : 0;
        const float factor = 1 / sqrt(lanes_sum(squares) / R + p.eps);
        [[unroll]] for (uint i = 0; i < PER; i++)
            if (i * LANES + lane < R) x[i] = x[i] * factor * gain[i];
        if (DTYPE == 8)
            store_blocks(x, row, lane);
        else
            store_plain(x, row, lane);
    }
}
