#version 460
// SPDX-License-Identifier: MIT
//
// y = silu(gate) * up, element by element; y may be gate.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant) uniform push { params_swiglu p; };

void main()
{
    uint i = gl_GlobalInvocationID.x;
    if (i < p.count) f32_ref(p.y).v[i] = silu(f32_ref(p.gate).v[i]) * f32_in(p.up).v[i];
}
