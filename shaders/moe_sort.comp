#version 460
// SPDX-License-Identifier: MIT
//
// Sorts slots (slot t * n_used + k is choice k of token t) by expert: order[place] = slot, place[slot]; cuts each
// expert's places into tiles of at most `tokens`, (expert, first place, end, 0); and says how many workgroups the
// products over them take. One workgroup. Slots of an expert come in any order: none of their results depends on it.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 2) const uint EXPERTS = 256;
layout(push_constant) uniform push { params_moe_sort p; };

shared uint next[EXPERTS];  // slots of an expert, then the place of its next slot
shared uint first[EXPERTS]; // place of its first slot
shared uint tile[EXPERTS];  // its first tile
shared uint n_tiles;

// By the first subgroup: places and tiles begin where those of the experts before end.
void scan()
{
    uint places = 0, tiles = 0;
    for (uint start = 0; start < EXPERTS; start += SUBGROUP) {
        const uint e = start + gl_SubgroupInvocationID;
        const uint count = e < EXPERTS ? next[e] : 0, cut = (count + p.tokens - 1) / p.tokens;
        const uint place = places + subgroupExclusiveAdd(count), at = tiles + subgroupExclusiveAdd(cut);
        if (e < EXPERTS) {
            first[e] = next[e] = place;
            tile[e] = at;
        }
        places += subgroupAdd(count);
        tiles += subgroupAdd(cut);
    }
    n_tiles = tiles;
}

void main()
{
    const uint id = gl_LocalInvocationID.x;
    for (uint e = id; e < EXPERTS; e += GROUP) next[e] = 0;
    barrier();
    for (uint i = id; i < p.slots; i += GROUP) atomicAdd(next[u32_in(p.chosen).v[i]], 1);
    barrier();
    if (gl_SubgroupID == 0) scan();
    barrier();
    for (uint i = id; i < p.slots; i += GROUP) {
        const uint at = atomicAdd(next[u32_in(p.chosen).v[i]], 1);
        u32_ref(p.order).v[at] = i;
        u32_ref(p.place).v[i] = at;
    }
    barrier();
    for (uint e = id; e < EXPERTS; e += GROUP)
        for (uint at = first[e], i = tile[e]; at < next[e]; at += p.tokens, i++)
            u32x4_ref(p.tiles).v[i] = uvec4(e, at, min(next[e], at + p.tokens), 0);
    if (id < 6) u32_ref(p.groups).v[id] = id % 3 == 0 ? p.row_tiles[id / 3] : id % 3 == 1 ? n_tiles : 1;
}
