#version 460
// SPDX-License-Identifier: MIT
//
// Sorts slots (slot t * n_used + k is choice k of token t) by expert, keeping their order: order[place] = slot,
// place[slot], and of each expert the range of its places. A subgroup an expert: it counts the slots of lower experts,
// which is where its own begin, and then hands out places in a second pass.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(push_constant) uniform push { params_moe_sort p; };

void main()
{
    uint e = gl_WorkGroupID.x;
    uint lower = 0, own = 0;
    for (uint i = gl_SubgroupInvocationID; i < p.slots; i += SUBGROUP) {
        uint c = u32_in(p.chosen).v[i];
        lower += c < e ? 1 : 0;
        own += c == e ? 1 : 0;
    }
    uint next = subgroupAdd(lower);
    own = subgroupAdd(own);
    if (subgroupElect()) {
        u32_ref(p.ranges).v[2 * e] = next;
        u32_ref(p.ranges).v[2 * e + 1] = next + own;
    }
    if (own == 0) return;
    for (uint first = 0; first < p.slots; first += SUBGROUP) {
        uint i = first + gl_SubgroupInvocationID;
        uint mine = i < p.slots && u32_in(p.chosen).v[min(i, p.slots - 1)] == e ? 1 : 0;
        uint at = next + subgroupExclusiveAdd(mine);
        if (mine != 0) {
            u32_ref(p.order).v[at] = i;
            u32_ref(p.place).v[i] = at;
        }
        next += subgroupAdd(mine);
    }
}
