// SPDX-License-Identifier: MIT
//
// Cooperative matrices for the mla_*_coop kernels: 16 x 16, f16 in and f32 out, loaded from memory as well.
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#ifndef MLA_COOP_GLSL
#define MLA_COOP_GLSL

const uint SIDE = 16;
const float LOWEST = -1e30;

#define HALF_A coopmat<float16_t, gl_ScopeSubgroup, SIDE, SIDE, gl_MatrixUseA>
#define HALF_B coopmat<float16_t, gl_ScopeSubgroup, SIDE, SIDE, gl_MatrixUseB>
#define HALF_SUMS coopmat<float16_t, gl_ScopeSubgroup, SIDE, SIDE, gl_MatrixUseAccumulator>
#define SUMS coopmat<float, gl_ScopeSubgroup, SIDE, SIDE, gl_MatrixUseAccumulator>

layout(buffer_reference, scalar, buffer_reference_align = 16) readonly restrict buffer half_in {
    float16_t v[];
};
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer half_ref {
    float16_t v[];
};
layout(buffer_reference, scalar, buffer_reference_align = 16) buffer sums_ref {
    float v[];
};

#endif
