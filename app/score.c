/* SPDX-License-Identifier: MIT
 *
 * The numbers of score.h.
 */
#include "app/score.h"

#include <math.h>

void mean_add(struct mean *m, double x)
{
    double off = x - m->value;
    m->count++;
    m->value += off / (double)m->count;
    m->squares += off * (x - m->value);
}

double mean_error(const struct mean *m)
{
    if (m->count < 2) return (double)NAN;
    return sqrt(m->squares / (double)(m->count - 1) / (double)m->count);
}

size_t score_best(const float *row, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (row[i] > row[best]) best = i;
    return best;
}

bool score_log_softmax(float *row, size_t n)
{
    float most = row[score_best(row, n)];
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(row[i])) return false;
        sum += (double)expf(row[i] - most);
    }
    double log_sum = (double)most + log(sum);
    for (size_t i = 0; i < n; i++) row[i] = (float)((double)row[i] - log_sum);
    return true;
}

double score_divergence(const float *p, const float *q, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)expf(p[i]) * ((double)p[i] - (double)q[i]);
    return sum;
}
