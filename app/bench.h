/* SPDX-License-Identifier: MIT
 *
 * What the measurements of lectern bench share.
 */
#ifndef LECTERN_APP_BENCH_H
#define LECTERN_APP_BENCH_H

#include "app/json.h"
#include "app/options.h"

double bench_clock(void); /* monotonic seconds */

/* count seeded ordinary tokens (no specials); free(*ids). */
int bench_ids(const struct engine *, size_t count, uint32_t **ids, struct error *);

/* For eval_hooks.progress: ctx is what is being done, a string. Stops at a signal. */
bool bench_progress(void *what, size_t done, size_t total);

enum { BENCH_TIMINGS = 64 };
struct bench_profile { /* of a stretch of evaluation */
    double seconds;    /* in all, by the wall */
    struct engine_timing timings[BENCH_TIMINGS];
    size_t count;
};
/* A line for each operation: time, share, and how near to the device's peaks. */
void bench_profile_print(const struct bench_profile *, const struct engine_peaks *);
void bench_profile_json(struct json *, const char *key, const struct bench_profile *);

enum { BENCH_DEPTHS = 32 };
struct bench_plan {
    uint32_t depths[BENCH_DEPTHS]; /* ascending, one at least */
    size_t n_depths;
    uint32_t prefill, decode; /* tokens measured at each */
    bool profile;
    bool made; /* depths are stood at, not read to: timeline_pretend */
};
struct bench_row {
    uint32_t depth;
    struct bench_profile prefill, decode;
};
struct bench_speed {
    struct engine_info info;
    struct engine_peaks peaks; /* plan.profile */
    struct bench_row rows[BENCH_DEPTHS];
    size_t n_rows;
};
/* model: as typed; NULL = what -m says. */
int bench_speed(struct bench_speed *, const struct settings *, const char *model, const struct bench_plan *,
                struct error *);
double bench_decode_rate(const struct bench_plan *, const struct bench_speed *, size_t row); /* tokens a second */
/* Rows in memory and tokens a second over depth, of one model or two, as an SVG file. */
int bench_plot(const char *path, const struct bench_plan *, const struct bench_speed *, size_t count, struct error *);

struct bench_resume_options {
    uint32_t tokens;
    bool cold, json;
    bool made;    /* the tokens are stood at, not read: timeline_pretend */
    bool compare; /* f32 state and f16 rows against f16 state and q8_0 rows, whatever the settings say */
};
/* bench --resume: reads so many tokens, keeps them in a store of its own under the data folder, takes them back, and
 * prints what each took. The store is removed in any case. ERROR_FAILED when what came back is not bit-identical. */
int bench_resume(const struct settings *, const struct bench_resume_options *, struct error *);

/* bench --types, printed. */
int bench_types(const struct settings *, bool json, struct error *);

#endif
