/* SPDX-License-Identifier: MIT
 *
 * What the two store tests share: a folder of their own, seeded bytes, prompts and saves made from them. Every blob's
 * bytes follow from (what it is, the tokens before it), so that a loaded state proves itself.
 */
#ifndef LECTERN_TESTS_FAULTS_STORE_KIT_H
#define LECTERN_TESTS_FAULTS_STORE_KIT_H

#include "store/store.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* xorshift64*: the same numbers everywhere */
static inline uint64_t kit_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 2685821657736338717ULL;
}

static inline size_t kit_below(uint64_t *state, size_t most)
{
    return (size_t)(kit_random(state) % most);
}

/* A call that must succeed; it reports into `error`, which this makes. */
#define kit_ok(call)                                                                                                   \
    do {                                                                                                               \
        struct error kit_error = {0}, *error = &kit_error;                                                             \
        if (call) fail_msg("%s: %s", #call, kit_error.text);                                                           \
    } while (0)
/* One that must fail with this code and a sentence that has this in it. */
#define kit_fails(call, expected, words)                                                                               \
    do {                                                                                                               \
        struct error kit_error = {0}, *error = &kit_error;                                                             \
        int kit_rc = call;                                                                                             \
        if (kit_rc != (expected) || !strstr(kit_error.text, words))                                                    \
            fail_msg("%s: %d, \"%s\"; expected %d, \"%s\"", #call, kit_rc, kit_error.text, expected, words);           \
    } while (0)

void kit_folder(char *out, size_t size, const char *name); /* a new, empty folder below the test's own */
void kit_remove(const char *dir);                          /* with all that is in it */
void kit_cleanup(void);                                    /* the test's own folder */

extern const uint8_t kit_model[STORE_KEY];

void kit_ids(uint64_t seed, uint32_t *out, size_t count);

struct kit_save {
    const uint32_t *ids;
    size_t count, first_segment;
    int64_t session;
    bool keep, rows_only;
    const struct store_turn *turns;
    size_t n_turns;
    size_t row_bytes, snapshot_bytes; /* of a full segment, of a snapshot */
};
/* Queues the save (not flushed). */
int kit_queue(struct store *, const struct kit_save *, struct error *);
int kit_save(struct store *, const struct kit_save *, struct error *); /* and flushes */
/* Loads ids[0, count) and compares every byte with what kit_queue wrote. */
int kit_load(struct store *, const uint32_t *ids, size_t count, size_t row_bytes, size_t snapshot_bytes,
             struct error *);

#endif
