#version 460
// SPDX-License-Identifier: MIT
//
// Adds up the splits of mla_split, each scaled to the common maximum. First an invocation for each split says by how
// much; then invocations are CHANNELS channels, and TEAMS of them divide the splits.
// Workgroups: (R / CHANNELS, queries).
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
shared float sums[GROUP];

// Sets scales[split] = exp(maximum of the split - highest maximum) / total
void scale_splits(uint query)
{
    const uint self = gl_LocalInvocationID.x;
    float high = -1e30, total = 0.0;
    // A few hundred bytes: every invocation finds the highest by itself.
    for (uint s = 0; s < p.splits; s++) high = max(high, f32_in(p.totals).v[2 * (s * p.pitch + query)]);
    for (uint s = self; s < p.splits; s += GROUP) {
        const uint at = 2 * (s * p.pitch + query);
        const float scale = exp(f32_in(p.totals).v[at] - high);
        scales[s] = scale;
        total += f32_in(p.totals).v[at + 1] * scale;
    }
    total = group_sum(total);
    for (uint s = self; s < p.splits; s += GROUP) scales[s] /= total;
    barrier();
}

void main()
{
    const uint query = gl_WorkGroupID.y, team = gl_LocalInvocationID.x / CHANNELS;
    const uint channel = gl_WorkGroupID.x * CHANNELS + gl_LocalInvocationID.x % CHANNELS;
    scale_splits(query);
    float sum = 0.0;
    for (uint s = team; s < p.splits; s += TEAMS)
        sum += scales[s] * f32_in(p.part).v[(s * p.pitch + query) * R + min(channel, R - 1)];
    sums[gl_LocalInvocationID.x] = sum;
    barrier();
    if (team == 0 && channel < R) {
        [[dont_unroll]] for (uint t = 1; t < TEAMS; t++) sum += sums[t * CHANNELS + gl_LocalInvocationID.x];
        f32_ref(p.latent).v[query * R + channel] = sum;
    }
}
