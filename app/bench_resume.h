/* SPDX-License-Identifier: MIT
 *
 * What bench --resume measured, and printing it.
 */
#ifndef LECTERN_APP_BENCH_RESUME_H
#define LECTERN_APP_BENCH_RESUME_H

#include "app/bench.h"
#include "app/bench_saving.h"
#include "app/state_load.h"

enum { RESUME_QUESTION = 16, RESUME_RESULTS = 2 };

struct resume_run {
    double open_seconds, find_seconds; /* the store; the longest stored prefix */
    double load_seconds;
    struct state_load_times times; /* what of it */
    double ask_seconds;            /* the question and the first token */
    double first_seconds;          /* from before open to the sampled token: open + find + load + ask */
    bool identical;
};

struct resume_result { /* with one choice of types */
    struct engine_info info;
    uint64_t rows_bytes, snapshot_bytes;
    double model_seconds;
    double read_seconds, reread_seconds; /* the tokens; to the first token. 0: made, not read */
    double save_seconds;
    struct resume_run warm, cold;
    double disk_rate; /* bytes a second: the same file, once more not in the page cache, read in order by one thread */
    bool is_cold;     /* the page cache was empty of it, both times */
    bool has_saving;
    struct bench_saving saving;
};

void resume_print(const struct bench_resume_options *, const struct resume_result *, size_t count);
void resume_print_json(const struct bench_resume_options *, const struct resume_result *, size_t count);

#endif
