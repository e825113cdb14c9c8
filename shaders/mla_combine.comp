#version 460
// SPDX-License-Identifier: MIT
//
// Adds up the splits of mla_split, each scaled to the common maximum. A team for each query and LANES channels.
// Workgroups: (R / GROUP, queries).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint R = 512;

layout(push_constant) uniform push {
    params_mla_combine p;
};

void main()
{
    const uint channel = gl_GlobalInvocationID.x, query = gl_WorkGroupID.y;
    if (channel < R) {
        float most = -1e30, total = 0, sum = 0;
        for (uint s = 0; s < p.splits; s++) {
            f32_in part = f32_in(p.part + (uint64_t(s) * p.queries + query) * (R + 2) * 4);
            const float high = max(most, part.v[R]), keep = exp(most - high), scale = exp(part.v[R] - high);
            total = total * keep + part.v[R + 1] * scale;
            sum = sum * keep + part.v[channel] * scale;
            most = high;
        }
        f32_ref(p.latent).v[query * R + channel] = sum / total;
    }
}
