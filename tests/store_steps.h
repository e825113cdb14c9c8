/* SPDX-License-Identifier: MIT
 *
 * Steps that the store's tests share, over store_kit.h: each must succeed. One folder at a time.
 */
#ifndef LECTERN_TESTS_STORE_STEPS_H
#define LECTERN_TESTS_STORE_STEPS_H

#include "tests/faults/store_kit.h"

#include <limits.h>

#define ROWS 3000u /* bytes of a small test's row segment */
#define SNAP 2000u

static char dir[PATH_MAX];

static inline struct store *fresh(const char *name)
{
    struct store *store;
    kit_folder(dir, sizeof dir, name);
    kit_ok(store_open(&store, dir, error));
    return store;
}

static inline void reopen(struct store **store)
{
    store_close(store);
    kit_ok(store_open(store, dir, error));
}

static inline void no_faults(struct store *store)
{
    size_t faults;
    kit_ok(store_check(store, NULL, NULL, &faults, error));
    assert_int_equal(faults, 0);
}

static inline int64_t session_make(struct store *store, const char *name)
{
    int64_t id;
    kit_ok(store_session_create(store, name, NULL, 0, &id, error));
    return id;
}

static inline size_t find(struct store *store, const uint32_t *ids, size_t count)
{
    size_t position;
    kit_ok(store_find_prefix(store, kit_model, ids, count, &position, error));
    return position;
}

static inline size_t present(struct store *store, const uint32_t *ids, size_t count)
{
    size_t segments;
    kit_ok(store_rows_present(store, kit_model, ids, count, &segments, error));
    return segments;
}

static inline void save(struct store *store, const uint32_t *ids, size_t count, int64_t session, bool keep)
{
    size_t have = present(store, ids, count);
    kit_ok(kit_save(store,
                    &(struct kit_save){.ids = ids,
                                       .count = count,
                                       .first_segment = have,
                                       .session = session,
                                       .keep = keep,
                                       .row_bytes = ROWS,
                                       .snapshot_bytes = SNAP},
                    error));
}

static inline void load(struct store *store, const uint32_t *ids, size_t count)
{
    kit_ok(kit_load(store, ids, count, ROWS, SNAP, error));
}

static inline struct store_session session_get(struct store *store, int64_t id)
{
    struct store_session_list list;
    kit_ok(store_session_get(store, id, &list, error));
    struct store_session s = list.items[0];
    store_session_list_free(&list);
    s.name = s.model_name = NULL;
    return s;
}

#endif
