// SPDX-License-Identifier: MIT
//
// A row of the timeline: element i as f32. DTYPE is a specialisation constant: 0 = f32, 1 = f16, 8 = q8_0.
#ifndef MLA_ROW_GLSL
#define MLA_ROW_GLSL

// One layer's row of a token; table holds the addresses of blocks [layers][MLA_SEGMENT][row_bytes].
uint64_t row_address(uint64_t table, uint layer, uint row_bytes, uint token)
{
    return u64_in(table).v[token / MLA_SEGMENT] + uint64_t(layer * MLA_SEGMENT + token % MLA_SEGMENT) * row_bytes;
}

float row_load(uint64_t row, uint i)
{
    float x;
    if (DTYPE == 0) {
        x = f32_in(row).v[i];
    } else if (DTYPE == 1) {
        x = half_to_float(uint(u16_in(row).v[i]));
    } else {
        uint64_t block = row + i / 32 * 34;
        x = half_to_float(uint(u16_in(block).v[0])) * float(int(i8_in(block + 2).v[i % 32]));
    }
    return x;
}

#endif
