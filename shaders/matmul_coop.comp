#version 460
// SPDX-License-Identifier: MIT
//
// matmul_half.glsl on cooperative matrices.
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#include "common.glsl"
#include "dequant.glsl"
#include "run.glsl"
#include "matmul_half.glsl"
