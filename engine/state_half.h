/* SPDX-License-Identifier: MIT
 *
 * Many numbers to IEEE half and back, as quant_f32_to_f16 and quant_f16_to_f32 do it for one (round to nearest, ties to
 * even; NaN becomes the quiet NaN of its sign), without branches: compilers make it wide. Halves are bytes in
 * little-endian order, at any address.
 */
#ifndef LECTERN_ENGINE_STATE_HALF_H
#define LECTERN_ENGINE_STATE_HALF_H

#include <stddef.h>

/* Writes the halves of x[0, n) to out[2 n] and rounds x to them. */
void state_half_round(float *x, unsigned char *out, size_t n);
void state_half_widen(const unsigned char *in, float *out, size_t n);

#endif
