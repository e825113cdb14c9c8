/* SPDX-License-Identifier: MIT
 *
 * Does saving stall answering? Tokens are generated with the store's writer idle and right after a checkpoint was given
 * to it, by turns.
 */
#ifndef LECTERN_APP_BENCH_SAVING_H
#define LECTERN_APP_BENCH_SAVING_H

#include "engine/engine.h"
#include "store/store.h"

enum { BENCH_SAVING_ROOM = 256 }; /* tokens the timeline must have room for */

struct bench_saving_params {
    const struct engine *engine;
    struct timeline *timeline; /* at least one token; loses its marks */
    struct store *store;       /* gets a checkpoint a round, under keys of their own */
    const uint32_t *ids;       /* [n_ids], ordinary tokens */
    size_t n_ids;
};

struct bench_saving {
    uint32_t rounds, tokens;        /* tokens generated in each half of a round */
    uint32_t checkpoint_tokens;     /* 8,192, or as many as there are: what the app reads between two checkpoints */
    uint64_t checkpoint_bytes;      /* their rows and a snapshot */
    double idle_rate, writing_rate; /* tok/s, medians */
    double off;                     /* median of 1 - writing / idle within a round */
    double take_seconds;            /* median: from the device into the queue, on the thread that evaluates */
};

int bench_saving(const struct bench_saving_params *, struct bench_saving *out, struct error *);

#endif
