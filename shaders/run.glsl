// SPDX-License-Identifier: MIT
//
// A run of weights, and the activations that meet it. WHOLE: rows are whole runs and activations 16-byte aligned;
// otherwise (only formats of block length 1 have odd rows) what lies beyond n_in counts as 0.
layout(constant_id = 2) const bool WHOLE = true;

void load_x(uint64_t x, uint run, uint n_in, out float v[RUN])
{
    [[unroll]] for (uint s = 0; s < 4; s++) {
        uint column = run_column(run) + segment_column(s);
        if (WHOLE) {
            [[unroll]] for (uint i = 0; i < 2; i++) {
                vec4 part = load_f32x4(x + 4 * column + 16 * i);
                [[unroll]] for (uint j = 0; j < 4; j++) v[8 * s + 4 * i + j] = part[j];
            }
        } else {
            [[unroll]] for (uint i = 0; i < 8; i++)
                v[8 * s + i] = column + i < n_in ? f32_ref(x).v[column + i] : 0.0;
        }
    }
}

void load_w(uint64_t row, uint run, uint n_in, out float w[RUN])
{
#ifdef WEIGHT_PLAIN
    if (!WHOLE) {
        run_decode_part(row, run, n_in, w);
        return;
    }
#endif
    run_decode(row, run, w);
}
