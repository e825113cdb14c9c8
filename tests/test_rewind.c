/* SPDX-License-Identifier: MIT
 *
 * What going back costs, counted in tokens: from the end P of a text to a place T at most an eighth of the distance
 * P - T is evaluated again, or one unit (a batch, a row segment) where that is more. The rungs as they are planned; as
 * the store thins them while a conversation grows; as the worker finds them, from the store and from the marks inside
 * the timeline, when a text is changed at a random place.
 */
#include <math.h>
#include <math.h>

#include "app/ladder.h"
#include "app/prompt.h"
#include "tests/worker_kit.h"

enum { BATCH = 256, TEXT_BYTES = 8000, CHANGES = 60 };

static char text[TEXT_BYTES + 1];
static uint64_t random_state = 20261124;

static size_t random_below(size_t n)
{
    random_state = random_state * 6364136223846793005u + 1442695040888963407u;
    return (size_t)(random_state >> 33) % n;
}

static int set_up(void **state)
{
    (void)state;
    for (size_t n = 0; n < TEXT_BYTES; n++) text[n] = (char)(random_below(6) ? 'a' + random_below(26) : ' ');
    return make_folder();
}

static size_t allowed(size_t distance, size_t unit)
{
    return distance / 8 > unit ? distance / 8 : unit;
}

/* --------------------------------------------------------------------------------------------------- the plan */

static void rungs_are_as_near_as_they_must_and_as_few_as_they_can(void **state)
{
    (void)state;
    static const size_t ends[] = {1, 511, 512, 513, 3000, 8192, 20000, 65536, 131072, 1048576};
    static const uint32_t batches[] = {64, 512, 48, 2048};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++)
        for (size_t k = 0; k < sizeof batches / sizeof *batches; k++) {
            size_t end = ends[i], unit = ladder_unit(batches[k]), at = 0, rungs = 0;
            assert_true(unit >= 512 && unit % batches[k] == 0 && unit < 512 + batches[k]);
            while (at < end) {
                size_t next = ladder_next(at, end, unit);
                assert_true(next > at && next <= end && (next == end || next % batches[k] == 0));
                assert_true(next - 1 - at <= allowed(end - (next - 1), unit));
                at = next;
                rungs++;
            }
            assert_true((double)rungs <= 2 + 8 * log2((double)end / (double)unit + 1));
        }
}

/* --------------------------------------------------------------------------------------------------- the store */

static struct store_blob some_bytes(void)
{
    return (struct store_blob){calloc(1, 8), 8};
}

/* A state at `position` as the worker saves it, with empty bytes: the store does not look into them. */
static void save_at(struct store *store, int64_t session, const uint32_t *ids, size_t position, bool keep)
{
    struct error error;
    struct store_save s = {.count = position, .keep = keep, .session = session, .model = {7}};
    must(store_rows_present(store, s.model, ids, position, &s.first_segment, &error), &error);
    s.ids = malloc(position * sizeof *ids);
    s.rows = calloc(position / STORE_SEGMENT + 1, sizeof *s.rows);
    assert_true(s.ids && s.rows);
    memcpy(s.ids, ids, position * sizeof *ids);
    for (size_t i = s.first_segment; i < position / STORE_SEGMENT; i++) s.rows[s.n_rows++] = some_bytes();
    if (position % STORE_SEGMENT) s.tail = some_bytes();
    s.snapshot = some_bytes();
    must(store_queue_save(store, &s, &error), &error);
    must(store_queue_flush(store, &error), &error);
}

static void read_from(struct store *store, int64_t session, const uint32_t *ids, size_t at, size_t end)
{
    while (at < end) {
        size_t rung = ladder_next(at, end, STORE_SEGMENT), checkpoint = (at / 8192 + 1) * 8192;
        at = rung < checkpoint ? rung : checkpoint;
        save_at(store, session, ids, at, at == end);
    }
}

/* Places evenly and at random between 1 and the end; the tokens from there on to what is stored before. */
static void expect_near(struct store *store, const uint32_t *ids, size_t end)
{
    static const uint8_t key[STORE_KEY] = {7};
    struct error error;
    for (size_t i = 0; i < 60; i++) {
        size_t at = i % 2 ? 1 + random_below(end) : end - random_below(end < 12000 ? end : 12000), position;
        must(store_find_prefix(store, key, ids, at, &position, &error), &error);
        if (at - position > allowed(end - at, STORE_SEGMENT))
            fail_msg("%zu tokens before %zu of %zu are evaluated again", at - position, at, end);
    }
}

static void a_growing_conversation_keeps_what_it_needs(void **state)
{
    (void)state;
    enum { LONG = 60000, TURNS = 60 };
    struct error error;
    struct store_usage usage;
    struct store *store = open_store("grows");
    int64_t session;
    uint32_t *ids = malloc(2 * LONG * sizeof *ids);
    assert_non_null(ids);
    for (size_t i = 0; i < 2 * LONG; i++) ids[i] = (uint32_t)random_below(1000);
    must(store_session_create(store, "s", NULL, 0, &session, &error), &error);
    size_t end = LONG;
    read_from(store, session, ids, 0, end);
    expect_near(store, ids, end);
    for (size_t turn = 0; turn < TURNS; turn++) {
        size_t longer = turn % 20 == 19 ? 8000 + random_below(8000) : 20 + random_below(480);
        if (end + longer > 2 * LONG) longer = 2 * LONG - end;
        read_from(store, session, ids, end, end + longer);
        end += longer;
        expect_near(store, ids, end);
    }
    must(store_usage(store, &usage, &error), &error);
    double ladder = (double)usage.n_snapshots - TURNS - 1;
    print_message("%zu tokens: %.0f snapshots beside %d turns\n", end, ladder, TURNS);
    assert_true(ladder <= 8 * log2((double)end / 512));
    free(ids);
    store_close(&store);
}

/* -------------------------------------------------------------------------------------------------- the worker */

static struct worker *start(struct store *store)
{
    struct worker_params params = kit_params(store);
    params.engine.context = 16384;
    params.engine.batch = BATCH;
    return start_with(&params);
}

static size_t open_and_count(struct worker *w, const char *what, size_t *total)
{
    struct seen seen = {0};
    open_text(w, 0, what, &seen);
    *total = seen.last.total;
    return seen.last.done;
}

static uint64_t read_text(struct worker *w)
{
    struct error error;
    struct seen seen = {0};
    const struct engine_info *info = engine_info(worker_engine(w));
    uint64_t before = info->tokens_evaluated;
    must(worker_read(w, &error), &error);
    wait_for(w, EVENT_READ, &seen);
    return info->tokens_evaluated - before;
}

static size_t first_difference(const struct engine *engine, const char *a, const char *b)
{
    struct token_list ids[2] = {{0}, {0}};
    struct error error;
    for (size_t i = 0; i < 2; i++) {
        struct worker_document d = {.name = "t", .text = i ? b : a, .text_len = strlen(i ? b : a)};
        must(prompt_prefix(engine, NULL, &d, 1, &ids[i], &error), &error);
    }
    size_t same = 0;
    while (same < ids[0].count && same < ids[1].count && ids[0].ids[same] == ids[1].ids[same]) same++;
    for (size_t i = 0; i < 2; i++) token_list_free(&ids[i]);
    return same;
}

/* Every second change is near the end. Opening alone tells what would be evaluated; now and then it is. */
static void change_text_anywhere(struct store *store)
{
    static char changed[TEXT_BYTES + 1];
    struct worker *w = start(store);
    size_t total, changed_total;
    assert_int_equal(open_and_count(w, text, &total), 0);
    assert_int_equal(read_text(w), total);
    for (size_t i = 0; i < CHANGES; i++) {
        size_t at = i % 2 ? random_below(TEXT_BYTES) : TEXT_BYTES - 1 - random_below(TEXT_BYTES / 4);
        memcpy(changed, text, sizeof changed);
        changed[at] = '#';
        size_t same = first_difference(worker_engine(w), text, changed),
               reused = open_and_count(w, changed, &changed_total);
        assert_true(reused <= same);
        if (same - reused > allowed(total - same, ladder_unit(BATCH)))
            fail_msg("%zu tokens before %zu of %zu are evaluated again", same - reused, same, total);
        if (i % 30) continue;
        assert_int_equal(read_text(w), changed_total - reused);
        size_t left = open_and_count(w, text, &total);
        assert_int_equal(read_text(w), total - left);
    }
    worker_stop(&w);
}

static void a_changed_text_is_found_in_the_store(void **state)
{
    (void)state;
    struct store *store = open_store("changed");
    change_text_anywhere(store);
    store_close(&store);
}

static void a_changed_text_is_found_in_the_marks(void **state)
{
    (void)state;
    change_text_anywhere(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rungs_are_as_near_as_they_must_and_as_few_as_they_can),
        cmocka_unit_test(a_growing_conversation_keeps_what_it_needs),
        cmocka_unit_test(a_changed_text_is_found_in_the_store),
        cmocka_unit_test(a_changed_text_is_found_in_the_marks),
    };
    return cmocka_run_group_tests(tests, set_up, remove_folder);
}
