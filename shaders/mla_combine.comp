#version 460
// SPDX-License-Identifier: MIT
//
// Adds up the splits of mla_split, each scaled to the common maximum. First invocations are splits and say by how much;
// then they are CHANNELS channels, and TEAMS of them divide the splits. Workgroups: (R / CHANNELS, queries).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint R = 512;
layout(constant_id = 3) const uint CHANNELS = 64; // divides GROUP
const uint TEAMS = GROUP / CHANNELS;

layout(push_constant) uniform push {
    params_mla_combine p;
};

shared float scales[MLA_SPLITS];
shared float parts[GROUP];

// The highest over all invocations, in all of them.
float group_max(float x)
{
    x = subgroupMax(x);
    if (subgroupElect()) parts[gl_SubgroupID] = x;
    barrier();
    [[dont_unroll]] for (uint i = 0; i < GROUP / SUBGROUP; i++) x = max(x, parts[i]);
    barrier();
    return x;
}

// scales[split] = exp(maximum of the split - highest maximum) / total
void scale_splits(uint query)
{
    float high = -1e30, total = 0.0;
    for (uint s = gl_LocalInvocationID.x; s < p.splits; s += GROUP)
        high = max(high, f32_in(p.totals).v[2 * (s * p.pitch + query)]);
    high = group_max(high);
    for (uint s = gl_LocalInvocationID.x; s < p.splits; s += GROUP) {
        const uint at = 2 * (s * p.pitch + query);
        scales[s] = exp(f32_in(p.totals).v[at] - high);
        total += f32_in(p.totals).v[at + 1] * scales[s];
    }
    total = group_sum(total);
    for (uint s = gl_LocalInvocationID.x; s < p.splits; s += GROUP) scales[s] /= total;
    barrier();
}

void main()
{
    const uint query = gl_WorkGroupID.y, self = gl_LocalInvocationID.x, team = self / CHANNELS;
    const uint channel = gl_WorkGroupID.x * CHANNELS + self % CHANNELS;
    scale_splits(query);
    float sum = 0.0;
    for (uint s = team; s < p.splits; s += TEAMS)
        sum += scales[s] * f32_in(p.part).v[(s * p.pitch + query) * R + min(channel, R - 1)];
    parts[self] = sum;
    barrier();
    if (team == 0 && channel < R) {
        [[dont_unroll]] for (uint t = 1; t < TEAMS; t++) sum += parts[t * CHANNELS + self];
        f32_ref(p.latent).v[query * R + channel] = sum;
    }
}
