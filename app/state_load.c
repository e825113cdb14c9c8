/* SPDX-License-Identifier: MIT
 *
 * See state_load.h.
 */
#include "app/state_load.h"

#include <time.h>

struct loading {
    const struct state_load *what;
    struct restore *restore;
    struct state_load_times times;
    double since; /* clock: up to when time is accounted for */
};

static double clock_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* The time since the last call belongs to this. */
static void spend(struct loading *l, double *seconds)
{
    double now = clock_seconds();
    *seconds += now - l->since;
    l->since = now;
}

static int go_on(const struct loading *l, struct error *error)
{
    bool stop = l->what->stop && l->what->stop(l->what->ctx);
    return stop ? error_set(error, ERROR_CANCELLED, "Stopped.") : 0;
}

static int take_rows(void *ctx, const void *bytes, size_t size, struct error *error)
{
    struct loading *l = ctx;
    spend(l, &l->times.wait);
    int rc = go_on(l, error);
    if (!rc) rc = restore_rows(l->restore, bytes, size, error);
    spend(l, &l->times.rows);
    return rc;
}

static int take_snapshot(void *ctx, const void *bytes, size_t size, struct error *error)
{
    struct loading *l = ctx;
    spend(l, &l->times.wait);
    int rc = go_on(l, error);
    if (!rc) rc = restore_snapshot(l->restore, bytes, size, error);
    spend(l, &l->times.snapshot);
    return rc;
}

static void *find_room(void *ctx, size_t size)
{
    const struct loading *l = ctx;
    return restore_room(l->restore, size);
}

static int verify(void *ctx, const void *bytes, size_t size, struct error *error)
{
    (void)ctx;
    return restore_verify(bytes, size, error);
}

int state_load(const struct state_load *what, struct timeline **out, struct error *error)
{
    struct loading l = {.what = what, .since = clock_seconds()};
    *out = NULL;
    int rc = restore_begin(&l.restore, what->engine, what->ids, what->position, error);
    if (rc) return rc;
    restore_expect_verified(l.restore);
    spend(&l, &l.times.begin);
    struct store_load load = {
        .rows = take_rows,
        .snapshot = take_snapshot,
        .ctx = &l,
        .room = find_room,
        .verify = verify,
        .times = &l.times.store,
    };
    rc = store_load(what->store, engine_info(what->engine)->state_key, what->ids, what->position, &load, error);
    spend(&l, &l.times.wait);
    if (rc)
        restore_abort(&l.restore);
    else
        rc = restore_finish(&l.restore, out, error);
    spend(&l, &l.times.begin);
    if (what->times) *what->times = l.times;
    return rc;
}
