/* SPDX-License-Identifier: MIT
 *
 * Encoding of codebook super-blocks: each sub alone finds the step of the least error (a spread of starts, each
 * polished by least squares); d covers the largest; each sub takes the neighbouring scale that is best under that d; d
 * is solved anew and the choice made again. The best round is kept, and stretched to the length of the weights.
 */
#include "quant/iq_fit.h"
#include "quant/fit.h"

#include <math.h>
#include <string.h>

enum { STARTS = 10, POLISH = 2, ROUNDS = 3 };

struct iq_job {
    const float *x, *w;
    const struct iq_shape *shape;
};

/* Signs of 8 weights. With IQ_SIGNS_EVEN and an odd number of negatives the weight that matters least gives way. */
static uint8_t choose_signs(const struct iq_shape *s, const float *x, const float *w)
{
    unsigned signs = 0, count = 0, least = 0;
    if (s->signs == IQ_SIGNS_NONE) return 0;
    for (unsigned i = 0; i < 8; i++) {
        if (x[i] < 0) signs |= 1u << i, count++;
        if (w[i] * x[i] * x[i] < w[least] * x[least] * x[least]) least = i;
    }
    if (s->signs == IQ_SIGNS_EVEN && count % 2) signs ^= 1u << least;
    return (uint8_t)signs;
}

/* Entries of one 8 for a fixed step and shift; returns the error in units of step^2. */
static float choose_8(const struct iq_job *job, size_t at, float inverse, float shift, uint8_t signs, uint16_t *code)
{
    const struct codebook *book = job->shape->book;
    float error = 0, t[8];
    for (unsigned i = 0; i < 8; i++) {
        float v = job->x[at + i] * inverse - shift;
        t[i] = signs >> i & 1 ? -v : v;
    }
    for (uint32_t i = 0; i < 8; i += book->dim)
        code[i / book->dim] = (uint16_t)codebook_find(book, t + i, job->w + at + i, &error);
    return error;
}

/* Entries, signs and shifts of one sub for a fixed step; returns the weighted squared error. */
static float choose_sub(const struct iq_job *job, size_t sub, float step, struct iq_block *b)
{
    const struct iq_shape *s = job->shape;
    const size_t per_8 = 8 / s->book->dim, group = s->shift != 0 ? s->shift_group : 8;
    float error = 0, inverse = step > 0 ? 1 / step : 0;
    if (!isfinite(inverse)) inverse = 0;
    for (size_t g = sub * s->sub; g < (sub + 1) * s->sub; g += group) {
        float least = INFINITY;
        for (int down = 0; down <= (s->shift != 0); down++) {
            uint16_t code[4 * 2];
            float sum = 0;
            for (size_t at = g; at < g + group; at += 8) {
                b->signs[at / 8] = choose_signs(s, job->x + at, job->w + at);
                sum += choose_8(job, at, inverse, down ? -s->shift : s->shift, b->signs[at / 8],
                                code + (at - g) / s->book->dim);
            }
            if (!(sum < least)) continue;
            least = sum;
            for (size_t at = g; at < g + group; at += 8) b->down[at / 8] = down;
            memcpy(b->code + g / 8 * per_8, code, group / 8 * per_8 * sizeof *code);
        }
        error += least;
    }
    return step > 0 ? error * step * step : INFINITY;
}

/* What weight i is in units of its step. */
static float unit_value(const struct iq_shape *s, const struct iq_block *b, size_t i)
{
    uint32_t dim = s->book->dim;
    float v = (float)codebook_level(s->book, b->code[i / dim], (uint32_t)(i % dim));
    if (b->signs[i / 8] >> (i % 8) & 1) v = -v;
    return b->down[i / 8] ? v - s->shift : v + s->shift;
}

/* The step of the least error for one sub alone. */
static float fit_sub(const struct iq_job *job, size_t sub)
{
    const struct iq_shape *s = job->shape;
    float most = 0, best = 0, least = INFINITY, top = (float)s->book->levels[s->book->n_levels - 1] + s->shift;
    struct iq_block b;
    for (size_t i = sub * s->sub; i < (sub + 1) * s->sub; i++) most = fmaxf(most, fabsf(job->x[i]));
    for (int start = 0; start < STARTS && most > 0; start++) {
        float step = most / top * (0.4f + 0.09f * (float)start);
        for (int polish = 0; polish < POLISH && step > 0; polish++) {
            float error = choose_sub(job, sub, step, &b), xv = 0, vv = 0;
            if (error < least) {
                least = error;
                best = step;
            }
            for (size_t i = sub * s->sub; i < (sub + 1) * s->sub; i++) {
                float v = unit_value(s, &b, i);
                xv += job->w[i] * job->x[i] * v;
                vv += job->w[i] * v * v;
            }
            step = vv > 0 ? xv / vv : 0;
        }
    }
    return best;
}

static float choose_scale(const struct iq_job *job, size_t sub, float want, struct iq_block *b)
{
    const struct iq_shape *s = job->shape;
    const float base = b->d * s->unit;
    const size_t first = sub * s->sub / 8, count = s->sub / 8, per_8 = 8 / s->book->dim;
    int scale = base > 0 ? fit_round((want / base - 1) / 2, 0, s->scale_most) : 0;
    float least = INFINITY;
    struct iq_block trial;
    for (int c = scale - 1; c <= scale + 1; c++) {
        if (c < 0 || c > s->scale_most) continue;
        float error = choose_sub(job, sub, base * (float)(2 * c + 1), &trial);
        if (!(error < least)) continue;
        least = error;
        b->scale[sub] = (uint8_t)c;
        memcpy(b->code + first * per_8, trial.code + first * per_8, count * per_8 * sizeof *b->code);
        memcpy(b->signs + first, trial.signs + first, count);
        memcpy(b->down + first, trial.down + first, count * sizeof *b->down);
    }
    return least;
}

static float as_half(float f)
{
    return f > 0 ? quant_f16_to_f32(quant_f32_to_f16(f)) : 0;
}

static float solve_d(const struct iq_job *job, const struct iq_block *b)
{
    double xa = 0, aa = 0;
    for (size_t i = 0; i < SUPER; i++) {
        double a = (double)job->shape->unit * (2 * b->scale[i / job->shape->sub] + 1) * unit_value(job->shape, b, i);
        xa += job->w[i] * a * (double)job->x[i];
        aa += job->w[i] * a * a;
    }
    return aa > 0 ? as_half((float)(xa / aa)) : 0;
}

/* Least squares gives back less than there was: sum w x q = (1 - error) sum w x x, in every matrix, and what a model
 * computes fades from layer to layer. d is stretched until both sums are equal, which costs a little squared error. */
static void unshrink(const struct iq_job *job, struct iq_block *b)
{
    double xq = 0, xx = 0, plain_xq = 0, plain_qq = 0;
    for (size_t i = 0; i < SUPER; i++) {
        double q =
            (double)b->d * job->shape->unit * (2 * b->scale[i / job->shape->sub] + 1) * unit_value(job->shape, b, i);
        xq += job->w[i] * q * (double)job->x[i];
        xx += job->w[i] * (double)job->x[i] * job->x[i];
        plain_xq += q * (double)job->x[i];
        plain_qq += q * q;
    }
    if (!(xq > 0.75 * xx && xq < xx)) return; /* hardly met at all, or met in full */
    double stretch = xx / xq;
    if (stretch * plain_qq <= 2 * plain_xq) b->d = as_half((float)(b->d * stretch)); /* else worse than zeros */
}

void iq_fit(const float *x, const float *w, const struct iq_shape *shape, struct iq_block *out)
{
    struct iq_job job = {.x = x, .w = w, .shape = shape};
    const size_t subs = SUPER / shape->sub;
    float want[16], most = 0, least = 0;
    *out = (struct iq_block){.d = 0}; /* all zeros: the error to beat */
    for (size_t i = 0; i < SUPER; i++) least += w[i] * x[i] * x[i];
    for (size_t j = 0; j < subs; j++) {
        want[j] = fit_sub(&job, j);
        most = fmaxf(most, want[j]);
    }
    struct iq_block b = {.d = as_half(most / (shape->unit * (float)(2 * shape->scale_most + 1)))};
    for (int round = 0; round < ROUNDS && b.d > 0; round++) {
        float error = 0;
        for (size_t j = 0; j < subs; j++) error += choose_scale(&job, j, want[j], &b);
        if (error < least) {
            least = error;
            *out = b;
        }
        b.d = solve_d(&job, &b);
    }
    unshrink(&job, out);
}
