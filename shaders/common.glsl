// SPDX-License-Identifier: MIT
//
// What every kernel starts with: extensions, references to memory by address, sums over a workgroup.
// Specialisation constants: 0 = invocations of a workgroup, 1 = invocations of a subgroup, from 2 on the kernel's own.
// Workgroups are one-dimensional. params.h is included here; a kernel declares
//     layout(push_constant) uniform push { params_NAME p; };
#extension GL_EXT_buffer_reference : require
#extension GL_EXT_buffer_reference2 : require
#extension GL_EXT_scalar_block_layout : require
#extension GL_EXT_shader_16bit_storage : require
#extension GL_EXT_shader_8bit_storage : require
#extension GL_EXT_shader_explicit_arithmetic_types_int8 : require
#extension GL_EXT_shader_explicit_arithmetic_types_int16 : require
#extension GL_EXT_shader_explicit_arithmetic_types_int32 : require
#extension GL_EXT_shader_explicit_arithmetic_types_int64 : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_arithmetic : require
#extension GL_KHR_shader_subgroup_ballot : require
#extension GL_KHR_shader_subgroup_shuffle : require

#include "params.h"

layout(local_size_x_id = 0, local_size_y = 1, local_size_z = 1) in;
layout(constant_id = 1) const uint SUBGROUP = 32;
#define GROUP gl_WorkGroupSize.x

// References: f32_in(p.x).v[i]. _in: read by the whole dispatch and written by none of it.
#define REFERENCE(name, type, align)                                                                                   \
    layout(buffer_reference, scalar, buffer_reference_align = align) readonly restrict buffer name##_in { type v[]; }; \
    layout(buffer_reference, scalar, buffer_reference_align = align) buffer name##_ref { type v[]; };
REFERENCE(f32, float, 4)
REFERENCE(u32, uint32_t, 4)
REFERENCE(u32x4, uvec4, 16)
REFERENCE(u64, uint64_t, 8)
REFERENCE(u64x2, u64vec2, 16)
REFERENCE(u16, uint16_t, 2)
REFERENCE(u8, uint8_t, 1)
REFERENCE(i8, int8_t, 1)

// Sixteen bytes on a multiple of sixteen, as two 64-bit words: one load where the device has such, and half as many as
// four 32-bit words where every word is a load of its own.
uvec4 load_u32x4(uint64_t a)
{
    u64vec2 v = u64x2_ref(a).v[0];
    return uvec4(unpack32(v.x), unpack32(v.y));
}
uvec2 load_u32x2(uint64_t a)
{
    return unpack32(u64_ref(a).v[0]);
}
vec4 load_f32x4(uint64_t a)
{
    return uintBitsToFloat(load_u32x4(a));
}

float half_to_float(uint h) // the low 16 bits
{
    return unpackHalf2x16(h & 0xffffu).x;
}

float silu(float x)
{
    return x / (1.0 + exp(-x));
}

shared float group_parts[64];

// The sum over all invocations of the workgroup, in all of them. Every invocation must call it.
float group_sum(float x)
{
    x = subgroupAdd(x);
    if (GROUP > SUBGROUP) {
        barrier(); // an earlier call's reads
        if (subgroupElect()) group_parts[gl_SubgroupID] = x;
        barrier();
        x = 0.0;
        for (uint i = 0; i < GROUP / SUBGROUP; i++) x += group_parts[i];
    }
    return x;
}
