#version 460
// SPDX-License-Identifier: MIT
//
// Cuts each expert's places into tiles of at most `tokens`: (expert, first place, end, 0). The rest of the table, sized
// for the worst case, holds empty tiles. One subgroup.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant) uniform push { params_moe_tiles p; };

void main()
{
    uint next = 0;
    for (uint first = 0; first < p.n_expert; first += SUBGROUP) {
        uint e = first + gl_SubgroupInvocationID;
        uint begin = 0, end = 0;
        if (e < p.n_expert) {
            begin = u32_in(p.ranges).v[2 * e];
            end = u32_in(p.ranges).v[2 * e + 1];
        }
        uint count = (end - begin + p.tokens - 1) / p.tokens;
        uint at = next + subgroupExclusiveAdd(count);
        for (uint i = 0; i < count; i++)
            u32x4_ref(p.tiles).v[at + i] = uvec4(e, begin + i * p.tokens, min(end, begin + (i + 1) * p.tokens), 0);
        next += subgroupAdd(count);
    }
    for (uint i = next + gl_SubgroupInvocationID; i < p.n_tiles; i += SUBGROUP) u32x4_ref(p.tiles).v[i] = uvec4(0);
}
