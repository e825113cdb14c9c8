/* SPDX-License-Identifier: MIT
 *
 * The fit is a weighted least-squares line through the stretches: a token of a stretch has cost t / n at depth m, which
 * is exact where the cost is a line. While all that was read is short, b cannot be told from noise; then it leans on
 * what such models have been measured at, a 10,000th of a for each token of depth (docs/performance.md: 0.5 to 4 of
 * that, from a GPU to two cores).
 *
 * The file has lines of "MODEL DEVICE RATE TOKENS DEPTH DEPTH2 SECONDS DEPTH-SECONDS", the latest first; MODEL is the
 * beginning of the fingerprint in hex, RATE the tokens a second over all, which was the only number of earlier versions
 * and is all that they look at.
 */
#include "app/speed.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LEAST_TOKENS = 512, MOST_LINES = 64, LINE = 160, NAME = 48 };

static const double usual_slope = 1e-4;   /* b / a */
static const double usual_weight = 2.0e9; /* its own: of 512 tokens that lie 2,000 from the middle */

/* ---------------------------------------------------------------------------------------------------- the fit */

void speed_add(struct speed *s, size_t first, size_t end, double seconds)
{
    if (end <= first || !(seconds > 0)) return;
    const double n = (double)(end - first), m = 0.5 * ((double)first + (double)end);
    s->tokens += n;
    s->depth += n * m;
    s->depth2 += n * m * m;
    s->seconds += seconds;
    s->depth_seconds += m * seconds;
}

static void sums_add(struct speed *s, const struct speed *other, double share)
{
    s->tokens += share * other->tokens;
    s->depth += share * other->depth;
    s->depth2 += share * other->depth2;
    s->seconds += share * other->seconds;
    s->depth_seconds += share * other->depth_seconds;
}

double speed_seconds(const struct speed *s, size_t first, size_t end)
{
    if (!(s->tokens > 0) || !(s->seconds > 0) || end <= first) return 0;
    const double m = s->depth / s->tokens, y = s->seconds / s->tokens; /* the middle, and its cost */
    const double spread = fmax(s->depth2 - m * s->depth, 0), rise = s->depth_seconds - m * s->seconds;
    const double usual = usual_slope * y / (1 + usual_slope * m);
    double b = (rise + usual_weight * usual) / (spread + usual_weight);
    b = fmax(b, 0);
    if (b * m > y) b = y / m; /* a is not less than nothing */
    const double n = (double)(end - first), middle = 0.5 * ((double)first + (double)end);
    return n * (y + b * (middle - m));
}

/* ---------------------------------------------------------------------------------------------------- the meter */

void speed_meter_note(struct speed_meter *meter, size_t first, size_t at, double seconds)
{
    if (!(meter->seconds > 0)) meter->at = first;
    speed_add(meter->first.tokens > 0 ? &meter->rest : &meter->first, meter->at, at, seconds - meter->seconds);
    meter->at = at;
    meter->seconds = seconds;
}

struct speed speed_meter_read(const struct speed_meter *meter)
{
    struct speed all = meter->rest;
    if (all.tokens < LEAST_TOKENS) sums_add(&all, &meter->first, 1);
    return all;
}

/* ----------------------------------------------------------------------------------------------------- the file */

struct speeds {
    char lines[MOST_LINES][LINE]; /* the latest first */
    size_t count;
};

static char *path_of(const char *dir, const char *suffix)
{
    size_t size = strlen(dir) + sizeof "/reading-speed" + strlen(suffix);
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/reading-speed%s", dir, suffix);
    return path;
}

/* "0123456789abcdef vulkan:0 ": how its line begins. */
static void name_line(const struct engine_info *info, char out[NAME])
{
    for (size_t i = 0; i < 8; i++) snprintf(out + 2 * i, NAME - 2 * i, "%02x", info->model_fingerprint[i]);
    snprintf(out + 16, NAME - 16, " %.16s ", info->device_id);
}

static void load(const char *dir, struct speeds *s)
{
    char *path = path_of(dir, "");
    FILE *file = path ? fopen(path, "re") : NULL;
    s->count = 0;
    while (file && s->count < MOST_LINES && fgets(s->lines[s->count], LINE, file))
        if (strchr(s->lines[s->count], '\n')) s->count++;
    if (file) fclose(file);
    free(path);
}

/* The numbers of a line: six, or of earlier versions one, which then counts as a short reading. */
static struct speed parse_sums(const char *numbers)
{
    double v[6] = {0};
    size_t n = 0;
    for (char *end; n < 6; n++, numbers = end) {
        v[n] = strtod(numbers, &end);
        if (end == numbers || !(v[n] >= 0) || v[n] > 1e30) break;
    }
    struct speed s = {0};
    if (n == 6 && v[1] > 0 && v[4] > 0)
        s = (struct speed){v[1], v[2], v[3], v[4], v[5]};
    else if (n == 1 && !numbers[strspn(numbers, " \n")] && v[0] > 0 && v[0] < 1e9)
        speed_add(&s, 0, LEAST_TOKENS, LEAST_TOKENS / v[0]);
    return s;
}

static struct speed find(const struct speeds *s, const char *name)
{
    for (size_t i = 0; i < s->count; i++)
        if (!strncmp(s->lines[i], name, strlen(name))) return parse_sums(s->lines[i] + strlen(name));
    return (struct speed){0};
}

struct speed speed_recall(const char *dir, const struct engine_info *info)
{
    char name[NAME];
    struct speeds s;
    if (!dir) return (struct speed){0};
    name_line(info, name);
    load(dir, &s);
    return find(&s, name);
}

static bool print_line(FILE *file, const char *name, const struct speed *s)
{
    return fprintf(file, "%s%.1f %.9g %.9g %.9g %.9g %.9g\n", name, s->tokens / s->seconds, s->tokens, s->depth,
                   s->depth2, s->seconds, s->depth_seconds) > 0;
}

/* Whole or not at all: written beside, then put into its place. */
void speed_keep(const char *dir, const struct engine_info *info, const struct speed *reading)
{
    char name[NAME];
    struct speeds s;
    if (!dir || reading->tokens < LEAST_TOKENS || !(reading->seconds > 0)) return;
    name_line(info, name);
    load(dir, &s);
    struct speed sums = *reading, before = find(&s, name);
    sums_add(&sums, &before, 0.5);
    char *path = path_of(dir, ""), *beside = path_of(dir, ".new");
    FILE *file = path && beside ? fopen(beside, "we") : NULL;
    if (file) {
        bool good = !fchmod(fileno(file), 0600) && print_line(file, name, &sums);
        for (size_t i = 0; i < s.count && i + 1 < MOST_LINES; i++)
            if (strncmp(s.lines[i], name, strlen(name))) good = fputs(s.lines[i], file) >= 0 && good;
        good = !fclose(file) && good;
        if (!good || rename(beside, path)) unlink(beside);
    }
    free(path);
    free(beside);
}
