#version 460
// SPDX-License-Identifier: MIT
//
// Rows of activations as halves for matmul_half.glsl, x or silu(x) * up. So that no number of a row is beyond a half's
// range and none that matters is below it, a row is multiplied by the power of two that brings its greatest into
// [2^12, 2^13); scale[row] undoes that, exactly. Columns from width to y_stride become 0. Of every four
// neighbours 0 and 2 come before 1 and 3, as in run_half.glsl. A workgroup a row.
#extension GL_GOOGLE_include_directive : require
#include "common.glsl"

layout(constant_id = 2) const bool GATED = false;
layout(constant_id = 3) const bool WHOLE = true; // rows are whole fours on multiples of 16 bytes
layout(push_constant) uniform push { params_pack p; };

vec4 load_row(uint64_t row, uint i)
{
    if (WHOLE) return load_f32x4(row + 4 * i);
    vec4 v;
    [[unroll]] for (uint j = 0; j < 4; j++) v[j] = i + j < p.width ? f32_ref(row).v[i + j] : 0.0;
    return v;
}

vec4 load_part(uint64_t x, uint64_t up, uint i)
{
    vec4 v = load_row(x, i);
    if (GATED) {
        const vec4 u = load_row(up, i);
        [[unroll]] for (uint j = 0; j < 4; j++) v[j] = silu(v[j]) * u[j];
    }
    return v;
}

float group_max(float x)
{
    x = subgroupMax(x);
    if (subgroupElect()) group_parts[gl_SubgroupID] = x;
    barrier();
    for (uint i = 0; i < GROUP / SUBGROUP; i++) x = max(x, group_parts[i]);
    return x;
}

void main()
{
    const uint row = gl_WorkGroupID.x, step = 4 * GROUP;
    const uint64_t x = p.x + uint64_t(row) * p.x_stride * 4, up = p.up + uint64_t(row) * p.x_stride * 4;
    float most = 0.0;
    for (uint i = 4 * gl_LocalInvocationID.x; i < p.width; i += step) {
        const vec4 v = abs(load_part(x, up, i));
        most = max(most, max(max(v.x, v.y), max(v.z, v.w)));
    }
    most = group_max(most);
    // Of the greatest: its exponent. Zero, and what is not finite, stays as it is.
    const int exponent = most > 0.0 && most <= 3.4e38 ? int(floatBitsToUint(most) >> 23) - 127 : 12;
    const float scale = uintBitsToFloat(uint(clamp(12 - exponent, -126, 126) + 127) << 23);
    u64_ref y = u64_ref(p.y + uint64_t(row) * p.y_stride * 2);
    for (uint i = 4 * gl_LocalInvocationID.x; i < p.y_stride; i += step) {
        const vec4 v = i < p.width ? load_part(x, up, i) * scale : vec4(0.0);
        y.v[i / 4] = pack64(uvec2(packHalf2x16(v.xz), packHalf2x16(v.yw)));
    }
    if (gl_LocalInvocationID.x == 0)
        f32_ref(p.scale).v[row] = uintBitsToFloat(uint(127 - clamp(12 - exponent, -126, 126)) << 23);
}
