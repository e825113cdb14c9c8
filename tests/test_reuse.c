/* SPDX-License-Identifier: MIT
 *
 * What is not evaluated again, counted by the engine: another question, an edited one, a fork, a document more, a
 * change in the middle, the same text in another session. Then sessions between two models, and checkpoints by the
 * clock.
 */
#include <pthread.h>
#include <sqlite3.h>

#include "app/prompt.h"
#include "app/worker_internal.h"
#include "engine/engine_internal.h"
#include "tests/worker_kit.h"

static char text[3001], brief[601], other_model[96]; /* brief: its beginning */

static int set_up(void **state)
{
    (void)state;
    struct error error;
    for (size_t i = 0, n = 0; n < 2900; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "Line %zu of %zu is here.\n", i, i * i % 97);
    memcpy(brief, text, sizeof brief - 1);
    if (make_folder()) return -1;
    snprintf(other_model, sizeof other_model, "%s/odd.gguf", folder);
    return test_model_write(other_model, &(struct test_model){.preset = "odd", .seed = 4}, &error);
}

static struct worker *start(struct store *store)
{
    struct worker_params params = kit_params(store);
    return start_with(&params);
}

/* ------------------------------------------------------------------------------------------------- counting */

static uint64_t evaluated(const struct worker *w)
{
    const struct engine *engine = worker_engine(w);
    return engine ? engine_info(engine)->tokens_evaluated : 0; /* NULL: still loading */
}

/* A question's tokens, all its frame included. */
static size_t question_tokens(struct worker *w, const char *question, bool is_first)
{
    struct token_list ids = {0};
    struct error error;
    must(prompt_question(worker_engine(w), question, strlen(question), is_first ? PROMPT_ON_DOCUMENTS : PROMPT_LATER,
                         &ids, &error),
         &error);
    size_t count = ids.count;
    token_list_free(&ids);
    return count;
}

static struct token_list prefix_of(struct worker *w, const struct worker_document *documents, size_t count)
{
    struct token_list ids = {0};
    struct error error;
    must(prompt_prefix(worker_engine(w), NULL, documents, count, &ids, &error), &error);
    return ids;
}

/* Asks and sees to it that nothing but the question, its answer and the answer's end is evaluated beside `more`. */
static void ask_counted(struct worker *w, const char *question, bool is_first, size_t more)
{
    struct seen seen;
    uint64_t before = evaluated(w);
    ask(w, question, &seen);
    size_t answer = seen.last.stats.answer_tokens;
    assert_int_equal(seen.last.stats.prompt_tokens - seen.last.stats.reused_tokens,
                     more + question_tokens(w, question, is_first));
    wait_for(w, EVENT_SAVED, &seen);
    assert_int_equal(evaluated(w) - before, more + question_tokens(w, question, is_first) + answer + 1);
}

static void rewind_to(struct worker *w, size_t turns)
{
    struct error error;
    must(worker_rewind(w, turns, &error), &error);
}

static void open_whole(struct worker *w, int64_t session)
{
    struct seen seen = {0};
    open_text(w, session, text, &seen);
    assert_int_equal(seen.last.done, seen.last.total);
    assert_true(seen.last.total > 1500);
}

static void only_what_is_new_is_evaluated(void **state)
{
    (void)state;
    struct store *store = open_store("new");
    int64_t session = make_session(store, text), fork;
    struct seen seen = {0};
    struct error error;
    struct worker *w = start(store);
    open_text(w, session, text, &seen);
    ask_counted(w, "First?", true, seen.last.total);
    rewind_to(w, 0); /* another question, by a mark */
    ask_counted(w, "Another?", true, 0);
    ask_counted(w, "Second?", false, 0);
    ask_counted(w, "Third?", false, 0);
    rewind_to(w, 2); /* the old one edited */
    ask_counted(w, "Second, edited?", false, 0);
    worker_stop(&w);
    w = start(store); /* the same through the store */
    open_whole(w, session);
    assert_int_equal(evaluated(w), 0);
    rewind_to(w, 2);
    ask_counted(w, "Second, edited again?", false, 0);
    worker_stop(&w);
    must(store_session_fork(store, session, 2, NULL, &fork, &error), &error);
    w = start(store);
    open_whole(w, fork);
    ask_counted(w, "Second, forked?", false, 0);
    open_whole(w, make_session(store, text)); /* the same text, another session */
    ask_counted(w, "First, elsewhere?", true, 0);
    worker_stop(&w);
    store_close(&store);
}

/* Opens and reads documents with no session; the tokens found stored, those evaluated and all. */
struct taken {
    size_t reused, read, total;
};

static struct taken take(struct worker *w, const struct worker_document *documents, size_t count)
{
    struct seen seen = {0};
    struct error error;
    uint64_t before = evaluated(w);
    must(worker_open(w, 0, documents, count, &error), &error);
    wait_for(w, EVENT_RESUMED, &seen);
    struct taken t = {.reused = seen.last.done, .total = seen.last.total};
    must(worker_read(w, &error), &error);
    wait_for(w, EVENT_SAVED, &seen);
    t.read = evaluated(w) - before;
    assert_int_equal(t.read, t.total - t.reused);
    return t;
}

static struct worker_document as_document(const char *name, const char *what)
{
    return (struct worker_document){.name = name, .text = what, .text_len = strlen(what)};
}

static void a_document_more_costs_itself(void **state)
{
    (void)state;
    struct store *store = open_store("more");
    struct worker_document d[] = {as_document("a.txt", text), as_document("b.txt", "Another text."),
                                  as_document("c.txt", "A third.")};
    for (size_t n = 1; n <= 3; n++) {
        struct worker *w = start(store);
        struct taken t = take(w, d, n);
        struct token_list before = prefix_of(w, d, n - 1), now = prefix_of(w, d, n);
        assert_int_equal(t.total, now.count);
        assert_int_equal(t.reused, n > 1 ? before.count : 0);
        assert_memory_equal(before.ids, now.ids, before.count * sizeof *now.ids);
        token_list_free(&before);
        token_list_free(&now);
        worker_stop(&w);
    }
    store_close(&store);
}

static void a_change_costs_what_stands_behind_it(void **state)
{
    (void)state;
    enum { UNIT = 512 };
    static char changed[sizeof text];
    struct store *store = open_store("middle");
    struct worker *w = start(store);
    memcpy(changed, text, sizeof text);
    changed[strlen(text) * 2 / 3] = '#';
    struct worker_document d = as_document("a.txt", text), other = as_document("a.txt", changed);
    struct taken whole = take(w, &d, 1);
    assert_int_equal(whole.reused, 0);
    worker_stop(&w);
    w = start(store);
    struct taken t = take(w, &other, 1);
    struct token_list a = prefix_of(w, &d, 1), b = prefix_of(w, &other, 1);
    size_t same = 0;
    while (a.ids[same] == b.ids[same]) same++;
    assert_true(t.reused <= same && t.reused + UNIT > same && t.reused >= UNIT);
    token_list_free(&a);
    token_list_free(&b);
    /* Both lie there now: neither is read again. */
    assert_int_equal(take(w, &d, 1).read, 0);
    assert_int_equal(take(w, &other, 1).read, 0);
    worker_stop(&w);
    store_close(&store);
}

/* --------------------------------------------------------------------------------------------------- models */

/* Opens with this model and says what it told. */
static struct worker *open_with(struct store *store, int64_t session, const char *path, enum engine_dtype rows,
                                struct seen *seen)
{
    struct worker_params params = kit_params(store);
    params.engine.model = path;
    params.engine.rows_dtype = rows;
    struct worker *w = start_with(&params);
    *seen = (struct seen){0};
    open_text(w, session, brief, seen);
    return w;
}

static void another_model_is_told_from_other_types(void **state)
{
    (void)state;
    char file[96];
    struct error error;
    struct seen seen;
    struct store *store = open_store("types");
    int64_t session = make_session(store, brief);
    snprintf(file, sizeof file, "%s/again.gguf", folder);
    must(test_model_write(file, &(struct test_model){.seed = 9}, &error), &error);
    const struct {
        const char *path;
        enum engine_dtype rows;
        const char *says;
    } cases[] = {
        {model, ENGINE_F16, NULL},
        {model, ENGINE_F16, NULL},
        {model, ENGINE_Q8_0, "other types of state (--state-dtype f32 --kv-dtype f16)"},
        {file, ENGINE_Q8_0, "another file of tiny"},
        {other_model, ENGINE_F16, "with tiny:"},
        {model, ENGINE_F16, "with odd: "},
        {model, ENGINE_F16, NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct worker *w = open_with(store, session, cases[i].path, cases[i].rows, &seen);
        if (cases[i].says && !strstr(seen.note, cases[i].says)) fail_msg("%zu: \"%s\"", i, seen.note);
        assert_int_equal(seen.kinds[EVENT_NOTE], cases[i].says != NULL);
        ask(w, "And?", &seen);
        wait_for(w, EVENT_SAVED, &seen);
        worker_stop(&w);
    }
    store_close(&store);
}

/* The prompt as it must be for the first model: the turns it made by its tokens, the other's by its words. */
static size_t expected_prompt(struct worker *w, const struct store_turn_list *turns, size_t own, size_t *known)
{
    struct worker_document d = as_document("t", brief);
    struct token_list ids = prefix_of(w, &d, 1);
    struct error error;
    for (size_t i = 0; i < turns->count; i++) {
        const struct store_turn *t = &turns->items[i];
        if (i < own)
            must(token_list_append(&ids, t->ids, t->n_ids, &error), &error);
        else if (t->role == STORE_USER)
            must(prompt_question(worker_engine(w), t->text, t->text_len, PROMPT_LATER, &ids, &error), &error);
        else
            must(prompt_answer(worker_engine(w), t->text, t->text_len, &ids, &error), &error);
        if (i + 1 == own) *known = ids.count;
    }
    size_t count = ids.count;
    token_list_free(&ids);
    return count;
}

static void a_session_comes_back_from_another_model(void **state)
{
    (void)state;
    struct error error;
    struct seen seen;
    struct store_turn_list turns;
    struct store *store = open_store("moved");
    int64_t session = make_session(store, brief);
    struct worker *w = open_with(store, session, model, ENGINE_F16, &seen);
    ask(w, "What is on line 5?", &seen);
    wait_for(w, EVENT_SAVED, &seen);
    worker_stop(&w);
    w = open_with(store, session, other_model, ENGINE_F16, &seen);
    ask(w, "And on line 6?", &seen);
    wait_for(w, EVENT_SAVED, &seen);
    worker_stop(&w);
    w = open_with(store, session, model, ENGINE_F16, &seen);
    must(store_turns(store, session, &turns, &error), &error);
    assert_int_equal(turns.count, 4);
    size_t known = 0, all = expected_prompt(w, &turns, 2, &known);
    assert_int_equal(seen.last.total, all);
    assert_int_equal(seen.last.done, known); /* what it had read itself is still its own */
    assert_true(turns.items[3].n_ids && known < all);
    store_turn_list_free(&turns);
    worker_stop(&w);
    store_close(&store);
}

/* --------------------------------------------------------------------------------------------------- memory */

/* A device with room for one thing more: rows or marks. */
enum { MOST_MARKS = 64 };
static const struct backend_ops *working;
static struct backend_ops narrow;
static uint64_t marks[MOST_MARKS];
static size_t n_marks, refusals;

static int narrow_alloc(struct backend *b, size_t bytes, const char *label, uint64_t *addr, struct error *error)
{
    *addr = 0;
    if (!strcmp(label, "MLA rows") && n_marks) {
        refusals++;
        return error_set(error, ERROR_FIT, "There is no memory for %s.", label);
    }
    int rc = working->alloc(b, bytes, label, addr, error);
    if (!rc && !strcmp(label, "KDA state") && n_marks < MOST_MARKS) marks[n_marks++] = *addr;
    return rc;
}

static void narrow_release(struct backend *b, uint64_t addr)
{
    for (size_t i = 0; i < n_marks; i++)
        if (marks[i] == addr) marks[i--] = marks[--n_marks];
    working->release(b, addr);
}

/* Reads the text and asks; what the second question is answered. */
static void read_and_ask(bool is_narrow, char answer[ANSWER_MOST])
{
    struct seen seen = {0};
    struct worker *w = start(NULL);
    open_text(w, 0, text, &seen); /* idle until the next job: its engine may be changed */
    struct engine *engine = (struct engine *)(uintptr_t)worker_engine(w);
    working = engine->backend->ops;
    narrow = *working;
    narrow.alloc = narrow_alloc;
    narrow.release = narrow_release;
    if (is_narrow) engine->backend->ops = &narrow;
    ask(w, "What is on line 5? And on the lines that follow, as far as they go, one after the other?", &seen);
    ask(w, "And then?", &seen);
    strcpy(answer, seen.text);
    worker_stop(&w);
}

static void marks_make_room_for_rows(void **state)
{
    (void)state;
    char answer[ANSWER_MOST], expected[ANSWER_MOST];
    read_and_ask(false, expected);
    assert_int_equal(refusals, 0);
    read_and_ask(true, answer);
    assert_true(refusals > 1);
    assert_string_equal(answer, expected);
    assert_int_equal(n_marks, 0);
}

/* ---------------------------------------------------------------------------------------------------- clock */

static pthread_t test_thread;

/* Five seconds pass at each look of the reading thread, ten in a batch. */
static double running_clock(void)
{
    static double now;
    return pthread_equal(pthread_self(), test_thread) ? 0 : (now += 5);
}

static int64_t number(const char *store, const char *sql)
{
    char path[160];
    sqlite3 *db = NULL;
    sqlite3_stmt *stmt = NULL;
    snprintf(path, sizeof path, "%s/%s/lectern.db", folder, store);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_prepare_v2(db, sql, -1, &stmt, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_step(stmt), SQLITE_ROW);
    int64_t value = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    sqlite3_close(db);
    return value;
}

/* Checkpoints that stand on no rung: what the minute brought. */
static void a_slow_reading_is_kept_every_minute(void **state)
{
    (void)state;
    static const char off_rungs[] = "SELECT count(*) FROM snapshot WHERE position % 512 <> 0 AND NOT keep";
    static const char gap[] = "SELECT max(position - coalesce((SELECT max(position) FROM snapshot p"
                              " WHERE p.position < s.position), 0)) FROM snapshot s";
    struct worker_document d = as_document("a.txt", text);
    test_thread = pthread_self();
    for (int is_slow = 0; is_slow < 2; is_slow++) {
        const char *name = is_slow ? "slow" : "quick";
        struct store *store = open_store(name);
        worker_clock_told = is_slow ? running_clock : NULL;
        struct worker *w = start(store);
        take(w, &d, 1);
        worker_stop(&w);
        worker_clock_told = NULL;
        store_close(&store);
        assert_int_equal(number(name, off_rungs) > 0, is_slow);
        if (is_slow) assert_true(number(name, gap) <= 6 * 64);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_what_is_new_is_evaluated),
        cmocka_unit_test(a_document_more_costs_itself),
        cmocka_unit_test(a_change_costs_what_stands_behind_it),
        cmocka_unit_test(another_model_is_told_from_other_types),
        cmocka_unit_test(a_session_comes_back_from_another_model),
        cmocka_unit_test(marks_make_room_for_rows),
        cmocka_unit_test(a_slow_reading_is_kept_every_minute),
    };
    return cmocka_run_group_tests(tests, set_up, remove_folder);
}
