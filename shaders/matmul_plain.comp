#version 460
// SPDX-License-Identifier: MIT
//
// matmul_half.glsl in plain arithmetic.
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#define MATRIX16_PLAIN
#include "common.glsl"
#include "dequant.glsl"
#include "run.glsl"
#include "matmul_half.glsl"
