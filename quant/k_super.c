/* SPDX-License-Identifier: MIT
 *
 * Encoding of K super-blocks. Each sub is fitted alone; d covers the largest sub; each sub then takes the neighbouring
 * whole-number scale and min with the least error under that d; d (and dmin) are solved anew, least squares over the
 * whole super-block, and the choice is made once more. The best of these rounds is kept.
 */
#include "quant/k_super.h"
#include "quant/fit.h"

#include <math.h>
#include <string.h>

enum { ROUNDS = 3 };

static float as_half(float f)
{
    return quant_f16_to_f32(quant_f32_to_f16(f));
}

struct affine_job {
    const float *x, *w;
    const struct k_affine_shape *shape;
    struct fit_line want[16]; /* each sub's own line */
};

/* The whole-number scale and min of one sub, tried around its own line; returns the error. */
static float affine_choose(const struct affine_job *job, size_t sub, struct k_affine *k)
{
    size_t n = SUPER / job->shape->subs;
    int most = job->shape->scale_most;
    int scale = k->d > 0 ? fit_round(job->want[sub].d / k->d, 0, most) : 0;
    int min = k->dmin > 0 ? fit_round(job->want[sub].m / k->dmin, 0, most) : 0;
    float least = INFINITY;
    uint8_t q[FIT_MOST];
    for (int s = scale - 1; s <= scale + 1; s++)
        for (int m = min - 1; m <= min + 1; m++) {
            if (s < 0 || s > most || m < 0 || m > most) continue;
            struct fit_line line = {k->d * (float)s, k->dmin * (float)m};
            float error = fit_line_levels(job->x + sub * n, job->w + sub * n, n, line, job->shape->level_most, q);
            if (!(error < least)) continue;
            least = error;
            k->scale[sub] = (uint8_t)s;
            k->min[sub] = (uint8_t)m;
            memcpy(k->level + sub * n, q, n);
        }
    return least;
}

/* d and dmin anew for the chosen whole numbers; false when the system says nothing. */
static bool affine_solve(const struct affine_job *job, struct k_affine *k)
{
    double aa = 0, ab = 0, bb = 0, ax = 0, bx = 0;
    size_t n = SUPER / job->shape->subs;
    for (size_t i = 0; i < SUPER; i++) {
        double a = (double)k->scale[i / n] * k->level[i], b = -(double)k->min[i / n], w = job->w[i], x = job->x[i];
        aa += w * a * a;
        ab += w * a * b;
        bb += w * b * b;
        ax += w * a * x;
        bx += w * b * x;
    }
    double det = aa * bb - ab * ab;
    if (bb == 0 && aa > 0) {
        k->d = as_half((float)(ax / aa));
        return k->d > 0;
    }
    if (!(det > 1e-9 * aa * bb)) return false;
    k->d = as_half((float)((ax * bb - bx * ab) / det));
    k->dmin = as_half((float)((bx * aa - ax * ab) / det));
    return k->d > 0 && k->dmin >= 0;
}

void k_affine_fit(const float *x, const float *w, const struct k_affine_shape *shape, struct k_affine *out)
{
    struct affine_job job = {.x = x, .w = w, .shape = shape};
    size_t n = SUPER / shape->subs;
    float d = 0, dmin = 0, least = INFINITY;
    for (size_t j = 0; j < shape->subs; j++) {
        uint8_t q[FIT_MOST];
        job.want[j] = fit_affine(x + j * n, w + j * n, n, shape->level_most, 0, q);
        d = fmaxf(d, job.want[j].d);
        dmin = fmaxf(dmin, job.want[j].m);
    }
    struct k_affine k = {.d = as_half(d / (float)shape->scale_most), .dmin = as_half(dmin / (float)shape->scale_most)};
    for (int round = 0; round < ROUNDS; round++) {
        float error = 0;
        for (size_t j = 0; j < shape->subs; j++) error += affine_choose(&job, j, &k);
        if (error < least) {
            least = error;
            *out = k;
        }
        if (!affine_solve(&job, &k)) break;
    }
}

struct step_job {
    const float *x, *w;
    const struct k_step_shape *shape;
    float want[16]; /* each sub's own step */
};

static float step_choose(const struct step_job *job, size_t sub, struct k_step *k)
{
    enum { N = SUPER / 16 };
    const struct k_step_shape *s = job->shape;
    int scale = k->d != 0 ? fit_round(job->want[sub] / k->d, s->scale_least, s->scale_most) : 0;
    float least = INFINITY;
    int8_t q[N];
    for (int c = scale - 1; c <= scale + 1; c++) {
        if (c < s->scale_least || c > s->scale_most) continue;
        float error =
            fit_levels(job->x + sub * N, job->w + sub * N, N, k->d * (float)c, s->level_least, s->level_most, q);
        if (!(error < least)) continue;
        least = error;
        k->scale[sub] = (int8_t)c;
        memcpy(k->level + sub * N, q, N);
    }
    return least;
}

static bool step_solve(const struct step_job *job, struct k_step *k)
{
    double aa = 0, ax = 0;
    for (size_t i = 0; i < SUPER; i++) {
        double a = (double)k->scale[i / 16] * k->level[i];
        aa += job->w[i] * a * a;
        ax += job->w[i] * a * (double)job->x[i];
    }
    k->d = aa > 0 ? as_half((float)(ax / aa)) : 0;
    return k->d != 0;
}

void k_step_fit(const float *x, const float *w, const struct k_step_shape *shape, struct k_step *out)
{
    struct step_job job = {.x = x, .w = w, .shape = shape};
    float most = 0, least = INFINITY;
    for (size_t j = 0; j < 16; j++) {
        int8_t q[FIT_MOST];
        job.want[j] = fit_step(x + j * 16, w + j * 16, 16, shape->level_least, shape->level_most, q);
        if (fabsf(job.want[j]) > fabsf(most)) most = job.want[j];
    }
    /* The longer, negative side of the scales takes the sub with the largest step. */
    struct k_step k = {.d = as_half(most / (float)shape->scale_least)};
    for (int round = 0; round < ROUNDS; round++) {
        float error = 0;
        for (size_t j = 0; j < 16; j++) error += step_choose(&job, j, &k);
        if (error < least) {
            least = error;
            *out = k;
        }
        if (!step_solve(&job, &k)) break;
    }
}

void k_scales_put(uint8_t *s, const uint8_t *scale, const uint8_t *min)
{
    for (size_t j = 0; j < 4; j++) {
        s[j] = (uint8_t)(scale[j] | (scale[j + 4] >> 4) << 6);
        s[j + 4] = (uint8_t)(min[j] | (min[j + 4] >> 4) << 6);
        s[j + 8] = (uint8_t)((scale[j + 4] & 15) | (min[j + 4] & 15) << 4);
    }
}

void k_nibbles_put(uint8_t *nibbles, const uint8_t *level)
{
    for (size_t j = 0; j < SUPER / 2; j++) {
        const uint8_t *low = level + j / 32 * 64 + j % 32;
        nibbles[j] = (uint8_t)((low[0] & 15) | (low[32] & 15) << 4);
    }
}

void k_pairs_put(uint8_t *pairs, const uint8_t *level)
{
    for (size_t j = 0; j < SUPER; j++) pairs[j / 128 * 32 + j % 32] |= (uint8_t)((level[j] & 3) << (j / 32 % 4 * 2));
}
