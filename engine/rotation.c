/* SPDX-License-Identifier: MIT
 *
 * Angles of rotary positions (rotation.h).
 */
#include "engine/rotation.h"

#include <math.h>

static const double pi = 3.14159265358979323846;

/* The pair, as a fraction, that makes `turns` turns within the original length. */
static double pair_of(const struct rotation_params *p, double turns)
{
    return p->width * log(p->original / (turns * 2 * pi)) / (2 * log((double)p->base));
}

/* How much of its own pace a pair keeps: 1 for the fast ones, 0 for the slow ones, a ramp between. */
static double pace_kept(const struct rotation_params *p, uint32_t pair)
{
    const double start = fmax(0, floor(pair_of(p, (double)p->fast)));
    const double end = fmin(p->width - 1, ceil(pair_of(p, (double)p->slow)));
    const double at = (pair - start) / fmax(0.001, end - start);
    return 1 - fmin(1, fmax(0, at));
}

void rotation_init(struct rotation *r, const struct rotation_params *p)
{
    *r = (struct rotation){.width = p->width, .magnitude = p->magnitude};
    for (uint32_t i = 0; i < p->width / 2; i++) {
        const double step = pow((double)p->base, -2.0 * i / p->width);
        const double kept = p->factor > 1 ? pace_kept(p, i) : 1;
        r->step[i] = step * (kept + (1 - kept) / (double)p->factor);
    }
}

void rotation_fill(const struct rotation *r, uint32_t first, uint32_t n, float *out)
{
    for (uint32_t t = 0; t < n; t++)
        for (uint32_t i = 0; i < r->width / 2; i++) {
            const double angle = ((double)first + t) * r->step[i];
            *out++ = (float)((double)r->magnitude * cos(angle));
            *out++ = (float)((double)r->magnitude * sin(angle));
        }
}
