#version 460
// SPDX-License-Identifier: MIT
//
// Cooperative matrices multiplied without loading any, to learn what the device can do: 4 * p.rounds products of 16 x 16
// matrices a subgroup, each added to a sum of its own.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "common.glsl"

layout(push_constant) uniform push { params_peak_product p; };

void main()
{
    coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> a =
        coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>(float16_t(p.value));
    coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB> b =
        coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB>(float16_t(p.value));
    coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator> sums[4];
    [[unroll]] for (uint i = 0; i < 4; i++)
        sums[i] = coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>(float(i));
    [[dont_unroll]] for (uint round = 0; round < p.rounds; round++)
        [[unroll]] for (uint i = 0; i < 4; i++) sums[i] = coopMatMulAdd(a, b, sums[i]);
    float sum = 0.0; // of every element: what nobody needs is not computed
    [[unroll]] for (uint i = 0; i < 4; i++)
        for (uint j = 0; j < sums[i].length(); j++) sum += sums[i][j];
    if (sum == -1.0) f32_ref(p.never).v[0] = sum; // so that it has to be known
}
