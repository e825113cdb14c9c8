#version 460
// SPDX-License-Identifier: MIT
//
// A plain copy, to learn what the memory can do. Workgroups walk over all in steps of the whole grid.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant) uniform push { params_peak_copy p; };

void main()
{
    for (uint i = gl_GlobalInvocationID.x; i < p.count; i += gl_NumWorkGroups.x * GROUP)
        u32x4_ref(p.to).v[i] = u32x4_in(p.from).v[i];
}
