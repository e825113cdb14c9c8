/* SPDX-License-Identifier: MIT
 *
 * The disk budget and the sessions in use: eviction leaves alone what this process or another one has open, until that
 * one ends, killed or not; a worker over its limit says what it did.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/worker_kit.h"

static int set_up(void **state)
{
    (void)state;
    return make_folder();
}

/* ------------------------------------------------------------------------------------------------- scaffolding */

enum { TOKENS = 600 };
static const uint8_t key[STORE_KEY] = {7};

static struct store_blob some_bytes(void)
{
    return (struct store_blob){calloc(1, 1000), 1000};
}

static void ids_of(int64_t session, uint32_t ids[TOKENS])
{
    for (uint32_t i = 0; i < TOKENS; i++) ids[i] = i * 7 + (uint32_t)session;
}

/* A session with one state: a row segment, a tail and a snapshot of a thousand bytes each. */
static int64_t add_session(struct store *store)
{
    struct error error;
    int64_t session;
    must(store_session_create(store, "s", NULL, 0, &session, &error), &error);
    struct store_save s = {.count = TOKENS, .keep = true, .session = session, .model = {7}, .n_rows = 1};
    s.ids = malloc(TOKENS * sizeof *s.ids);
    s.rows = calloc(1, sizeof *s.rows);
    assert_true(s.ids && s.rows);
    ids_of(session, s.ids);
    s.rows[0] = some_bytes();
    s.tail = some_bytes();
    s.snapshot = some_bytes();
    must(store_queue_save(store, &s, &error), &error);
    must(store_queue_flush(store, &error), &error);
    return session;
}

static bool is_there(struct store *store, int64_t session)
{
    struct error error;
    uint32_t ids[TOKENS];
    size_t position;
    ids_of(session, ids);
    must(store_find_prefix(store, key, ids, TOKENS, &position, &error), &error);
    return position == TOKENS;
}

/* Evicts everything that may go; how many sessions lost their last state. */
static size_t evict_all(struct store *store)
{
    struct error error;
    uint64_t freed;
    size_t lost;
    must(store_evict(store, 0, &freed, &lost, &error), &error);
    return lost;
}

static void hold(struct store *store, int64_t session)
{
    struct error error;
    must(store_session_hold(store, session, &error), &error);
}

/* ------------------------------------------------------------------------------------------------------ store */

static void a_session_in_use_stays(void **state)
{
    (void)state;
    struct error error;
    struct store *store = open_store("use"), *other = open_store("use");
    int64_t mine = add_session(store), theirs = add_session(store), nobodys = add_session(store);
    hold(store, mine);
    hold(store, mine);
    hold(other, theirs);
    assert_int_equal(evict_all(store), 1);
    assert_true(is_there(store, mine) && is_there(store, theirs) && !is_there(store, nobodys));
    assert_int_equal(evict_all(other), 0);
    assert_int_equal(store_session_remove(store, theirs, &error), ERROR_USAGE);
    assert_non_null(strstr(error.text, "open in another lectern"));
    store_session_release(store, mine);
    store_session_release(store, nobodys); /* not held: nothing */
    assert_int_equal(evict_all(other), 1);
    assert_true(!is_there(store, mine) && is_there(store, theirs));
    store_close(&other); /* lets go */
    assert_int_equal(evict_all(store), 1);
    must(store_session_remove(store, theirs, &error), &error);
    store_close(&store);
}

/* A fork stands on the same states: one of the two in use is enough. */
static void a_shared_state_stays(void **state)
{
    (void)state;
    struct error error;
    struct store *store = open_store("shared");
    int64_t session = add_session(store), fork;
    must(store_session_fork(store, session, SIZE_MAX, NULL, &fork, &error), &error);
    hold(store, fork);
    assert_int_equal(evict_all(store), 0);
    assert_true(is_there(store, session));
    store_session_release(store, fork);
    assert_int_equal(evict_all(store), 2);
    store_close(&store);
}

/* Until it is killed, or the test is over. */
static void hold_and_wait(int64_t session, int ready, int over)
{
    char path[128], byte;
    struct store *store;
    struct error error;
    snprintf(path, sizeof path, "%s/killed", folder);
    char answer = store_open(&store, path, &error) || store_session_hold(store, session, &error) ? 'n' : 'y';
    bool waits = write(ready, &answer, 1) == 1 && read(over, &byte, 1) == 0;
    _exit(waits ? 0 : 1);
}

static void the_killed_hold_nothing(void **state)
{
    (void)state;
    struct store *store = open_store("killed");
    int64_t session = add_session(store);
    store_close(&store);
    int ready[2], over[2];
    char answer = 0;
    assert_int_equal(pipe(ready) | pipe(over), 0);
    pid_t child = fork();
    if (!child) {
        close(over[1]);
        hold_and_wait(session, ready[1], over[0]);
    }
    assert_int_equal(read(ready[0], &answer, 1), 1);
    assert_int_equal(answer, 'y');
    store = open_store("killed");
    assert_int_equal(evict_all(store), 0);
    assert_true(is_there(store, session));
    kill(child, SIGKILL);
    assert_int_equal(waitpid(child, NULL, 0), child);
    assert_int_equal(evict_all(store), 1);
    assert_false(is_there(store, session));
    for (int i = 0; i < 2; i++) close(ready[i]), close(over[i]);
    store_close(&store);
}

/* ------------------------------------------------------------------------------------------------------ worker */

static uint64_t state_bytes(struct store *store)
{
    struct store_usage usage;
    struct error error;
    must(store_usage(store, &usage, &error), &error);
    return usage.rows_bytes + usage.snapshot_bytes;
}

static void read_session(struct store *store, int64_t session, const char *text, uint64_t most, struct seen *seen)
{
    struct worker_params params = kit_params(store);
    struct error error;
    params.store_max = most;
    struct worker *w = start_with(&params);
    *seen = (struct seen){0};
    open_text(w, session, text, seen);
    must(worker_read(w, &error), &error);
    wait_for(w, EVENT_SAVED, seen);
    worker_stop(&w);
}

static void a_worker_keeps_to_its_limit_and_says_so(void **state)
{
    (void)state;
    static const char *const texts[] = {"One text.", "Two texts.", "And a third."};
    struct seen seen;
    struct store *store = open_store("limit");
    int64_t first = make_session(store, texts[0]), second = make_session(store, texts[1]);
    read_session(store, first, texts[0], 0, &seen);
    uint64_t one = state_bytes(store), limit = one * 3 / 2;
    assert_int_equal(seen.kinds[EVENT_NOTE], 0);
    read_session(store, second, texts[1], limit, &seen); /* room for one: the first goes */
    assert_true(state_bytes(store) <= limit && state_bytes(store) > 0);
    assert_int_equal(seen.kinds[EVENT_NOTE], 1);
    assert_non_null(strstr(seen.note, "1 session lost the last one"));
    read_session(store, second, texts[1], limit, &seen);
    assert_int_equal(seen.last.kind, EVENT_SAVED);
    assert_int_equal(seen.kinds[EVENT_READING] + seen.kinds[EVENT_NOTE], 0);
    read_session(store, second, texts[2], one / 2, &seen); /* less than it takes itself: told once, kept */
    assert_non_null(strstr(seen.note, "more than --store-max allows"));
    assert_true(state_bytes(store) > one / 2);
    store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_in_use_stays),
        cmocka_unit_test(a_shared_state_stays),
        cmocka_unit_test(the_killed_hold_nothing),
        cmocka_unit_test(a_worker_keeps_to_its_limit_and_says_so),
    };
    return cmocka_run_group_tests(tests, set_up, remove_folder);
}
