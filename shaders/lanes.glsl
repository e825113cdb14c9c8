// SPDX-License-Identifier: MIT
//
// Kernels that work in teams: a team is LANES = min(subgroup, 32) neighbouring invocations of one subgroup, a workgroup
// has TEAMS of them.
//
// Coefficients that all lanes need are loaded once, a different one in every lane, and passed round with a shuffle from
// a constant lane: on a software device that is one instruction, where a load costs several for each lane.
//
// Kernels do not return early and functions return once: work is put under an if instead. What the compiler makes of an
// early return slows every later load on a software device by half.
#ifndef LANES_GLSL
#define LANES_GLSL

const uint LANES = SUBGROUP < 32 ? SUBGROUP : 32;
const uint TEAMS = GROUP / LANES;

uint lane_id()
{
    return gl_SubgroupInvocationID & (LANES - 1);
}

uint team_id()
{
    return gl_SubgroupID * (SUBGROUP / LANES) + gl_SubgroupInvocationID / LANES;
}

// x of lane k of our team
float lane_get(float x, uint k)
{
    const uint base = SUBGROUP == LANES ? 0 : gl_SubgroupInvocationID & ~(LANES - 1);
    return subgroupShuffle(x, base + k);
}

float lanes_sum(float x)
{
    [[unroll]] for (uint m = LANES / 2; m > 0; m >>= 1) x += subgroupShuffleXor(x, m);
    return x;
}

float lanes_max(float x)
{
    [[unroll]] for (uint m = LANES / 2; m > 0; m >>= 1) x = max(x, subgroupShuffleXor(x, m));
    return x;
}

#endif
