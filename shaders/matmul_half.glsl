// SPDX-License-Identifier: MIT
//
// y[t] (+)= W x[t] for many tokens by products of 16 x 16 halves, summed in f32. The body of matmul_coop.comp and
// matmul_plain.comp. A workgroup computes ROWS output rows of TOKENS tokens, STEP_RUNS runs of columns at a time: each
// invocation decodes one run of a row, and together they fetch those columns of x, while the runs before are multiplied.
// Grouped, where all that matters is that many loads are under way, they are fetched a step earlier still.
// x is halves, each row times a power of two that p.scale undoes (pack.comp), and whole steps: beyond n_in it holds 0.
//
// Workgroups: (rows / ROWS, tokens / TOKENS or tiles). Specialised with OWN_ROWS * OWN_TOKENS matrices of 16 rows by 16
// tokens a subgroup: all subgroups' make the tile.
// Grouped: as in matmul.comp.
layout(constant_id = 3) const uint OWN_TOKENS = 2;
layout(constant_id = 4) const uint TOKENS = 128;
layout(constant_id = 5) const bool GROUPED = false;
layout(constant_id = 6) const uint ROWS = 128;
layout(constant_id = 7) const uint STEP_RUNS = 2; // GROUP = ROWS * STEP_RUNS
layout(push_constant) uniform push { params_matmul p; };

const uint SUBGROUPS = ROWS * STEP_RUNS / SUBGROUP;
const uint OWN_ROWS = ROWS / 16 * (TOKENS / 16) / SUBGROUPS / OWN_TOKENS;
const uint ROW_OWNERS = ROWS / 16 / OWN_ROWS; // subgroups side by side along the rows
// In words of 16 bytes. One more a row than it fills, so that rows lie in different banks.
const uint PITCH = 4 * STEP_RUNS + 1;
const uint STAGE = 64; // a matrix of results on its way out, for each subgroup
const uint INPUTS = (ROWS + TOKENS) * PITCH, OUTPUTS = SUBGROUPS * STAGE;
const uint X_ROW = 4 * STEP_RUNS, X_WORDS = TOKENS * X_ROW; // of x, in a step
const uint X_OWN = (X_WORDS + ROWS * STEP_RUNS - 1) / (ROWS * STEP_RUNS);

// First the rows of W, then those of x.
shared uvec4 tile[INPUTS > OUTPUTS ? INPUTS : OUTPUTS];

#include "matrix16.glsl"
#include "run_half.glsl"

const uint AHEAD = GROUPED ? 2 : 1; // steps from fetching to multiplying

uint64_t w_row, x_row[X_OWN]; // what this invocation fetches from, of x with the columns within a step
run_raw w_raw, w_kept;        // fetched last, and next to go into the tile
uvec4 x_raw[X_OWN], x_kept[X_OWN];

// The matrix of this workgroup; its tokens are rows [first, end) of y.
uint64_t tile_find(out uint first, out uint end)
{
    uint matrix = 0;
    if (GROUPED) {
        const uvec4 found = u32x4_in(p.tiles).v[gl_WorkGroupID.y];
        matrix = found.x;
        first = found.y;
        end = found.z;
    } else {
        first = gl_WorkGroupID.y * TOKENS;
        end = min(first + TOKENS, p.n);
    }
    return p.w + matrix * p.mat_bytes;
}

uint x_index(uint row)
{
    return GROUPED && p.order != 0 ? u32_in(p.order).v[row] / p.share : row;
}

void sources_find(uint64_t w, uint top, uint first, uint end)
{
    const uint id = gl_LocalInvocationID.x;
    w_row = w + uint64_t(min(top + id / STEP_RUNS, p.n_out - 1)) * p.row_bytes;
    [[unroll]] for (uint i = 0; i < X_OWN; i++) {
        const uint token = (id + i * GROUP) / X_ROW, word = (id + i * GROUP) % X_ROW;
        const uint column = run_column(word / 4) + segment_column(word % 4);
        x_row[i] = p.x + (uint64_t(x_index(min(first + token, end - 1))) * p.x_stride + column) * 2;
    }
}

void step_fetch(uint step, uint runs)
{
    [[unroll]] for (uint i = 0; i < X_OWN; i++) x_raw[i] = load_u32x4(x_row[i] + 2 * run_column(step * STEP_RUNS));
    w_raw = run_fetch(w_row, min(step * STEP_RUNS + gl_LocalInvocationID.x % STEP_RUNS, runs - 1), p.n_in);
}

void step_keep()
{
    w_kept = w_raw;
    [[unroll]] for (uint i = 0; i < X_OWN; i++) x_kept[i] = x_raw[i];
}

void step_fill(uint step, uint runs)
{
    const uint id = gl_LocalInvocationID.x, run = min(step * STEP_RUNS + id % STEP_RUNS, runs - 1);
    uvec4 h[4];
    run_halves(w_kept, run, h);
    barrier(); // the products of the step before
    [[unroll]] for (uint s = 0; s < 4; s++) tile[id / STEP_RUNS * PITCH + id % STEP_RUNS * 4 + s] = h[s];
    [[unroll]] for (uint i = 0; i < X_OWN; i++) {
        const uint at = id + i * GROUP;
        if (at < X_WORDS) tile[(ROWS + at / X_ROW) * PITCH + at % X_ROW] = x_kept[i];
    }
    barrier();
}

MATRIX_SUM acc[OWN_ROWS * OWN_TOKENS];

// tokens: how many there are from own_token on.
void step_multiply(uint own_row, uint own_token, uint tokens)
{
    [[unroll]] for (uint k = 0; k < 2 * STEP_RUNS; k++) {
        MATRIX_WEIGHTS weights[OWN_ROWS];
        [[unroll]] for (uint r = 0; r < OWN_ROWS; r++)
            weights[r] = matrix_weights((own_row + 16 * r) * PITCH + 2 * k);
        [[unroll]] for (uint t = 0; t < OWN_TOKENS; t++) {
            // An expert's last tile is seldom full.
            if (GROUPED && 16 * t >= tokens) continue;
            const MATRIX_TOKENS x = matrix_tokens((ROWS + own_token + 16 * t) * PITCH + 2 * k);
            [[unroll]] for (uint r = 0; r < OWN_ROWS; r++) matrix_add(weights[r], x, acc[t * OWN_ROWS + r]);
        }
    }
}

// Four rows of one token.
void write(uint token, uint row, vec4 v)
{
    const uint64_t at = p.y + (uint64_t(token) * p.n_out + row) * 4;
    v *= f32_in(p.scale).v[x_index(token)];
    if (p.n_out % 4 == 0 && p.y % 16 == 0) {
        if (row >= p.n_out) return;
        if (p.add != 0) v += load_f32x4(at);
        const uvec4 words = floatBitsToUint(v);
        u64x2_ref(at).v[0] = u64vec2(pack64(words.xy), pack64(words.zw));
    } else {
        f32_ref y = f32_ref(at);
        [[unroll]] for (uint r = 0; r < 4; r++)
            if (row + r < p.n_out) y.v[r] = p.add != 0 ? y.v[r] + v[r] : v[r];
    }
}

void main()
{
    const uint top = gl_WorkGroupID.x * ROWS;
    const uint own_row = gl_SubgroupID % ROW_OWNERS * OWN_ROWS * 16;
    const uint own_token = gl_SubgroupID / ROW_OWNERS * OWN_TOKENS * 16;
    uint first, end;
    const uint64_t w = tile_find(first, end);
    if (first >= end) return;
    const uint runs = (p.n_in + RUN - 1) / RUN, steps = (runs + STEP_RUNS - 1) / STEP_RUNS;
    [[unroll]] for (uint i = 0; i < OWN_ROWS * OWN_TOKENS; i++) matrix_clear(acc[i]);

    sources_find(w, top, first, end);
    [[dont_unroll]] for (uint step = 0; step < steps + AHEAD; step++) {
        if (GROUPED) step_keep();
        step_fetch(min(step, steps - 1), runs);
        if (!GROUPED) step_keep();
        if (step >= AHEAD) step_multiply(own_row, own_token, end - min(first + own_token, end));
        if (step + 1 >= AHEAD) step_fill(min(step + 1 - AHEAD, steps - 1), runs);
    }

    const uint stage = gl_SubgroupID * STAGE;
    [[unroll]] for (uint i = 0; i < OWN_ROWS * OWN_TOKENS; i++) {
        const uint row = top + own_row + 16 * (i % OWN_ROWS), token = first + own_token + 16 * (i / OWN_ROWS);
        subgroupBarrier();
        matrix_store(acc[i], stage);
        subgroupBarrier();
        for (uint part = gl_SubgroupInvocationID; part < STAGE; part += SUBGROUP)
            if (token + part / 4 < end)
                write(token + part / 4, row + 4 * (part % 4), uintBitsToFloat(tile[stage + part]));
    }
}
