// SPDX-License-Identifier: MIT
//
// Products of 16 x 16 matrices that lie in shared memory, f16 in and f32 out, each by a subgroup together. In hardware
// (KHR_cooperative_matrix), or with MATRIX16_PLAIN in plain arithmetic with the same result: for devices without, on
// which everything around the products is tested.
//
// The includer declares before:  shared uvec4 tile[];  const uint PITCH;
// A matrix is 16 vectors of 16 halves, two words of the tile each, PITCH words apart. at: the first word. Of the weights
// a vector is a row, of the activations a token.
//
//   MATRIX_SUM                                         16 weights' rows by 16 tokens, spread over the subgroup
//   matrix_weights(at), matrix_tokens(at)              operands
//   matrix_clear(sum)                                  sum = 0
//   matrix_add(weights, tokens, sum)                   sum += product
//   matrix_store(sum, at)                              f32 into the tile: word at + 4 * token + row / 4
#ifndef MATRIX16_PLAIN

#define MATRIX_WEIGHTS coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA>
#define MATRIX_TOKENS coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseB>
#define MATRIX_SUM coopmat<float, gl_ScopeSubgroup, 16, 16, gl_MatrixUseAccumulator>

MATRIX_WEIGHTS matrix_weights(uint at)
{
    MATRIX_WEIGHTS m;
    coopMatLoad(m, tile, at, PITCH, gl_CooperativeMatrixLayoutRowMajor);
    return m;
}
MATRIX_TOKENS matrix_tokens(uint at)
{
    MATRIX_TOKENS m;
    coopMatLoad(m, tile, at, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
    return m;
}
#define matrix_clear(sum) sum = MATRIX_SUM(0.0)
#define matrix_add(weights, tokens, sum) sum = coopMatMulAdd(weights, tokens, sum)
#define matrix_store(sum, at) coopMatStore(sum, tile, at, 4, gl_CooperativeMatrixLayoutColumnMajor)

#else

// Element e = row + 16 * token belongs to invocation e % SUBGROUP.
const uint MATRIX_OWN = 256 / SUBGROUP;
struct matrix_sum {
    float v[MATRIX_OWN];
};
#define MATRIX_WEIGHTS uint
#define MATRIX_TOKENS uint
#define MATRIX_SUM matrix_sum

void matrix_clear(inout matrix_sum m)
{
    [[dont_unroll]] for (uint i = 0; i < MATRIX_OWN; i++) m.v[i] = 0.0;
}
uint matrix_weights(uint at)
{
    return at;
}
uint matrix_tokens(uint at)
{
    return at;
}
float dot8(uvec4 a, uvec4 b)
{
    float sum = 0.0;
    [[unroll]] for (uint i = 0; i < 4; i++) sum += dot(unpackHalf2x16(a[i]), unpackHalf2x16(b[i]));
    return sum;
}
void matrix_add(uint weights, uint tokens, inout matrix_sum m)
{
    [[dont_unroll]] for (uint i = 0; i < MATRIX_OWN; i++) {
        const uint e = gl_SubgroupInvocationID + SUBGROUP * i;
        const uint a = weights + e % 16 * PITCH, b = tokens + e / 16 * PITCH;
        m.v[i] += dot8(tile[a], tile[b]) + dot8(tile[a + 1], tile[b + 1]);
    }
}
void matrix_store(matrix_sum m, uint at)
{
    [[dont_unroll]] for (uint i = 0; i < MATRIX_OWN; i++) {
        const uint e = gl_SubgroupInvocationID + SUBGROUP * i;
        tile[at + e / 4][e % 4] = floatBitsToUint(m.v[i]);
    }
}

#endif
