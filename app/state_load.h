/* SPDX-License-Identifier: MIT
 *
 * A stored state as a timeline: the store reads, the engine takes, several pieces at a time.
 */
#ifndef LECTERN_APP_STATE_LOAD_H
#define LECTERN_APP_STATE_LOAD_H

#include "engine/engine.h"
#include "store/store.h"

struct state_load_times {          /* seconds; those of the calling thread add up to the whole */
    double begin;                  /* a timeline made */
    double wait;                   /* for the store's threads */
    double rows, snapshot;         /* handed to the device */
    struct store_load_times store; /* what its threads did meanwhile */
};

struct state_load {
    struct store *store;
    struct engine *engine;
    const uint32_t *ids;
    size_t position;         /* that store_find_prefix found */
    bool (*stop)(void *ctx); /* asked before each piece; true ends the load with ERROR_CANCELLED; may be NULL */
    void *ctx;
    struct state_load_times *times; /* may be NULL */
};
/* A timeline at ids[0, position), or an error and none. */
int state_load(const struct state_load *, struct timeline **out, struct error *error);

#endif
