#version 460
// SPDX-License-Identifier: MIT
//
// Sorts slots (slot t * n_used + k is choice k of token t) by expert: order[place] = slot, place[slot]; cuts each
// expert's places into tiles, (expert, first place, end, 0): as many large ones as it fills, and for the rest one small
// one if that holds it; and says how many workgroups the products over them take. One workgroup. Slots of an expert come
// in any order: none of their results depends on it.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 2) const uint EXPERTS = 256;
layout(push_constant) uniform push { params_moe_sort p; };

shared uint next[EXPERTS];  // slots of an expert, then the place of its next slot
shared uint first[EXPERTS]; // place of its first slot
shared uvec2 tile[EXPERTS]; // its first tile, small and large
shared uvec2 n_tiles;

// Tiles of so many places, small and large.
uvec2 tiles_of(uint count)
{
    if (p.tokens[1] == 0) return uvec2((count + p.tokens[0] - 1) / p.tokens[0], 0);
    const uint rest = count % p.tokens[1];
    return uvec2(rest > 0 && rest <= p.tokens[0] ? 1 : 0, count / p.tokens[1] + (rest > p.tokens[0] ? 1 : 0));
}

// By the first subgroup: places and tiles begin where those of the experts before end.
void scan()
{
    uint places = 0;
    uvec2 tiles = uvec2(0);
    for (uint start = 0; start < EXPERTS; start += SUBGROUP) {
        const uint e = start + gl_SubgroupInvocationID;
        const uint count = e < EXPERTS ? next[e] : 0, place = places + subgroupExclusiveAdd(count);
        const uvec2 cut = tiles_of(count), at = tiles + subgroupExclusiveAdd(cut);
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
    for (uint e = id; e < EXPERTS; e += GROUP) {
        const uvec2 count = tiles_of(next[e] - first[e]);
        uint at = first[e];
        for (uint kind = 2; kind-- > 0;) // the rest, which may be small, comes last
            for (uint i = 0; i < count[kind]; i++, at += p.tokens[kind])
                u32x4_ref(p.tiles[kind]).v[tile[e][kind] + i] = uvec4(e, at, min(next[e], at + p.tokens[kind]), 0);
    }
    if (id < 12) {
        const uint product = id / 6, kind = id / 3 % 2, part = id % 3;
        u32_ref(p.groups).v[id] = part == 0 ? p.row_tiles[product] : part == 1 ? n_tiles[kind] : 1;
    }
}
