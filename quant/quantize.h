/* SPDX-License-Identifier: MIT
 *
 * Which tensor gets which format.
 */
#ifndef LECTERN_QUANT_QUANTIZE_H
#define LECTERN_QUANT_QUANTIZE_H

#include "quant/gguf.h"

/* The format that rows of row_len weights get when `wanted` was asked for: wanted itself where the row is whole blocks
 * of it; else the nearest one with blocks of 32 (IQ1..IQ4_XS, Q2_K, Q3_K and TQ: IQ4_NL; Q4_K: Q5_0; Q5_K: Q5_1; Q6_K:
 * Q8_0), as llama-quantize falls back; else F16. */
const struct quant_format *quantize_fallback(const struct quant_format *wanted, uint64_t row_len);

#endif
