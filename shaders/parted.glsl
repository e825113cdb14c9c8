// SPDX-License-Identifier: MIT
//
// Products of rows with activations that stay in registers, for one token on hardware: a subgroup has a part of the
// columns, TEAM runs, one of each invocation of a team. Its SIDE teams have a row each and go through the ROWS rows of
// the workgroup step by step, while the loads of AHEAD steps are under way. Sums of the parts meet in shared memory.
//
//   rows_begin(run)             the first loads
//   rows_add(run, x, more)      products with x; more: parts[] has sums of this subgroup already
//   barrier()
//   rows_sum(row)               of all parts
//
// The kernel says where rows are (row of the workgroup, below ROWS) and how wide:
uint64_t row_at(uint row);
uint columns();

layout(constant_id = 3) const uint TEAM = 8;
layout(constant_id = 4) const uint AHEAD = 4; // at most STEPS
layout(constant_id = 5) const uint STEPS = 4;
const uint SIDE = SUBGROUP / TEAM, ROWS = STEPS * SIDE, SUBGROUPS = GROUP / SUBGROUP;

shared float parts[SUBGROUPS * ROWS];
run_raw ahead[AHEAD];

uint team_lane()
{
    return gl_SubgroupInvocationID & (TEAM - 1);
}

uint team_number()
{
    return gl_SubgroupInvocationID / TEAM;
}

float team_sum(float x)
{
    [[unroll]] for (uint m = TEAM / 2; m > 0; m >>= 1) x += subgroupShuffleXor(x, m);
    return x;
}

uint runs_of(uint n_in)
{
    return (n_in + RUN - 1) / RUN;
}

// Four neighbours of a run: slot 2 s + i has those from 4 i on of segment s.
uint slot_column(uint run, uint slot)
{
    return run_column(run) + segment_column(slot >> 1) + 4 * (slot & 1);
}

vec4 load_slot(uint64_t x, uint run, uint slot)
{
    const uint column = slot_column(run, slot);
    if (WHOLE) return load_f32x4(x + 4 * column);
    vec4 v = vec4(0.0);
    [[unroll]] for (uint k = 0; k < 4; k++)
        if (column + k < columns()) v[k] = f32_ref(x).v[column + k];
    return v;
}

void load_run(uint64_t x, uint run, out vec4 v[8])
{
    [[unroll]] for (uint i = 0; i < 8; i++) v[i] = load_slot(x, run, i);
}

void rows_begin(uint run)
{
    [[unroll]] for (uint i = 0; i < AHEAD; i++) ahead[i] = run_load(row_at(i * SIDE + team_number()), run, columns());
}

void rows_add(uint run, vec4 x[8], bool more)
{
    const uint at = gl_SubgroupID * ROWS + team_number();
    const bool writes = team_lane() == 0;
    vec4 sums;
    [[unroll]] for (uint s = 0; s < 4; s++) sums[s] = total(x[2 * s] + x[2 * s + 1]);
    [[dont_unroll]] for (uint first = 0; first < STEPS; first += AHEAD) {
        [[unroll]] for (uint i = 0; i < AHEAD; i++) {
            const uint step = first + i;
            if (step < STEPS) {
                const float sum = team_sum(run_times(ahead[i], run, x, sums));
                if (writes) parts[at + step * SIDE] = sum + (more ? parts[at + step * SIDE] : 0.0);
                if (step + AHEAD < STEPS)
                    ahead[i] = run_load(row_at((step + AHEAD) * SIDE + team_number()), run, columns());
            }
        }
    }
}

float rows_sum(uint row)
{
    float sum = 0.0;
    [[unroll]] for (uint s = 0; s < SUBGROUPS; s++) sum += parts[s * ROWS + row];
    return sum;
}
