// SPDX-License-Identifier: MIT
//
// Products of rows with activations that a workgroup keeps in shared memory, for one token on hardware: many rows meet
// the same activations, and a subgroup that loads nothing but weights keeps more of them under way. A team of TEAM
// invocations shares a row, each takes every TEAM-th run.
//
// Slot 2 s + i of a run are neighbours 4 i .. 4 i + 3 of segment s; slot 8, for formats that ask for it, the sums of
// the four segments. A slot of all runs lies together, an odd number apart from the next: what neighbours in a team
// load, and what neighbours in staging store, lies in different banks.
layout(constant_id = 3) const uint TEAM = 8;
layout(constant_id = 4) const uint ROWS = 1;     // rows of a team
layout(constant_id = 5) const uint STAGE = 1024; // vec4 of shared memory
#ifdef WEIGHT_SUMS
const uint SLOTS = 9;
#else
const uint SLOTS = 8;
#endif

shared vec4 staged[STAGE];

uint pitch_of(uint runs)
{
    return runs | 1;
}

// The first column of a place: 8 * run + slot.
uint place_column(uint place)
{
    return run_column(place >> 3) + segment_column(place >> 1 & 3) + 4 * (place & 1);
}

vec4 load_place(uint64_t x, uint place, uint n_in)
{
    const uint column = place_column(place);
    if (WHOLE) return load_f32x4(x + 4 * column);
    vec4 v = vec4(0.0);
    [[unroll]] for (uint i = 0; i < 4; i++)
        if (column + i < n_in) v[i] = f32_ref(x).v[column + i];
    return v;
}

// Called for both places of a segment by neighbouring invocations.
void stage(uint base, uint pitch, uint place, vec4 x)
{
    const uint at = base + (place >> 3);
    staged[at + (place & 7) * pitch] = x;
#ifdef WEIGHT_SUMS
    float sum = total(x);
    sum += subgroupShuffleXor(sum, 1);
    staged[at + 8 * pitch][place >> 1 & 3] = sum;
#endif
}

// The run at staged[at], ready for run_times.
void staged_load(uint at, uint pitch, out vec4 x[8], out vec4 sums)
{
    [[unroll]] for (uint i = 0; i < 8; i++) x[i] = staged[at + i * pitch];
#ifdef WEIGHT_SUMS
    sums = staged[at + 8 * pitch];
#else
    sums = vec4(0.0);
#endif
}

float team_sum(float x)
{
    [[unroll]] for (uint m = TEAM / 2; m > 0; m >>= 1) x += subgroupShuffleXor(x, m);
    return x;
}

uint team_lane()
{
    return gl_SubgroupInvocationID & (TEAM - 1);
}

// Among the teams of the workgroup.
uint team_number()
{
    return (gl_SubgroupID * SUBGROUP + gl_SubgroupInvocationID) / TEAM;
}
