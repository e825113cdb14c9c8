/* SPDX-License-Identifier: MIT
 *
 * Which tensor gets which format.
 */
#include "quant/quantize.h"

static enum quant_type narrower(enum quant_type type)
{
    switch (type) {
    case QUANT_Q4_K:
        return QUANT_Q5_0;
    case QUANT_Q5_K:
        return QUANT_Q5_1;
    case QUANT_Q6_K:
        return QUANT_Q8_0;
    default:
        return QUANT_IQ4_NL;
    }
}

const struct quant_format *quantize_fallback(const struct quant_format *wanted, uint64_t row_len)
{
    if (row_len % wanted->block_len == 0) return wanted;
    const struct quant_format *f = wanted->block_len == 256 ? quant_format(narrower(wanted->type)) : NULL;
    return f && row_len % f->block_len == 0 ? f : quant_format(QUANT_F16);
}
