/* SPDX-License-Identifier: MIT
 *
 * The inner loops. Compiled once for each instruction set: KERNELS names the table this object defines.
 */
#include "engine/cpu/kernels.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "engine/cpu/decode.h"
#include "engine/cpu/lanes.h"

#include "engine/cpu/dot8.h"
#include "engine/cpu/spread.h"

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#ifndef KERNELS
#define KERNELS cpu_kernels_base
#define KERNELS_NAME "base"
#endif

static void ahead(const void *p, size_t bytes)
{
#if defined(__SSE2__)
    for (size_t i = 0; i < bytes; i += 64) _mm_prefetch((const char *)p + i, _MM_HINT_T0);
#else
    (void)p, (void)bytes;
#endif
}

/* ----------------------------------------------------------------------------------------------- dot products */

enum { DOT_ROWS = 4, DOT_TOKENS = 3 };

/* Partial sums of one weight row with three tokens. */
struct dot_row {
    struct lanes a, b, c;
};

static inline void dot_row_step(struct dot_row *s, const float *w, const float *x0, const float *x1, const float *x2)
{
    s->a = lanes_mul_add(s->a, w, x0);
    s->b = lanes_mul_add(s->b, w, x1);
    s->c = lanes_mul_add(s->c, w, x2);
}

static inline void dot_row_sums(const struct dot_row *s, float *out)
{
    out[0] = lanes_sum(s->a);
    out[1] = lanes_sum(s->b);
    out[2] = lanes_sum(s->c);
}

/* Four rows by three tokens: twelve registers of sums, enough to hide the latency of the multiplier. */
static void dot_4x3(const float *const *w, const float *const *x, size_t width, float (*out)[DOT_TOKENS])
{
    const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3], *x0 = x[0], *x1 = x[1], *x2 = x[2];
    struct dot_row r0 = {0}, r1 = {0}, r2 = {0}, r3 = {0};
    size_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        dot_row_step(&r0, w0 + i, x0 + i, x1 + i, x2 + i);
        dot_row_step(&r1, w1 + i, x0 + i, x1 + i, x2 + i);
        dot_row_step(&r2, w2 + i, x0 + i, x1 + i, x2 + i);
        dot_row_step(&r3, w3 + i, x0 + i, x1 + i, x2 + i);
    }
    if (i < width) {
        struct lanes t0 = lanes_load_part(x0 + i, width - i), t1 = lanes_load_part(x1 + i, width - i),
                     t2 = lanes_load_part(x2 + i, width - i);
        dot_row_step(&r0, lanes_load_part(w0 + i, width - i).f, t0.f, t1.f, t2.f);
        dot_row_step(&r1, lanes_load_part(w1 + i, width - i).f, t0.f, t1.f, t2.f);
        dot_row_step(&r2, lanes_load_part(w2 + i, width - i).f, t0.f, t1.f, t2.f);
        dot_row_step(&r3, lanes_load_part(w3 + i, width - i).f, t0.f, t1.f, t2.f);
    }
    dot_row_sums(&r0, out[0]);
    dot_row_sums(&r1, out[1]);
    dot_row_sums(&r2, out[2]);
    dot_row_sums(&r3, out[3]);
}

/* The same sums for one token. */
static void dot_4x1(const float *const *w, const float *x, size_t width, float (*out)[DOT_TOKENS])
{
    const float *w0 = w[0], *w1 = w[1], *w2 = w[2], *w3 = w[3];
    struct lanes a = {{0}}, b = {{0}}, c = {{0}}, d = {{0}};
    size_t i = 0;
    for (; i + LANES <= width; i += LANES) {
        a = lanes_mul_add(a, w0 + i, x + i);
        b = lanes_mul_add(b, w1 + i, x + i);
        c = lanes_mul_add(c, w2 + i, x + i);
        d = lanes_mul_add(d, w3 + i, x + i);
    }
    if (i < width) {
        struct lanes tail = lanes_load_part(x + i, width - i);
        a = lanes_mul_add(a, lanes_load_part(w0 + i, width - i).f, tail.f);
        b = lanes_mul_add(b, lanes_load_part(w1 + i, width - i).f, tail.f);
        c = lanes_mul_add(c, lanes_load_part(w2 + i, width - i).f, tail.f);
        d = lanes_mul_add(d, lanes_load_part(w3 + i, width - i).f, tail.f);
    }
    out[0][0] = lanes_sum(a);
    out[1][0] = lanes_sum(b);
    out[2][0] = lanes_sum(c);
    out[3][0] = lanes_sum(d);
}

static void dot_store(const struct dot_params *p, uint32_t row, uint32_t token, uint32_t rows, uint32_t tokens,
                      float (*sums)[DOT_TOKENS])
{
    for (uint32_t t = 0; t < tokens; t++) {
        float *y = p->y + (size_t)(token + t) * p->y_stride + row;
        for (uint32_t r = 0; r < rows; r++) y[r] = p->add ? y[r] + sums[r][t] : sums[r][t];
    }
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Tiles at the edges repeat their last row or token; what they compute twice is not stored. */
static void dot(const struct dot_params *p)
{
    for (uint32_t row = 0; row < p->rows; row += DOT_ROWS) {
        const float *w[DOT_ROWS];
        uint32_t rows = least(DOT_ROWS, p->rows - row);
        for (uint32_t r = 0; r < DOT_ROWS; r++) w[r] = p->w + (size_t)(row + least(r, rows - 1)) * p->w_stride;
        for (uint32_t token = 0; token < p->n; token += DOT_TOKENS) {
            const float *x[DOT_TOKENS];
            float sums[DOT_ROWS][DOT_TOKENS];
            uint32_t tokens = least(DOT_TOKENS, p->n - token);
            for (uint32_t t = 0; t < DOT_TOKENS; t++) x[t] = p->x[token + least(t, tokens - 1)];
            if (tokens == 1)
                dot_4x1(w, x[0], p->width, sums);
            else
                dot_4x3(w, x, p->width, sums);
            dot_store(p, row, token, rows, tokens, sums);
        }
    }
}

/* ------------------------------------------------------------------------------------------------- attention */

/* Four heads, two registers of columns. */
static void mix_4(const struct mix_params *p, uint32_t head, size_t column)
{
    const float *s0 = p->p + head * p->p_stride, *s1 = s0 + p->p_stride, *s2 = s1 + p->p_stride, *s3 = s2 + p->p_stride;
    float *o0 = p->o + head * p->o_stride + column, *o1 = o0 + p->o_stride, *o2 = o1 + p->o_stride,
          *o3 = o2 + p->o_stride;
    const float *keep = p->keep + head, *v = p->v + column;
    struct lanes a0 = lanes_scale(lanes_load(o0), keep[0]), b0 = lanes_scale(lanes_load(o0 + LANES), keep[0]);
    struct lanes a1 = lanes_scale(lanes_load(o1), keep[1]), b1 = lanes_scale(lanes_load(o1 + LANES), keep[1]);
    struct lanes a2 = lanes_scale(lanes_load(o2), keep[2]), b2 = lanes_scale(lanes_load(o2 + LANES), keep[2]);
    struct lanes a3 = lanes_scale(lanes_load(o3), keep[3]), b3 = lanes_scale(lanes_load(o3 + LANES), keep[3]);
    for (uint32_t s = 0; s < p->count; s++, v += p->v_stride) {
        struct lanes a = lanes_load(v), b = lanes_load(v + LANES);
        a0 = lanes_mul_add_one(a0, a, s0[s]), b0 = lanes_mul_add_one(b0, b, s0[s]);
        a1 = lanes_mul_add_one(a1, a, s1[s]), b1 = lanes_mul_add_one(b1, b, s1[s]);
        a2 = lanes_mul_add_one(a2, a, s2[s]), b2 = lanes_mul_add_one(b2, b, s2[s]);
        a3 = lanes_mul_add_one(a3, a, s3[s]), b3 = lanes_mul_add_one(b3, b, s3[s]);
    }
    lanes_store(o0, a0), lanes_store(o0 + LANES, b0);
    lanes_store(o1, a1), lanes_store(o1 + LANES, b1);
    lanes_store(o2, a2), lanes_store(o2 + LANES, b2);
    lanes_store(o3, a3), lanes_store(o3 + LANES, b3);
}

static void mix_1(const struct mix_params *p, uint32_t head, size_t column)
{
    const float *weight = p->p + head * p->p_stride, *v = p->v + column;
    float *o = p->o + head * p->o_stride + column;
    struct lanes a = lanes_scale(lanes_load(o), p->keep[head]);
    struct lanes b = lanes_scale(lanes_load(o + LANES), p->keep[head]);
    for (uint32_t s = 0; s < p->count; s++, v += p->v_stride) {
        a = lanes_mul_add_one(a, lanes_load(v), weight[s]);
        b = lanes_mul_add_one(b, lanes_load(v + LANES), weight[s]);
    }
    lanes_store(o, a);
    lanes_store(o + LANES, b);
}

static void mix_column(const struct mix_params *p, uint32_t head, size_t column)
{
    const float *weight = p->p + head * p->p_stride, *v = p->v + column;
    float *o = p->o + head * p->o_stride + column;
    float sum = *o * p->keep[head];
    for (uint32_t s = 0; s < p->count; s++) sum = mul_add(v[s * p->v_stride], weight[s], sum);
    *o = sum;
}

static void mix(const struct mix_params *p)
{
    size_t column = 0;
    for (; column + 2 * LANES <= p->width; column += 2 * LANES) {
        uint32_t head = 0;
        for (; head + 4 <= p->heads; head += 4) mix_4(p, head, column);
        for (; head < p->heads; head++) mix_1(p, head, column);
    }
    for (; column < p->width; column++)
        for (uint32_t head = 0; head < p->heads; head++) mix_column(p, head, column);
}

static float softmax(struct softmax *state, float *scores, uint32_t count, float scale)
{
    float most = state->max;
    for (uint32_t i = 0; i < count; i++) {
        scores[i] *= scale;
        most = scores[i] > most ? scores[i] : most;
    }
    float keep = exp_lane(state->max - most), sum = 0;
    if (most == -INFINITY) keep = 0, most = 0; /* every score is NaN or -inf: -inf - -inf is no number */
    for (uint32_t i = 0; i < count; i++) scores[i] = exp_lane(scores[i] - most);
    for (uint32_t i = 0; i < count; i++) sum += scores[i];
    state->sum = state->sum * keep + sum;
    state->max = most;
    return keep;
}

/* ------------------------------------------------------------------------------------------- norms and gates */

static void rms_norm(const float *x, const float *gain, float *y, size_t width, float eps)
{
    float scale = 1.0f / sqrtf(lanes_dot(x, x, width) / (float)width + eps);
    for (size_t i = 0; i < width; i++) y[i] = x[i] * scale * gain[i];
}

static void gated_norm(float *o, const float *gain, const float *z, size_t dim, float eps)
{
    float scale = 1.0f / sqrtf(lanes_dot(o, o, dim) / (float)dim + eps);
    for (size_t i = 0; i < dim; i++) o[i] = o[i] * scale * gain[i] * sigmoid_lane(z[i]);
}

static void swiglu(const float *gate, const float *up, float *y, size_t count)
{
    for (size_t i = 0; i < count; i++) y[i] = gate[i] * sigmoid_lane(gate[i]) * up[i];
}

static void exponent(const float *x, float *y, size_t count)
{
    for (size_t i = 0; i < count; i++) y[i] = exp_lane(x[i]);
}

static void sigmoid(float *x, size_t count)
{
    for (size_t i = 0; i < count; i++) x[i] = sigmoid_lane(x[i]);
}

static void gate(float *f, const float *dt, float a, size_t dim)
{
    for (size_t i = 0; i < dim; i++) {
        float x = f[i] + dt[i];
        f[i] = a * (x > 20.0f ? x : log1pf(exp_lane(x)));
    }
}

static void add_scaled(float *y, const float *x, float scale, size_t count)
{
    for (size_t i = 0; i < count; i++) y[i] = mul_add(x[i], scale, y[i]);
}

/* ------------------------------------------------------------------------------------------------------- KDA */

enum { CONV_CHANNELS = 32 }; /* at a time: their taps and history stay in registers or close by */

static void conv_channels(const struct conv_params *p, size_t first, size_t count)
{
    float tap[4][CONV_CHANNELS] = {{0}}, past[3][CONV_CHANNELS] = {{0}};
    for (size_t c = 0; c < count; c++) {
        for (size_t j = 0; j < 4; j++) tap[j][c] = p->kernel[(first + c) * 4 + j];
        for (size_t j = 0; j < 3; j++) past[j][c] = p->history[(first + c) * 3 + j];
    }
    for (uint32_t t = 0; t < p->n; t++) {
        const float *x = p->x + t * p->stride + first;
        float *y = p->y + t * p->stride + first;
        for (size_t c = 0; c < count; c++) {
            float now = x[c], sum = tap[0][c] * past[0][c];
            sum = mul_add(tap[1][c], past[1][c], sum);
            sum = mul_add(tap[2][c], past[2][c], sum);
            sum = mul_add(tap[3][c], now, sum);
            past[0][c] = past[1][c];
            past[1][c] = past[2][c];
            past[2][c] = now;
            y[c] = sum * sigmoid_lane(sum);
        }
    }
    for (size_t c = 0; c < count; c++)
        for (size_t j = 0; j < 3; j++) p->history[(first + c) * 3 + j] = past[j][c];
}

static void conv(const struct conv_params *p)
{
    for (size_t c = 0; c < p->dim; c += CONV_CHANNELS)
        conv_channels(p, c, p->dim - c < CONV_CHANNELS ? p->dim - c : CONV_CHANNELS);
    if (!p->normalise) return;
    for (uint32_t t = 0; t < p->n; t++) {
        float *y = p->y + t * p->stride;
        float scale = p->scale / sqrtf(lanes_dot(y, y, p->dim) + 1e-6f);
        for (size_t i = 0; i < p->dim; i++) y[i] *= scale;
    }
}

/* Two registers of value columns, all tokens. With S the decayed state: u = v - S^T k, S' = S + beta k u^T and
 * o = S'^T q = S^T q + (k . q) beta u, so that one pass over S gives both products. */
static void delta_strip(const struct delta_params *p, size_t column)
{
    float *state = p->state + column;
    for (uint32_t t = 0; t < p->n; t++) {
        size_t at = t * p->stride;
        const float *q = p->q + at, *k = p->k + at, *decay = p->decay + at;
        struct lanes k0 = {{0}}, k1 = {{0}}, q0 = {{0}}, q1 = {{0}};
        for (size_t i = 0; i < p->dim; i++) {
            float *row = state + i * p->dim;
            struct lanes a = lanes_scale(lanes_load(row), decay[i]), b = lanes_scale(lanes_load(row + LANES), decay[i]);
            lanes_store(row, a);
            lanes_store(row + LANES, b);
            k0 = lanes_mul_add_one(k0, a, k[i]), k1 = lanes_mul_add_one(k1, b, k[i]);
            q0 = lanes_mul_add_one(q0, a, q[i]), q1 = lanes_mul_add_one(q1, b, q[i]);
        }
        const float *v = p->v + at + column;
        float *o = p->o + at + column, beta = p->beta[t * p->beta_stride], kq = lanes_dot(k, q, p->dim);
        for (int c = 0; c < LANES; c++) {
            k0.f[c] = beta * (v[c] - k0.f[c]);
            k1.f[c] = beta * (v[LANES + c] - k1.f[c]);
        }
        lanes_store(o, lanes_mul_add_one(q0, k0, kq));
        lanes_store(o + LANES, lanes_mul_add_one(q1, k1, kq));
        for (size_t i = 0; i < p->dim; i++) {
            float *row = state + i * p->dim;
            lanes_store(row, lanes_mul_add_one(lanes_load(row), k0, k[i]));
            lanes_store(row + LANES, lanes_mul_add_one(lanes_load(row + LANES), k1, k[i]));
        }
    }
}

/* The same for the `count` <= LANES columns that are left beside the last whole strip: each column's chain of
 * operations is that of delta_strip. */
static void delta_rest(const struct delta_params *p, size_t column, size_t count)
{
    float *state = p->state + column;
    for (uint32_t t = 0; t < p->n; t++) {
        size_t at = t * p->stride;
        const float *q = p->q + at, *k = p->k + at, *decay = p->decay + at;
        struct lanes ks = {{0}}, qs = {{0}}, v = lanes_load_part(p->v + at + column, count);
        for (size_t i = 0; i < p->dim; i++) {
            struct lanes a = lanes_scale(lanes_load_part(state + i * p->dim, count), decay[i]);
            lanes_store_part(state + i * p->dim, a, count);
            ks = lanes_mul_add_one(ks, a, k[i]);
            qs = lanes_mul_add_one(qs, a, q[i]);
        }
        float beta = p->beta[t * p->beta_stride], kq = lanes_dot(k, q, p->dim);
        for (int c = 0; c < LANES; c++) ks.f[c] = beta * (v.f[c] - ks.f[c]);
        lanes_store_part(p->o + at + column, lanes_mul_add_one(qs, ks, kq), count);
        for (size_t i = 0; i < p->dim; i++) {
            float *row = state + i * p->dim;
            lanes_store_part(row, lanes_mul_add_one(lanes_load_part(row, count), ks, k[i]), count);
        }
    }
}

static void delta(const struct delta_params *p)
{
    size_t c = p->column, end = c + p->columns;
    for (; c + 2 * LANES <= end; c += 2 * LANES) delta_strip(p, c);
    for (; c < end; c += LANES) delta_rest(p, c, end - c < LANES ? end - c : LANES);
}

const struct kernels KERNELS = {
    .name = KERNELS_NAME,
    .decode = decode_blocks,
    .ahead = ahead,
    .dot = dot,
    .round_input = round_input,
    .spreads = spreads,
    .spread_row = spread_row,
    .dot8 = dot8,
    .mix = mix,
    .softmax = softmax,
    .rms_norm = rms_norm,
    .swiglu = swiglu,
    .conv = conv,
    .gate = gate,
    .exponent = exponent,
    .sigmoid = sigmoid,
    .delta = delta,
    .gated_norm = gated_norm,
    .add_scaled = add_scaled,
};
