#version 460
// SPDX-License-Identifier: MIT
//
// Before the convolution of many tokens, which may be done in place: puts aside the three inputs before each segment.
// Workgroups: (width * 3 / GROUP, 3 streams, segments).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "lanes.glsl"
#include "params_kda.h"

layout(push_constant) uniform push {
    params_kda_halo p;
};

void main()
{
    const uint i = gl_GlobalInvocationID.x; // channel * 3 + age
    const uint stream = gl_WorkGroupID.y, segment = gl_WorkGroupID.z;
    if (i < p.width * 3) {
        float x;
        if (segment == 0)
            x = f32_ref(p.history).v[stream * p.width * 3 + i];
        else
            x = f32_ref(p.x[stream]).v[(segment * p.segment - 3 + i % 3) * p.width + i / 3];
        f32_ref(p.halo).v[(segment * 3 + stream) * p.width * 3 + i] = x;
    }
}
