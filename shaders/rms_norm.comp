#version 460
// SPDX-License-Identifier: MIT
//
// y[t] = x[t] / sqrt(mean(x[t]^2) + eps) * gain. One workgroup a row; y may be x.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant) uniform push { params_rms_norm p; };

void main()
{
    uint64_t row = uint64_t(gl_WorkGroupID.x) * p.width * 4;
    f32_ref x = f32_ref(p.x + row);
    float squares = 0.0;
    for (uint i = gl_LocalInvocationID.x; i < p.width; i += GROUP) squares += x.v[i] * x.v[i];
    float scale = inversesqrt(group_sum(squares) / float(p.width) + p.eps);
    f32_ref y = f32_ref(p.y + row);
    for (uint i = gl_LocalInvocationID.x; i < p.width; i += GROUP) y.v[i] = x.v[i] * scale * f32_in(p.gain).v[i];
}
