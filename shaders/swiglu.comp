#version 460
// SPDX-License-Identifier: MIT
//
// y = silu(gate) * up on rows of `width`, each operand with its own distance between rows; y may be gate.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant) uniform push { params_swiglu p; };

void main()
{
    uint i = gl_GlobalInvocationID.x, t = gl_WorkGroupID.y;
    if (i >= p.width) return;
    float g = f32_ref(p.gate + uint64_t(t) * p.gate_stride * 4).v[i];
    float u = f32_ref(p.up + uint64_t(t) * p.up_stride * 4).v[i];
    f32_ref(p.y + uint64_t(t) * p.y_stride * 4).v[i] = silu(g) * u;
}
