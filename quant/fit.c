/* SPDX-License-Identifier: MIT
 *
 * Least-squares searches of the encoders. For fixed levels q the best step is closed-form (d = sum w x q / sum w q q);
 * for a fixed step the best levels are the nearest ones. Starting from a spread of steps around the one that just
 * covers the largest weight, the two are alternated and the start with the least error wins.
 */
#include "quant/fit.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

enum { STARTS = 9, POLISH = 3 };

void fit_clean(const float *in, const float *importance, float *x, float *w, size_t n)
{
    float sum = 0, square = 0;
    for (size_t i = 0; i < n; i++) {
        float v = in[i];
        x[i] = v != v ? 0 : fminf(fmaxf(v, -65504.0f), 65504.0f);
        float g = importance ? importance[i] : 1.0f;
        w[i] = g > 0 ? fminf(g, 1e12f) : 0;
        sum += w[i];
        square += x[i] * x[i];
    }
    for (size_t i = 0; i < n && sum == 0; i++) w[i] = 1;
    float inverse = square > 0 ? (float)n / square : 0;
    for (size_t i = 0; i < n && isfinite(inverse); i++) w[i] *= sqrtf(1 + x[i] * x[i] * inverse);
}

int fit_round(float v, int lo, int hi)
{
    if (!(v > (float)lo)) return lo;
    if (v >= (float)hi) return hi;
    return (int)lrintf(v);
}

/* Adding and taking away 1.5 * 2^23 rounds a float of up to 2^22 to the nearest whole number, ties to even, in a way
 * that compilers vectorise. */
static inline float rounded(float v, float lo, float hi)
{
    const float magic = 12582912.0f;
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return (v + magic) - magic;
}

/* Sum in eight lanes: faster, and closer to the true sum than one long chain. */
static float lane_sum(const float *v, size_t n)
{
    float lanes[8] = {0};
    for (size_t i = 0; i + 8 <= n; i += 8)
        for (size_t k = 0; k < 8; k++) lanes[k] += v[i + k];
    for (size_t i = n & ~(size_t)7; i < n; i++) lanes[0] += v[i];
    return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

float fit_levels(const float *x, const float *w, size_t n, float d, int lo, int hi, int8_t *q)
{
    float inverse = d != 0 ? 1 / d : 0, error[FIT_MOST];
    if (!isfinite(inverse)) inverse = 0;
    for (size_t i = 0; i < n; i++) {
        float level = rounded(x[i] * inverse, (float)lo, (float)hi), e = x[i] - d * level;
        q[i] = (int8_t)level;
        error[i] = w[i] * e * e;
    }
    return lane_sum(error, n);
}

float fit_best_step(const float *x, const float *w, size_t n, const int8_t *q)
{
    float xq[FIT_MOST], qq[FIT_MOST];
    for (size_t i = 0; i < n; i++) {
        xq[i] = w[i] * x[i] * (float)q[i];
        qq[i] = w[i] * (float)q[i] * (float)q[i];
    }
    float below = lane_sum(qq, n);
    return below > 0 ? lane_sum(xq, n) / below : 0;
}

/* The weight of the largest magnitude, with its sign. */
static float largest(const float *x, size_t n)
{
    float most = 0;
    for (size_t i = 0; i < n; i++)
        if (fabsf(x[i]) > fabsf(most)) most = x[i];
    return most;
}

/* Alternates levels and step from the start d; keeps the result when it beats *least. */
struct step_try {
    const float *x, *w;
    size_t n;
    int lo, hi;
    float d, least;
    int8_t *q;
};

static void try_step(struct step_try *t, float d)
{
    int8_t q[FIT_MOST];
    for (int i = 0; i < POLISH; i++) {
        float error = fit_levels(t->x, t->w, t->n, d, t->lo, t->hi, q);
        if (error < t->least) {
            t->least = error;
            t->d = d;
            memcpy(t->q, q, t->n);
        }
        float next = fit_best_step(t->x, t->w, t->n, q);
        if (next == d || next == 0) break;
        d = next;
    }
}

float fit_step(const float *x, const float *w, size_t n, int lo, int hi, int8_t *q)
{
    struct step_try t = {.x = x, .w = w, .n = n, .lo = lo, .hi = hi, .least = INFINITY, .q = q};
    float most = largest(x, n);
    memset(q, 0, n);
    if (most == 0) return 0;
    /* The longer side of an uneven range (-8..7) may serve either sign: d can be negative. */
    float ends[2] = {(float)lo, (float)hi};
    for (int side = 0; side < 2; side++) {
        if (ends[side] == 0) continue;
        for (int i = 0; i < STARTS; i++) {
            /* With three or four levels the best step lies far inside the largest weight. */
            float stretch = hi - lo <= 3 ? (float)STARTS / (float)(i + 1) : 1 + 0.06f * (float)(i - STARTS / 2);
            try_step(&t, most / (ends[side] * stretch));
        }
    }
    return t.d;
}

struct line_try {
    const float *x, *w;
    size_t n;
    int hi, any_sign;
    struct fit_line line;
    float least;
    uint8_t *q;
};

/* Least squares for (d, m) with the levels fixed. */
static struct fit_line solve_line(const struct line_try *t, const uint8_t *q)
{
    float column[5][FIT_MOST];
    for (size_t i = 0; i < t->n; i++) {
        float w = t->w[i], x = t->x[i], k = (float)q[i];
        column[0][i] = w;
        column[1][i] = w * x;
        column[2][i] = w * k;
        column[3][i] = w * k * k;
        column[4][i] = w * x * k;
    }
    double sw = lane_sum(column[0], t->n), sx = lane_sum(column[1], t->n), sq = lane_sum(column[2], t->n);
    double sqq = lane_sum(column[3], t->n), sxq = lane_sum(column[4], t->n);
    double det = sw * sqq - sq * sq;
    struct fit_line line = {0, 0};
    if (det > 1e-9 * sw * sqq)
        line = (struct fit_line){(float)((sw * sxq - sx * sq) / det), (float)((sxq * sq - sx * sqq) / det)};
    bool flat = line.m < 0 && !t->any_sign;
    if (flat) line = (struct fit_line){sqq > 0 ? (float)(sxq / sqq) : 0, 0};
    return line;
}

float fit_line_levels(const float *x, const float *w, size_t n, struct fit_line line, int hi, uint8_t *q)
{
    float inverse = line.d > 0 ? 1 / line.d : 0, error[FIT_MOST];
    if (!isfinite(inverse)) inverse = 0;
    for (size_t i = 0; i < n; i++) {
        float level = rounded((x[i] + line.m) * inverse, 0, (float)hi), e = x[i] - (line.d * level - line.m);
        q[i] = (uint8_t)level;
        error[i] = w[i] * e * e;
    }
    return lane_sum(error, n);
}

static void try_line(struct line_try *t, struct fit_line line)
{
    uint8_t q[FIT_MOST];
    for (int k = 0; k < POLISH; k++) {
        float error = fit_line_levels(t->x, t->w, t->n, line, t->hi, q);
        if (error < t->least) {
            t->least = error;
            t->line = line;
            memcpy(t->q, q, t->n);
        }
        line = solve_line(t, q);
        if (!(line.d > 0)) break;
    }
}

struct fit_line fit_affine(const float *x, const float *w, size_t n, int hi, int any_sign, uint8_t *q)
{
    struct line_try t = {.x = x, .w = w, .n = n, .hi = hi, .any_sign = any_sign, .least = INFINITY, .q = q};
    float low = x[0], high = x[0];
    for (size_t i = 1; i < n; i++) {
        low = fminf(low, x[i]);
        high = fmaxf(high, x[i]);
    }
    if (!any_sign && low > 0) low = 0;
    for (int i = 0; i < STARTS; i++) {
        float span = (high - low) / ((float)hi + 0.25f * (float)(i - STARTS / 2) * fminf(1, (float)hi / 7));
        try_line(&t, (struct fit_line){span, -low});
    }
    return t.line;
}
