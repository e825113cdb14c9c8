#version 460
// SPDX-License-Identifier: MIT
//
// Decays and write strengths: f <- a_h softplus(f + dt) <= 0, beta <- sigmoid(beta).
// Workgroups: (n_head * D / GROUP, n).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_kda.h"
#include "softplus.glsl"

layout(constant_id = 2) const uint D = 128;

layout(push_constant) uniform push {
    params_kda_gate p;
};

void main()
{
    const uint channel = gl_GlobalInvocationID.x, token = gl_WorkGroupID.y, width = p.n_head * D;
    if (channel < width) {
        const uint head = channel / D;
        f32_ref f = f32_ref(p.f), beta = f32_ref(p.beta);
        const float x = f.v[token * width + channel] + f32_ref(p.dt).v[channel];
        f.v[token * width + channel] = f32_ref(p.a).v[head] * softplus(x);
        if (channel % D == 0) {
            const uint at = token * p.n_head + head;
            beta.v[at] = 1 / (1 + exp(-beta.v[at]));
        }
    }
}
