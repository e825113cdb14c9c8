/* SPDX-License-Identifier: MIT
 *
 * For tests: timelines into a store and back, as the worker does it but without its thread.
 */
#ifndef LECTERN_TESTS_STATE_KIT_H
#define LECTERN_TESTS_STATE_KIT_H

#include <stdlib.h>
#include <string.h>

#include "app/state_load.h"
#include "engine/engine.h"
#include "store/store.h"

static inline struct store_blob kit_blob(struct blob blob)
{
    return (struct store_blob){blob.data, blob.size};
}

static inline int kit_rows(struct timeline *t, size_t first, size_t count, struct store_blob *out, struct error *error)
{
    struct blob blob = {0};
    int rc = timeline_save_rows(t, first, count, &blob, error);
    *out = kit_blob(blob);
    return rc;
}

static inline int kit_fill(struct timeline *t, struct store_save *s, struct error *error)
{
    size_t full = s->count / STORE_SEGMENT, tail = s->count % STORE_SEGMENT;
    struct blob snapshot = {0};
    int rc = 0;
    for (size_t i = s->first_segment; !rc && i < full; i++, s->n_rows++)
        rc = kit_rows(t, i * STORE_SEGMENT, STORE_SEGMENT, &s->rows[s->n_rows], error);
    if (!rc && tail) rc = kit_rows(t, full * STORE_SEGMENT, tail, &s->tail, error);
    if (!rc) rc = timeline_save_snapshot(t, &snapshot, error);
    s->snapshot = kit_blob(snapshot);
    return rc;
}

struct kit {
    struct store *store;
    struct engine *engine;
    int64_t session; /* 0 = none */
};

/* Queues the timeline as it stands, with the rows that the store lacks, and the turn that led there (NULL: none). */
static inline int kit_save(const struct kit *k, struct timeline *t, struct store_turn *turn, struct error *error)
{
    size_t count = timeline_length(t), present = 0;
    const uint8_t *key = engine_info(k->engine)->state_key;
    int rc = store_rows_present(k->store, key, timeline_tokens(t), count, &present, error);
    if (rc) return rc;
    struct store_save s = {.count = count, .first_segment = present, .keep = k->session != 0, .session = k->session};
    s.ids = malloc(count * sizeof *s.ids);
    s.rows = calloc(count / STORE_SEGMENT + 1, sizeof *s.rows);
    s.turns = turn;
    s.n_turns = turn != NULL;
    if (!s.ids || !s.rows) abort();
    memcpy(s.ids, timeline_tokens(t), count * sizeof *s.ids);
    memcpy(s.model, key, STORE_KEY);
    rc = kit_fill(t, &s, error);
    return rc ? rc : store_queue_save(k->store, &s, error);
}

/* The longest stored prefix of ids as a new timeline, or NULL where nothing is stored. */
static inline int kit_load(const struct kit *k, const uint32_t *ids, size_t count, struct timeline **out,
                           struct error *error)
{
    size_t position = 0;
    const uint8_t *key = engine_info(k->engine)->state_key;
    *out = NULL;
    int rc = store_find_prefix(k->store, key, ids, count, &position, error);
    if (rc || !position) return rc;
    const struct state_load load = {.store = k->store, .engine = k->engine, .ids = ids, .position = position};
    return state_load(&load, out, error);
}

#endif
