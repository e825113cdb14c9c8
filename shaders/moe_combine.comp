#version 460
// SPDX-License-Identifier: MIT
//
// y[t] += sum over the choices k of token t, in their order, of weight[t][k] * z[place[t][k]].
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant) uniform push { params_moe_combine p; };

void main()
{
    uint i = gl_GlobalInvocationID.x, t = gl_WorkGroupID.y;
    if (i >= p.width) return;
    float sum = 0.0;
    for (uint k = 0; k < p.n_used; k++) {
        uint slot = t * p.n_used + k;
        sum += f32_in(p.weight).v[slot] * f32_in(p.z + uint64_t(u32_in(p.place).v[slot]) * p.width * 4).v[i];
    }
    f32_ref(p.y + uint64_t(t) * p.width * 4).v[i] += sum;
}
