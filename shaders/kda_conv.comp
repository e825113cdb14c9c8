#version 460
// SPDX-License-Identifier: MIT
//
// Short convolution of q, k and v, SiLU, and the L2 norm of q and k over a head. A team for each (segment, head,
// stream) walks over the tokens of its segment and keeps the last three inputs of its channels in registers, so y may
// be x. Workgroups: (3 * n_head * segments / TEAMS).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_kda.h"

layout(constant_id = 2) const uint D = 128;
const uint PER = (D + LANES - 1) / LANES; // channels of a lane

layout(push_constant) uniform push {
    params_kda_conv p;
};

void convolve(uint stream, uint head, uint segment, uint first, uint end)
{
    const uint width = p.n_head * D, lane = lane_id();
    f32_ref x = f32_ref(p.x[stream]), y = f32_ref(p.y[stream]), kernel = f32_ref(p.kernel[stream]);
    const uint before = (segment * 3 + stream) * width * 3;

    float w0[PER], w1[PER], w2[PER], w3[PER], a[PER], b[PER], c[PER];
    [[unroll]] for (uint i = 0; i < PER; i++) {
        const uint channel = head * D + min(i * LANES + lane, D - 1);
        w0[i] = kernel.v[channel * 4];
        w1[i] = kernel.v[channel * 4 + 1];
        w2[i] = kernel.v[channel * 4 + 2];
        w3[i] = kernel.v[channel * 4 + 3];
        a[i] = f32_ref(p.prior).v[before + channel * 3];
        b[i] = f32_ref(p.prior).v[before + channel * 3 + 1];
        c[i] = f32_ref(p.prior).v[before + channel * 3 + 2];
    }
    for (uint t = first; t < end; t++) {
        float r[PER], squares = 0;
        [[unroll]] for (uint i = 0; i < PER; i++) {
            const uint d = i * LANES + lane;
            const float now = d < D ? x.v[t * width + head * D + d] : 0;
            const float s = w0[i] * a[i] + w1[i] * b[i] + w2[i] * c[i] + w3[i] * now;
            r[i] = d < D ? s / (1 + exp(-s)) : 0;
            squares += r[i] * r[i];
            a[i] = b[i];
            b[i] = c[i];
            c[i] = now;
        }
        float factor = 1;
        if (stream < 2) factor = 1 / sqrt(lanes_sum(squares) + 1e-6);
        if (stream == 0) factor *= p.scale;
        [[unroll]] for (uint i = 0; i < PER; i++)
            if (i * LANES + lane < D) y.v[t * width + head * D + i * LANES + lane] = r[i] * factor;
    }
    f32_ref history = f32_ref(p.history);
    [[unroll]] for (uint i = 0; i < PER; i++) {
        const uint at = (stream * width + head * D + i * LANES + lane) * 3;
        if (end == p.n && i * LANES + lane < D) {
            history.v[at] = a[i];
            history.v[at + 1] = b[i];
            history.v[at + 2] = c[i];
        }
    }
}

void main()
{
    const uint unit = gl_WorkGroupID.x * TEAMS + team_id();
    const uint stream = unit % 3, head = unit / 3 % p.n_head, segment = unit / 3 / p.n_head;
    const uint first = segment * p.segment;
    if (first < p.n) convolve(stream, head, segment, first, min(first + p.segment, p.n));
}
