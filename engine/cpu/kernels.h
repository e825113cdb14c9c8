/* SPDX-License-Identifier: MIT
 *
 * The inner loops of the C twin. kernels.c is compiled once for every instruction set we know (CMakeLists.txt) and the
 * table that suits the processor is chosen when the backend opens.
 *
 * What a kernel computes for one token never depends on how many tokens it is given: each result is a chain of
 * operations in an order fixed by the shapes alone. Results differ between instruction sets (other widths of partial
 * sums), never between runs or batch sizes on one machine.
 */
#ifndef LECTERN_ENGINE_CPU_KERNELS_H
#define LECTERN_ENGINE_CPU_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "quant/quant.h"

/* y[t][r] = w[r] . x[t], or y += when add */
struct dot_params {
    const float *w; /* [rows][width], w_stride floats from row to row */
    size_t w_stride;
    uint32_t rows;
    const float *const *x; /* n pointers to [width] */
    uint32_t n;
    size_t width;
    float *y; /* [n][rows], y_stride floats from token to token */
    size_t y_stride;
    bool add;
};

/* ---- Products with activations rounded to whole numbers of three bytes (dot8.h): all spans are padded to
 * DOT8_PADDED(n). ---- */
#define DOT8_PADDED(n) (((n) + 63) / 64 * 64)

/* An input [n]: x[i] ~ step[i / 16] * (65536 high[i] + 256 middle[i] + low[i]). */
struct rounded {
    int8_t *high, *middle, *low;
    float *step; /* of each 16 */
    float *sum;  /* step times the sum of the 16 whole numbers */
};

/* A row of weights [n]: w[i] = scale[i / 16] * level[i] + low[i / 16]. */
struct spread {
    uint8_t *level;
    float *scale, *low;
};

/* y[t][r] = w[r] . x[t], or y += when add; the same for a row and a token whatever the others are. */
struct dot8_params {
    const struct spread *w; /* [rows] */
    uint32_t rows;
    const struct rounded *x; /* [n] */
    uint32_t n;
    size_t width;
    float *y; /* [n][rows], y_stride floats from token to token */
    size_t y_stride;
    bool add;
};

/* o[h] = o[h] * keep[h] + sum_s p[h][s] v[s] */
struct mix_params {
    const float *p; /* [heads][count], p_stride floats from head to head */
    size_t p_stride;
    const float *v; /* [count][width], v_stride floats from row to row */
    size_t v_stride;
    uint32_t heads, count;
    size_t width;
    float *o; /* [heads][width], o_stride floats from head to head */
    size_t o_stride;
    const float *keep; /* [heads] */
};

/* Softmax of one query over blocks of keys, carried from block to block. Start with max = -INFINITY, sum = 0. */
struct softmax {
    float max, sum;
};

/* One head of one stream of the short convolution, in place allowed; strides count floats. */
struct conv_params {
    uint32_t n, dim;
    const float *x;
    float *y;
    size_t stride;       /* of x and y, from token to token */
    const float *kernel; /* [dim][4] */
    float *history;      /* [dim][3], replaced */
    bool normalise;      /* L2 over the head, then times scale */
    float scale;
};

/* The delta rule for value columns [column, column + columns) of one head. */
struct delta_params {
    uint32_t n, dim;
    const float *q, *k, *v; /* [n][dim], stride floats from token to token */
    const float *decay;     /* exp(g), the same layout */
    size_t stride;
    const float *beta; /* [n], beta_stride floats from token to token */
    size_t beta_stride;
    float *state;             /* [dim][dim] */
    float *o;                 /* as q */
    uint32_t column, columns; /* any; quickest in multiples of DELTA_COLUMNS */
};

enum { DELTA_COLUMNS = 32 };

struct kernels {
    const char *name;
    /* As format->decode, bit for bit, faster for the common formats. */
    void (*decode)(const struct quant_format *format, const void *blocks, float *out, size_t n);
    void (*ahead)(const void *p, size_t bytes); /* asks for memory that will be read soon; any address */
    void (*dot)(const struct dot_params *);
    void (*round_input)(const float *x, size_t n, const struct rounded *out);
    bool (*spreads)(const struct quant_format *); /* can spread_row take it? All but F32, F16 and BF16 */
    void (*spread_row)(const struct quant_format *, const void *blocks, size_t n, const struct spread *out);
    void (*dot8)(const struct dot8_params *);
    void (*mix)(const struct mix_params *);
    /* scores [count] -> exp(scores * scale - max) in place; returns what earlier sums are to be multiplied with. */
    float (*softmax)(struct softmax *, float *scores, uint32_t count, float scale);
    void (*rms_norm)(const float *x, const float *gain, float *y, size_t width, float eps);
    void (*swiglu)(const float *gate, const float *up, float *y, size_t count);
    void (*conv)(const struct conv_params *);
    void (*gate)(float *f, const float *dt, float a, size_t dim); /* f <- a * softplus(f + dt) */
    void (*exponent)(const float *x, float *y, size_t count);
    void (*sigmoid)(float *x, size_t count);
    void (*delta)(const struct delta_params *);
    void (*gated_norm)(float *o, const float *gain, const float *z, size_t dim, float eps);
    void (*add_scaled)(float *y, const float *x, float scale, size_t count); /* y += scale * x */
};

extern const struct kernels cpu_kernels_base;
#if defined(LECTERN_KERNELS_X86)
extern const struct kernels cpu_kernels_v3, cpu_kernels_v4, cpu_kernels_vnni;
#endif

/* The tables this processor can run, plainest first; NULL past the last. */
const struct kernels *cpu_kernels_at(size_t index);
const struct kernels *cpu_kernels(void); /* the best of them */

#endif
