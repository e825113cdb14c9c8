/* SPDX-License-Identifier: MIT
 *
 * A random walk: thousands of saves, forks, rewinds, removals, evictions, collections and reopenings, each done to the
 * store and to a plain model in memory. The model knows snapshots (a prefix of ids each) and links (session, snapshot,
 * turns); segments follow from the snapshots. After each step both must tell the same.
 * WALK_STEPS and WALK_SEED in the environment make it longer or another one.
 */
#include "tests/faults/store_kit.h"

#include <limits.h>

#define ROWS 40u
#define SNAP 90u
#define LONGEST 14000u

struct snap {
    uint32_t *ids;
    size_t count;
    bool keep;
};
struct link {
    int64_t session;
    struct snap *snap;
    size_t turns;
};
struct talk {
    int64_t id;
    size_t turns, length;
    uint32_t ids[LONGEST]; /* its prompt now */
};

static struct snap *snaps[4000];
static struct link links[20000];
static struct talk *talks[60];
static size_t n_snaps, n_links, n_talks;
static uint64_t rng;
static struct store *store;
static char dir[PATH_MAX];

/* ------------------------------------------------------------------------------------------------ the model */

static bool is_prefix(const struct snap *s, const uint32_t *ids, size_t count)
{
    return s->count <= count && memcmp(s->ids, ids, s->count * sizeof *ids) == 0;
}

static struct snap *snap_find(const uint32_t *ids, size_t count)
{
    for (size_t i = 0; i < n_snaps; i++)
        if (snaps[i]->count == count && is_prefix(snaps[i], ids, count)) return snaps[i];
    return NULL;
}

static struct link *link_find(int64_t session, const struct snap *s)
{
    for (size_t i = 0; i < n_links; i++)
        if (links[i].session == session && links[i].snap == s) return &links[i];
    return NULL;
}

static size_t link_users(const struct snap *s)
{
    size_t n = 0;
    for (size_t i = 0; i < n_links; i++) n += links[i].snap == s;
    return n;
}

static void link_add(int64_t session, struct snap *s, size_t turns)
{
    if (link_find(session, s)) return;
    assert_true(n_links < sizeof links / sizeof *links);
    links[n_links++] = (struct link){session, s, turns};
}

static void snap_drop(struct snap *s)
{
    for (size_t i = n_links; i-- > 0;)
        if (links[i].snap == s) links[i] = links[--n_links];
    for (size_t i = 0; i < n_snaps; i++)
        if (snaps[i] == s) {
            snaps[i] = snaps[--n_snaps];
            break;
        }
    free(s->ids);
    free(s);
}

static void link_drop(int64_t session, struct snap *s)
{
    struct link *l = link_find(session, s);
    *l = links[--n_links];
    if (!link_users(s)) snap_drop(s);
}

static int by_position(const void *a, const void *b)
{
    const struct snap *x = *(struct snap *const *)a, *y = *(struct snap *const *)b;
    return (x->count > y->count) - (x->count < y->count);
}

static void model_thin(int64_t session, const uint32_t *ids, size_t count)
{
    struct snap *path[4000];
    size_t n = 0;
    for (size_t i = 0; i < n_snaps; i++) {
        bool mine = session ? link_find(session, snaps[i]) != NULL : !link_users(snaps[i]);
        if (mine && is_prefix(snaps[i], ids, count)) path[n++] = snaps[i];
    }
    qsort(path, n, sizeof *path, by_position);
    size_t above = count;
    for (size_t i = n; i-- > 0;) {
        size_t below = i ? path[i - 1]->count : 0, at = path[i]->count;
        if (at == count) continue;
        bool drop = !path[i]->keep && (above - below) * 8 <= count - above;
        if (!drop)
            above = at;
        else if (session)
            link_drop(session, path[i]);
        else
            snap_drop(path[i]);
    }
}

static void model_save(struct talk *t, const uint32_t *ids, size_t count, bool keep, size_t new_turns)
{
    struct snap *s = snap_find(ids, count);
    if (!s) {
        s = calloc(1, sizeof *s);
        assert_non_null(s);
        s->ids = malloc(count * sizeof *ids);
        assert_non_null(s->ids);
        memcpy(s->ids, ids, count * sizeof *ids);
        s->count = count;
        snaps[n_snaps++] = s;
        assert_true(n_snaps < sizeof snaps / sizeof *snaps);
    }
    s->keep |= keep;
    if (t) {
        link_add(t->id, s, t->turns + new_turns);
        for (size_t i = 0; i < n_snaps; i++)
            if (is_prefix(snaps[i], ids, count)) link_add(t->id, snaps[i], t->turns);
        t->turns += new_turns;
    }
    model_thin(t ? t->id : 0, ids, count);
}

/* Drops the links of a session with more than `turns` turns (all: a removal). */
static void model_release(int64_t session, size_t turns, bool all)
{
    for (size_t i = n_links; i-- > 0;) {
        if (i >= n_links || links[i].session != session || (!all && links[i].turns <= turns)) continue;
        link_drop(session, links[i].snap);
        i = n_links;
        if (!i) break;
    }
}

/* ---------------------------------------------------------------------------------------------- what it takes */

/* The full segments of some snapshots as distinct hashes, with the bytes of everything. */
struct tally {
    uint64_t hash[200000];
    size_t n;
    uint64_t bytes;
};

static uint64_t prefix_hash(const uint32_t *ids, size_t count)
{
    uint64_t h = 88172645463325252ULL;
    for (size_t i = 0; i < count; i++) h = (h ^ ids[i]) * 1099511628211ULL + (h >> 29);
    return h;
}

static int by_hash(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void tally_snap(struct tally *t, const struct snap *s)
{
    for (size_t i = 1; i <= s->count / STORE_SEGMENT; i++) t->hash[t->n++] = prefix_hash(s->ids, i * STORE_SEGMENT);
    assert_true(t->n < 190000);
    size_t tail = s->count % STORE_SEGMENT;
    t->bytes += SNAP + (tail ? ROWS * tail / STORE_SEGMENT + 1 : 0);
}

static void tally_unique(struct tally *t)
{
    qsort(t->hash, t->n, sizeof *t->hash, by_hash);
    size_t n = 0;
    for (size_t i = 0; i < t->n; i++)
        if (!n || t->hash[n - 1] != t->hash[i]) t->hash[n++] = t->hash[i];
    t->n = n;
    t->bytes += n * ROWS;
}

static struct tally scratch, others;

static uint64_t model_total(void)
{
    scratch.n = 0;
    scratch.bytes = 0;
    for (size_t i = 0; i < n_snaps; i++) tally_snap(&scratch, snaps[i]);
    tally_unique(&scratch);
    return scratch.bytes;
}

static uint64_t model_shared(int64_t session, uint64_t *own)
{
    uint64_t shared = 0, all;
    scratch.n = others.n = 0;
    scratch.bytes = others.bytes = 0;
    for (size_t i = 0; i < n_links; i++)
        if (links[i].session != session) tally_snap(&others, links[i].snap);
    for (size_t i = 0; i < n_links; i++) {
        if (links[i].session != session) continue;
        uint64_t before = scratch.bytes;
        tally_snap(&scratch, links[i].snap);
        if (link_users(links[i].snap) > 1) shared += scratch.bytes - before;
    }
    tally_unique(&scratch);
    tally_unique(&others);
    all = scratch.bytes;
    for (size_t i = 0; i < scratch.n; i++)
        if (bsearch(&scratch.hash[i], others.hash, others.n, sizeof *others.hash, by_hash)) shared += ROWS;
    *own = all - shared;
    return shared;
}

/* ------------------------------------------------------------------------------------------------- comparing */

static uint64_t stored(void)
{
    struct store_usage usage;
    kit_ok(store_usage(store, &usage, error));
    assert_int_equal(usage.n_snapshots, n_snaps);
    assert_int_equal(usage.n_sessions, n_talks);
    return usage.rows_bytes + usage.snapshot_bytes;
}

static void compare_prefix(const uint32_t *ids, size_t count)
{
    size_t best = 0, position;
    for (size_t i = 0; i < n_snaps; i++)
        if (snaps[i]->count > best && is_prefix(snaps[i], ids, count)) best = snaps[i]->count;
    kit_ok(store_find_prefix(store, kit_model, ids, count, &position, error));
    assert_int_equal(position, best);
    if (best) kit_ok(kit_load(store, ids, best, ROWS, SNAP, error));
}

static void compare_session(const struct talk *t)
{
    struct store_session_list list;
    uint64_t own, shared = model_shared(t->id, &own);
    kit_ok(store_session_get(store, t->id, &list, error));
    assert_int_equal(list.items[0].n_turns, t->turns);
    assert_int_equal(list.items[0].bytes_shared, shared);
    assert_int_equal(list.items[0].bytes_own, own);
    store_session_list_free(&list);
}

static void compare(void)
{
    assert_int_equal(stored(), model_total());
    if (!n_talks) return;
    const struct talk *t = talks[kit_below(&rng, n_talks)];
    compare_session(t);
    if (t->length) compare_prefix(t->ids, 1 + kit_below(&rng, t->length));
}

/* ------------------------------------------------------------------------------------------------------ steps */

static struct talk *any_talk(void)
{
    return n_talks ? talks[kit_below(&rng, n_talks)] : NULL;
}

static struct talk *talk_add(int64_t id)
{
    struct talk *t = calloc(1, sizeof *t);
    assert_non_null(t);
    t->id = id;
    talks[n_talks++] = t;
    return t;
}

static void step_create(void)
{
    int64_t id;
    if (n_talks >= 50) return;
    kit_ok(store_session_create(store, "walk", NULL, 0, &id, error));
    struct talk *t = talk_add(id);
    t->length = 1 + kit_below(&rng, 2500); /* one of three books */
    kit_ids(kit_below(&rng, 3), t->ids, t->length);
}

static void step_save(void)
{
    struct talk *t = kit_below(&rng, 3) && n_talks ? talks[0] : any_talk(); /* one grows long: it is thinned */
    if (!t) return;
    size_t more = kit_below(&rng, 3) ? kit_below(&rng, 600) : 512 - t->length % 512;
    if (t->length + more > LONGEST) more = 0;
    for (size_t i = 0; i < more; i++) t->ids[t->length++] = (uint32_t)(kit_random(&rng) >> 60); /* branches meet */
    bool nobody = kit_below(&rng, 12) == 0;
    struct store_turn turns[2] = {{.role = STORE_USER, .text = "q", .text_len = 1}, {.role = STORE_ASSISTANT}};
    size_t n_turns = nobody ? 0 : kit_below(&rng, 3), have;
    kit_ok(store_rows_present(store, kit_model, t->ids, t->length, &have, error));
    struct kit_save k = {.ids = t->ids,
                         .count = t->length,
                         .first_segment = have - (have ? kit_below(&rng, 2) : 0),
                         .session = nobody ? 0 : t->id,
                         .keep = kit_below(&rng, 3) == 0,
                         .turns = turns,
                         .n_turns = n_turns,
                         .row_bytes = ROWS,
                         .snapshot_bytes = SNAP};
    kit_ok(kit_save(store, &k, error));
    model_save(nobody ? NULL : t, t->ids, t->length, k.keep, n_turns);
}

static void step_fork(void)
{
    struct talk *t = any_talk();
    if (!t || n_talks >= 50) return;
    size_t turns = kit_below(&rng, t->turns + 2);
    int64_t id;
    kit_ok(store_session_fork(store, t->id, turns, NULL, &id, error));
    struct talk *f = talk_add(id);
    f->turns = turns < t->turns ? turns : t->turns;
    f->length = t->length;
    memcpy(f->ids, t->ids, sizeof f->ids);
    for (size_t i = 0, n = n_links; i < n; i++)
        if (links[i].session == t->id && links[i].turns <= turns) link_add(id, links[i].snap, links[i].turns);
}

static void step_rewind(void)
{
    struct talk *t = any_talk();
    if (!t) return;
    size_t turns = kit_below(&rng, t->turns + 1);
    kit_ok(store_session_truncate(store, t->id, turns, error));
    if (turns >= t->turns) return;
    model_release(t->id, turns, false);
    t->turns = turns;
    t->length -= t->length ? kit_below(&rng, t->length) : 0;
}

static void step_remove(void)
{
    if (!n_talks) return;
    size_t at = kit_below(&rng, n_talks);
    kit_ok(store_session_remove(store, talks[at]->id, error));
    model_release(talks[at]->id, 0, true);
    free(talks[at]);
    talks[at] = talks[--n_talks];
}

static void step_gc(void)
{
    uint64_t freed, before = model_total();
    kit_ok(store_gc(store, &freed, error));
    for (size_t i = n_snaps; i-- > 0;)
        if (!link_users(snaps[i])) snap_drop(snaps[i]);
    assert_int_equal(freed, before - model_total());
}

/* The last state of a session: its deepest. */
static bool is_last(const struct snap *s)
{
    for (size_t i = 0; i < n_links; i++) {
        if (links[i].snap != s) continue;
        bool deeper = false;
        for (size_t j = 0; j < n_links; j++)
            deeper |= links[j].session == links[i].session && links[j].snap->count > s->count;
        if (!deeper) return true;
    }
    return false;
}

static int rank(const struct snap *s)
{
    return !link_users(s) ? 0 : is_last(s) ? 3 : s->keep ? 2 : 1;
}

static size_t sessions_with_state(void)
{
    size_t n = 0;
    for (size_t i = 0; i < n_talks; i++) {
        bool has = false;
        for (size_t j = 0; j < n_links; j++) has |= links[j].session == talks[i]->id;
        n += has;
    }
    return n;
}

/* Which snapshots go depends on times of use; that they go in the right classes is seen from those that stay. */
static void step_evict(void)
{
    uint64_t before = model_total(), most = before - before / (2 + kit_below(&rng, 9)), freed;
    size_t lost, with = sessions_with_state();
    int lowest_kept = 9, highest_gone = -1;
    kit_ok(store_evict(store, most, &freed, &lost, error));
    bool gone[4000];
    for (size_t i = 0; i < n_snaps; i++) {
        size_t position;
        kit_ok(store_find_prefix(store, kit_model, snaps[i]->ids, snaps[i]->count, &position, error));
        gone[i] = position != snaps[i]->count;
        int r = rank(snaps[i]);
        if (gone[i] && r > highest_gone) highest_gone = r;
        if (!gone[i] && r < lowest_kept) lowest_kept = r;
    }
    assert_true(highest_gone <= lowest_kept || before <= most);
    for (size_t i = n_snaps; i-- > 0;)
        if (gone[i]) snap_drop(snaps[i]);
    assert_int_equal(before - freed, model_total());
    assert_true(model_total() <= most);
    assert_int_equal(lost, with - sessions_with_state());
}

static void step_reopen(void)
{
    store_close(&store);
    kit_ok(store_open(&store, dir, error));
}

static void step(void)
{
    size_t dice = kit_below(&rng, 100);
    if (dice < 12)
        step_create();
    else if (dice < 62)
        step_save();
    else if (dice < 72)
        step_fork();
    else if (dice < 82)
        step_rewind();
    else if (dice < 89)
        step_remove();
    else if (dice < 93)
        step_gc();
    else if (dice < 97)
        step_evict();
    else
        step_reopen();
}

static size_t number_from(const char *name, size_t usual)
{
    const char *text = getenv(name);
    return text ? (size_t)strtoull(text, NULL, 10) : usual;
}

static void test_walk(void **state)
{
    (void)state;
    size_t steps = number_from("WALK_STEPS", 3000), faults;
    rng = number_from("WALK_SEED", 1) * 2 + 1;
    kit_folder(dir, sizeof dir, "walk");
    kit_ok(store_open(&store, dir, error));
    for (size_t i = 0; i < steps; i++) {
        step();
        compare();
        if (i % 500 != 499) continue;
        kit_ok(store_check(store, NULL, NULL, &faults, error));
        assert_int_equal(faults, 0);
    }
    store_close(&store);
    while (n_snaps) snap_drop(snaps[0]);
    while (n_talks) free(talks[--n_talks]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_walk)};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kit_cleanup();
    return failed;
}
