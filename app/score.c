/* SPDX-License-Identifier: MIT
 *
 * The text and the numbers of score.h.
 */
#include "app/score.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MOST ((size_t)1 << 30)

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

static int read_stream(FILE *in, const char *name, char **text, size_t *len, struct error *error)
{
    size_t room = 1 << 16, n = 0;
    char *bytes = malloc(room);
    while (bytes && (n += fread(bytes + n, 1, room - n, in)) == room && room < TEXT_MOST) {
        char *grown = realloc(bytes, room *= 2);
        if (!grown) free(bytes);
        bytes = grown;
    }
    *text = bytes;
    *len = n;
    if (!bytes) return error_set(error, ERROR_FAILED, "Out of memory for %s.", name);
    if (ferror(in)) return error_set(error, ERROR_INPUT, "%s: %s.", name, strerror(errno));
    return n < TEXT_MOST ? 0 : error_set(error, ERROR_INPUT, "%s is over 1 GiB.", name);
}

int score_read_text(const char *path, char **text, size_t *len, struct error *error)
{
    if (!strcmp(path, "-")) return read_stream(stdin, "stdin", text, len, error);
    FILE *in = fopen(path, "rb");
    if (!in) return error_set(error, ERROR_INPUT, "%s: %s.", path, strerror(errno));
    int rc = read_stream(in, path, text, len, error);
    fclose(in);
    return rc;
}
