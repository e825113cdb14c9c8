/* SPDX-License-Identifier: MIT
 *
 * The table of formats. A new format is a file, a line in formats.h and a line here.
 */
#include "quant/formats.h"

static const struct quant_format *const formats[] = {
    &quant_format_f32,   &quant_format_f16,    &quant_format_q4_0,    &quant_format_q4_1,   &quant_format_q5_0,
    &quant_format_q5_1,  &quant_format_q8_0,   &quant_format_q2_k,    &quant_format_q3_k,   &quant_format_q4_k,
    &quant_format_q5_k,  &quant_format_q6_k,   &quant_format_iq2_xxs, &quant_format_iq2_xs, &quant_format_iq3_xxs,
    &quant_format_iq1_s, &quant_format_iq4_nl, &quant_format_iq3_s,   &quant_format_iq2_s,  &quant_format_iq4_xs,
    &quant_format_iq1_m, &quant_format_bf16,   &quant_format_tq1_0,   &quant_format_tq2_0,  &quant_format_mxfp4,
};

enum { N_FORMATS = sizeof formats / sizeof formats[0] };

const struct quant_format *quant_format(uint32_t type)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if ((uint32_t)formats[i]->type == type) return formats[i];
    return NULL;
}

static bool same_letters(const char *a, const char *b)
{
    for (; *a && *b; a++, b++) {
        char x = *a >= 'a' && *a <= 'z' ? (char)(*a - 32) : *a;
        char y = *b >= 'a' && *b <= 'z' ? (char)(*b - 32) : *b;
        if (x != y) return false;
    }
    return *a == *b;
}

const struct quant_format *quant_format_named(const char *name)
{
    for (size_t i = 0; i < N_FORMATS; i++)
        if (same_letters(formats[i]->name, name)) return formats[i];
    return NULL;
}

const struct quant_format *const *quant_formats(size_t *count)
{
    *count = N_FORMATS;
    return formats;
}
