/* SPDX-License-Identifier: MIT
 *
 * See store_kit.h.
 */
#include "tests/faults/store_kit.h"

#include <ftw.h>
#include <limits.h>
#include <sys/stat.h>
#include <unistd.h>

const uint8_t kit_model[STORE_KEY] = "a model key of thirty-two bytes";

/* ------------------------------------------------------------------------------------------------- folders */

static char own_folder[PATH_MAX];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    return remove(path);
}

void kit_remove(const char *dir)
{
    nftw(dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

void kit_cleanup(void)
{
    if (own_folder[0]) kit_remove(own_folder);
    own_folder[0] = '\0';
}

void kit_folder(char *out, size_t size, const char *name)
{
    if (!own_folder[0]) {
        const char *base = getenv("TMPDIR");
        if (!base) base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp"; /* thousands of commits: in memory */
        snprintf(own_folder, sizeof own_folder, "%s/lectern-store-XXXXXX", base);
        assert_non_null(mkdtemp(own_folder));
    }
    snprintf(out, size, "%s/%s", own_folder, name);
    kit_remove(out);
}

/* ----------------------------------------------------------------------------------------------- seeded data */

void kit_ids(uint64_t seed, uint32_t *out, size_t count)
{
    uint64_t state = seed * 2 + 1;
    for (size_t i = 0; i < count; i++) out[i] = (uint32_t)(kit_random(&state) >> 40);
}

static uint64_t kit_hash(const uint32_t *ids, size_t count, uint64_t salt)
{
    uint64_t h = 1469598103934665603ULL ^ salt;
    for (size_t i = 0; i < count; i++) h = (h ^ ids[i]) * 1099511628211ULL;
    return h | 1;
}

static void kit_fill(uint8_t *out, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i += 8) {
        uint64_t word = kit_random(&seed);
        memcpy(out + i, &word, size - i < 8 ? size - i : 8);
    }
}

/* What the rows that end at token `end`, or the snapshot there, look like. */
static struct store_blob kit_blob(const uint32_t *ids, size_t end, bool snapshot, size_t size)
{
    struct store_blob blob = {malloc(size), size};
    assert_non_null(blob.data);
    kit_fill(blob.data, size, kit_hash(ids, end, snapshot ? 77 : 7));
    return blob;
}

static size_t tail_bytes(size_t count, size_t row_bytes)
{
    return count % STORE_SEGMENT ? row_bytes * (count % STORE_SEGMENT) / STORE_SEGMENT + 1 : 0;
}

/* -------------------------------------------------------------------------------------------------- saving */

int kit_queue(struct store *store, const struct kit_save *k, struct error *error)
{
    size_t full = k->count / STORE_SEGMENT, tail = k->rows_only ? 0 : tail_bytes(k->count, k->row_bytes);
    struct store_save save = {.count = k->count,
                              .first_segment = k->first_segment,
                              .n_rows = full - k->first_segment,
                              .keep = k->keep,
                              .session = k->session,
                              .model_name = "kit",
                              .turns = (struct store_turn *)k->turns,
                              .n_turns = k->n_turns};
    memcpy(save.model, kit_model, STORE_KEY);
    save.ids = malloc(k->count * sizeof *save.ids + 1);
    save.rows = calloc(save.n_rows + 1, sizeof *save.rows);
    assert_non_null(save.ids);
    assert_non_null(save.rows);
    if (k->count) memcpy(save.ids, k->ids, k->count * sizeof *save.ids);
    for (size_t i = 0; i < save.n_rows; i++)
        save.rows[i] = kit_blob(k->ids, (k->first_segment + i + 1) * STORE_SEGMENT, false, k->row_bytes);
    if (tail) save.tail = kit_blob(k->ids, k->count, false, tail);
    if (k->count && !k->rows_only) save.snapshot = kit_blob(k->ids, k->count, true, k->snapshot_bytes);
    return store_queue_save(store, &save, error);
}

int kit_save(struct store *store, const struct kit_save *k, struct error *error)
{
    int rc = kit_queue(store, k, error);
    return rc ? rc : store_queue_flush(store, error);
}

/* ------------------------------------------------------------------------------------------------- loading */

struct kit_expect {
    const uint32_t *ids;
    size_t count, at; /* at: tokens whose rows were handed over */
    size_t row_bytes, snapshot_bytes;
    unsigned snapshots;
};

static int compare(const struct kit_expect *x, size_t end, bool snapshot, const void *bytes, size_t size,
                   struct error *error)
{
    struct store_blob blob = kit_blob(x->ids, end, snapshot, size);
    bool same = memcmp(blob.data, bytes, size) == 0;
    free(blob.data);
    return same ? 0 : error_set(error, ERROR_FAILED, "TEST: wrong bytes at token %zu of %zu", end, x->count);
}

static int expect_rows(void *ctx, const void *bytes, size_t size, struct error *error)
{
    struct kit_expect *x = ctx;
    size_t left = x->count - x->at, n = left < STORE_SEGMENT ? left : STORE_SEGMENT;
    size_t expected = n == STORE_SEGMENT ? x->row_bytes : tail_bytes(x->count, x->row_bytes);
    x->at += n;
    if (!n || size != expected) return error_set(error, ERROR_FAILED, "TEST: rows of %zu bytes at %zu", size, x->at);
    return compare(x, x->at, false, bytes, size, error);
}

static int expect_snapshot(void *ctx, const void *bytes, size_t size, struct error *error)
{
    struct kit_expect *x = ctx;
    x->snapshots++;
    if (x->at != x->count || size != x->snapshot_bytes)
        return error_set(error, ERROR_FAILED, "TEST: a snapshot of %zu bytes after %zu tokens", size, x->at);
    return compare(x, x->count, true, bytes, size, error);
}

int kit_load(struct store *store, const uint32_t *ids, size_t count, size_t row_bytes, size_t snapshot_bytes,
             struct error *error)
{
    struct kit_expect x = {.ids = ids, .count = count, .row_bytes = row_bytes, .snapshot_bytes = snapshot_bytes};
    struct store_load load = {.rows = expect_rows, .snapshot = expect_snapshot, .ctx = &x};
    int rc = store_load(store, kit_model, ids, count, &load, error);
    if (!rc && (x.snapshots != 1 || x.at != count))
        rc = error_set(error, ERROR_FAILED, "TEST: %u snapshots, rows of %zu tokens", x.snapshots, x.at);
    return rc;
}
