#version 460
// SPDX-License-Identifier: MIT
//
// The pe part of a range of rows, in tiles, as the keys of mla_expand. Workgroups: (P * MLA_TILE / GROUP, tiles).
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"
#include "params_mla.h"

layout(constant_id = 2) const uint DTYPE = 0;
layout(constant_id = 3) const uint R = 512;
layout(constant_id = 4) const uint P = 64;
#include "mla_row.glsl"

layout(push_constant) uniform push {
    params_mla_expand p;
};

void main()
{
    const uint i = gl_GlobalInvocationID.x, tile = gl_WorkGroupID.y, at = tile * MLA_TILE + i % MLA_TILE;
    const uint64_t row = row_address(p.table, p.layer, p.row_bytes, p.first + min(at, p.count - 1));
    const float x = row_load(row, R + min(i / MLA_TILE, P - 1));
    if (i < P * MLA_TILE) f32_ref(p.pe).v[tile * P * MLA_TILE + i] = at < p.count ? x : 0;
}
