/* SPDX-License-Identifier: MIT
 *
 * Coming back is exact: through engine and store, a conversation that is interrupted, forked and rewound has the same
 * tokens and the same bits in its logits as one that never was. Then a fuzz of random operations against a model that
 * evaluates everything from the start.
 *
 * The conversation has a model with every operation; the fuzz one with few, for it is states that it is about.
 *
 * A turn of the fuzz is one of KINDS texts that begin with different tokens, so the tokens of a session tell its turns;
 * each turn is appended on its own, so they also tell the batches.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include <cmocka.h>

#include "tests/make_model.h"
#include "tests/on_devices.h"
#include "tests/state_kit.h"

enum { BATCH = 48, KINDS = 2, DEPTH = 6, NODES = 1 << (DEPTH + 1), MOST_TURN = 508, MOST = 1024, VOCAB = 512 };
enum { SESSIONS = 4, MARKS = 3, OPERATIONS = 10000, OPERATIONS_LEAST = 300, SECONDS = 25 };

static char folder[64], kernels[64], model[96], small_model[96];

static void must(int rc, const struct error *error)
{
    if (rc) fail_msg("%d: %s", rc, error->text);
}

static void *need(void *p)
{
    if (!p) fail_msg("out of memory");
    return p;
}

/* ------------------------------------------------------------------------------------------------- scaffolding */

static struct engine *open_engine(const char *path)
{
    struct error error;
    struct engine *e;
    const struct engine_params params = {
        .model = path, .device = test_device, .context = MOST, .batch = BATCH, .threads = 1, .cache_dir = kernels};
    must(engine_open(&e, &params, &error), &error);
    assert_int_equal(engine_info(e)->n_vocab, VOCAB);
    return e;
}

static struct store *open_store(const char *name)
{
    char path[96];
    struct store *store;
    struct error error;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    must(store_open(&store, path, &error), &error);
    return store;
}

static int64_t new_session(struct store *store)
{
    struct error error;
    int64_t id;
    must(store_session_create(store, "s", NULL, 0, &id, &error), &error);
    return id;
}

static struct timeline *new_timeline(struct engine *e)
{
    struct error error;
    struct timeline *t;
    must(timeline_create(&t, e, &error), &error);
    return t;
}

static void append(struct timeline *t, const uint32_t *ids, size_t n)
{
    struct error error;
    must(timeline_append(t, ids, n, NULL, NULL, &error), &error);
}

static int set_up(void **state)
{
    (void)state;
    struct error error;
    strcpy(folder, "/tmp/lectern-exact-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(model, sizeof model, "%s/tiny.gguf", folder);
    snprintf(small_model, sizeof small_model, "%s/small.gguf", folder);
    int rc = test_model_write(model, &(struct test_model){.seed = 5}, &error);
    return rc ? rc : test_model_write(small_model, &(struct test_model){.preset = "mla-first", .seed = 5}, &error);
}

static int tear_down(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

/* -------------------------------------------------------------------------------------------- a conversation */

enum { TURNS = 6, QUESTION = 97, ANSWER = 5, TALK = TURNS * (QUESTION + ANSWER) };

struct talk {
    uint32_t ids[TALK];
    float logits[TURNS][VOCAB];
};

/* Turn i: a question, then ANSWER greedy tokens one at a time. */
static void speak(struct timeline *t, size_t i, struct talk *out)
{
    struct error error;
    struct sampler *greedy;
    uint32_t question[QUESTION];
    for (size_t k = 0; k < QUESTION; k++) question[k] = (uint32_t)(k * k * 7 + i * 101 + k) % VOCAB;
    append(t, question, QUESTION);
    must(sampler_create(&greedy, &(struct sample_params){.top_p = 1}, VOCAB, &error), &error);
    for (size_t k = 0; k < ANSWER; k++) append(t, &(uint32_t){sampler_next(greedy, timeline_logits(t))}, 1);
    sampler_destroy(&greedy);
    memcpy(out->ids, timeline_tokens(t), timeline_length(t) * sizeof *out->ids);
    memcpy(out->logits[i], timeline_logits(t), sizeof out->logits[i]);
}

static void talk_whole(struct talk *out)
{
    struct engine *e = open_engine(model);
    struct timeline *t = new_timeline(e);
    for (size_t i = 0; i < TURNS; i++) speak(t, i, out);
    timeline_destroy(&t);
    engine_close(&e);
}

/* Turns [from, TURNS), each in an engine and a store opened anew. */
static void talk_interrupted(const char *name, int64_t session, size_t from, struct talk *out)
{
    struct error error;
    for (size_t i = from; i < TURNS; i++) {
        struct kit k = {.store = open_store(name), .engine = open_engine(model), .session = session};
        struct timeline *t = NULL;
        size_t before = i * (QUESTION + ANSWER);
        if (i) must(kit_load(&k, out->ids, before, &t, &error), &error);
        if (!t) t = new_timeline(k.engine);
        assert_int_equal(timeline_length(t), before);
        speak(t, i, out);
        struct store_turn turn = {.role = STORE_USER, .text = "t", .text_len = 1};
        must(kit_save(&k, t, &turn, &error), &error);
        timeline_destroy(&t);
        store_close(&k.store);
        engine_close(&k.engine);
    }
}

static void expect_talk(const struct talk *a, const struct talk *b)
{
    assert_memory_equal(a->ids, b->ids, sizeof a->ids);
    for (size_t i = 0; i < TURNS; i++) assert_memory_equal(a->logits[i], b->logits[i], sizeof a->logits[i]);
}

static void a_conversation_goes_on_as_if_never_left(void **state)
{
    (void)state;
    struct error error;
    struct talk *whole = need(calloc(1, sizeof *whole)), *again = need(calloc(1, sizeof *again));
    talk_whole(whole);
    struct store *store = open_store("talk");
    int64_t session = new_session(store), branch;
    store_close(&store);
    talk_interrupted("talk", session, 0, again);
    expect_talk(whole, again);
    store = open_store("talk");
    must(store_session_fork(store, session, 2, NULL, &branch, &error), &error);
    must(store_session_truncate(store, session, TURNS - 2, &error), &error);
    store_close(&store);
    for (int i = 0; i < 2; i++) {
        memset(again->logits + (i ? TURNS - 2 : 2), 0, sizeof again->logits[0]);
        talk_interrupted("talk", i ? session : branch, i ? TURNS - 2 : 2, again);
        expect_talk(whole, again);
    }
    free(whole);
    free(again);
}

/* ------------------------------------------------------------------------------------------------- the paths */

/* A session's turns as bits below a leading one: 1 is empty, 2n + kind has that turn more. */
static size_t path_depth(uint32_t path)
{
    size_t depth = 0;
    while (path >>= 1) depth++;
    return depth;
}

static uint32_t path_cut(uint32_t path, size_t depth)
{
    return path >> (path_depth(path) - depth);
}

/* The first turn is a document that ends near a row segment's end, or a short one. */
static size_t turn_ids(uint32_t path, uint32_t ids[MOST_TURN])
{
    static const size_t lengths[2][KINDS] = {{5, 11}, {MOST_TURN, 40}};
    uint32_t kind = path & 1;
    size_t n = lengths[path_depth(path) == 1][kind];
    for (size_t i = 0; i < n; i++) ids[i] = (uint32_t)(i * i * 13 + i * 3 + kind) % VOCAB;
    return n;
}

static size_t path_ids(uint32_t path, uint32_t ids[MOST])
{
    size_t n = 0;
    for (size_t d = 1; d <= path_depth(path); d++) n += turn_ids(path_cut(path, d), ids + n);
    return n;
}

/* --------------------------------------------------------------------------------------- always from the start */

struct oracle {
    struct engine *engine;
    float *logits[NODES];
};

/* One evaluation from empty, along the path and on to its full depth, gives the logits of all turns on the way. */
static const float *oracle_logits(struct oracle *o, uint32_t path)
{
    if (o->logits[path]) return o->logits[path];
    struct timeline *t = new_timeline(o->engine);
    uint32_t ids[MOST_TURN];
    uint32_t leaf = path << (DEPTH - path_depth(path));
    for (size_t d = 1; d <= DEPTH; d++) {
        uint32_t at = path_cut(leaf, d);
        append(t, ids, turn_ids(at, ids));
        if (!o->logits[at]) o->logits[at] = need(malloc(VOCAB * sizeof(float)));
        memcpy(o->logits[at], timeline_logits(t), VOCAB * sizeof(float));
    }
    timeline_destroy(&t);
    return o->logits[path];
}

/* --------------------------------------------------------------------------------------------------- the fuzz */

struct fuzz {
    struct oracle oracle;
    struct kit kit;
    struct timeline *timeline; /* NULL: nothing in memory */
    uint32_t at;               /* the path it stands at */
    int64_t sessions[SESSIONS];
    uint32_t paths[SESSIONS];
    char dir[16];
    uint64_t random;
    size_t restored, rewound, evaluated; /* how often it stood somewhere by what means */
};

static uint32_t fuzz_random(struct fuzz *f, uint32_t n)
{
    f->random = f->random * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((f->random >> 33) % n);
}

static void fuzz_forget(struct fuzz *f)
{
    timeline_destroy(&f->timeline);
}

static bool is_under(uint32_t path, uint32_t root)
{
    return path_depth(path) >= path_depth(root) && path_cut(path, path_depth(root)) == root;
}

/* Goes back to a mark on the way to path, where there is one: marks are set at the ends of turns only. */
static bool fuzz_go_back(struct fuzz *f, uint32_t path)
{
    struct error error;
    uint32_t ids[MOST];
    size_t n = path_ids(path, ids), reused;
    size_t kept = f->timeline ? timeline_reusable(f->timeline, ids, n) : 0;
    if (!kept) return false;
    for (f->at = path; path_ids(f->at, ids) > kept;) f->at = path_cut(f->at, path_depth(f->at) - 1);
    must(timeline_sync(f->timeline, ids, kept, NULL, &reused, &error), &error);
    assert_int_equal(reused, kept);
    assert_int_equal(path_ids(f->at, ids), kept);
    f->rewound++;
    return true;
}

static void fuzz_restore(struct fuzz *f, uint32_t path)
{
    struct error error;
    uint32_t ids[MOST];
    size_t n = path_ids(path, ids);
    fuzz_forget(f);
    must(store_queue_flush(f->kit.store, &error), &error);
    must(kit_load(&f->kit, ids, n, &f->timeline, &error), &error);
    f->restored += f->timeline != NULL;
    if (!f->timeline) f->timeline = new_timeline(f->kit.engine);
    for (size_t d = 0; d <= path_depth(path); d++) {
        f->at = path_cut(path, d);
        if (path_ids(f->at, ids) == timeline_length(f->timeline)) return;
    }
    fail_msg("The store stands between two turns.");
}

/* Stands at a path: by staying, by a mark, from the store; evaluates what is missing turn by turn. */
static void fuzz_stand(struct fuzz *f, uint32_t path)
{
    struct error error;
    uint32_t ids[MOST_TURN];
    bool stays = f->timeline && f->at != 1 && is_under(path, f->at);
    if (!stays && !(fuzz_random(f, 2) && fuzz_go_back(f, path))) fuzz_restore(f, path);
    while (f->at != path) {
        f->at = path_cut(path, path_depth(f->at) + 1);
        append(f->timeline, ids, turn_ids(f->at, ids));
        f->evaluated++;
    }
    if (f->at == 1) return;
    assert_memory_equal(timeline_logits(f->timeline), oracle_logits(&f->oracle, path), VOCAB * sizeof(float));
    must(timeline_mark(f->timeline, MARKS, &error), &error);
}

/* The turns in the store are the session's. */
static void fuzz_check_turns(struct fuzz *f, size_t i)
{
    struct error error;
    struct store_turn_list turns;
    must(store_queue_flush(f->kit.store, &error), &error);
    must(store_turns(f->kit.store, f->sessions[i], &turns, &error), &error);
    assert_int_equal(turns.count, path_depth(f->paths[i]));
    for (size_t d = 0; d < turns.count; d++) {
        uint32_t ids[MOST_TURN];
        size_t n = turn_ids(path_cut(f->paths[i], d + 1), ids);
        assert_int_equal(turns.items[d].n_ids, n);
        assert_memory_equal(turns.items[d].ids, ids, n * sizeof *ids);
    }
    store_turn_list_free(&turns);
}

/* -------------------------------------------------------------------------------------------------- operations */

static void fuzz_cut(struct fuzz *f, size_t i, size_t depth)
{
    struct error error;
    f->paths[i] = path_cut(f->paths[i], depth);
    must(store_queue_flush(f->kit.store, &error), &error);
    must(store_session_truncate(f->kit.store, f->sessions[i], depth, &error), &error);
}

static void do_append(struct fuzz *f, size_t i)
{
    struct error error;
    if (path_depth(f->paths[i]) == DEPTH) fuzz_cut(f, i, fuzz_random(f, DEPTH));
    uint32_t path = f->paths[i] * 2 + fuzz_random(f, KINDS), ids[MOST_TURN];
    /* A document may be there already, read by another session. */
    if (path_depth(path) > 1)
        fuzz_stand(f, f->paths[i]);
    else
        fuzz_forget(f);
    fuzz_stand(f, path);
    f->paths[i] = path;
    struct store_turn turn = {.role = STORE_USER, .text = "t", .text_len = 1, .ids = ids};
    turn.n_ids = turn_ids(path, ids);
    f->kit.session = f->sessions[i];
    must(kit_save(&f->kit, f->timeline, &turn, &error), &error);
}

static void do_rewind(struct fuzz *f, size_t i)
{
    fuzz_cut(f, i, fuzz_random(f, (uint32_t)path_depth(f->paths[i]) + 1));
    fuzz_stand(f, f->paths[i]);
}

/* Over another session, which goes. */
static void do_fork(struct fuzz *f, size_t i)
{
    struct error error;
    size_t other = (i + 1 + fuzz_random(f, SESSIONS - 1)) % SESSIONS, depth;
    depth = fuzz_random(f, (uint32_t)path_depth(f->paths[i]) + 1);
    must(store_queue_flush(f->kit.store, &error), &error);
    must(store_session_remove(f->kit.store, f->sessions[other], &error), &error);
    must(store_session_fork(f->kit.store, f->sessions[i], depth, NULL, &f->sessions[other], &error), &error);
    f->paths[other] = path_cut(f->paths[i], depth);
    fuzz_stand(f, f->paths[other]);
}

static void do_evict(struct fuzz *f, size_t i)
{
    struct error error;
    struct store_usage usage;
    uint64_t freed;
    size_t lost;
    must(store_queue_flush(f->kit.store, &error), &error);
    must(store_usage(f->kit.store, &usage, &error), &error);
    uint64_t most = (usage.rows_bytes + usage.snapshot_bytes) / 8 * fuzz_random(f, 8);
    must(store_evict(f->kit.store, most, &freed, &lost, &error), &error);
    must(store_usage(f->kit.store, &usage, &error), &error);
    assert_true(usage.rows_bytes + usage.snapshot_bytes <= most);
    fuzz_forget(f);
    fuzz_stand(f, f->paths[i]);
}

static void do_reopen(struct fuzz *f, size_t i)
{
    fuzz_forget(f);
    store_close(&f->kit.store);
    f->kit.store = open_store(f->dir);
    fuzz_check_turns(f, i);
    fuzz_stand(f, f->paths[i]);
}

/* What kill -9 leaves: the files as they lie there, log and all, without a closing. */
static void do_kill(struct fuzz *f, size_t i)
{
    struct error error;
    char command[400], next[16];
    fuzz_forget(f);
    must(store_queue_flush(f->kit.store, &error), &error);
    snprintf(next, sizeof next, "%s", strcmp(f->dir, "a") ? "a" : "b");
    snprintf(command, sizeof command, "mkdir -m 700 %s/%s && cp %s/%s/lectern.db %s/%s/lectern.db-wal %s/%s/", folder,
             next, folder, f->dir, folder, f->dir, folder, next);
    assert_int_equal(system(command), 0);
    store_close(&f->kit.store);
    snprintf(command, sizeof command, "rm -rf %s/%s", folder, f->dir);
    assert_int_equal(system(command), 0);
    strcpy(f->dir, next);
    f->kit.store = open_store(f->dir);
    fuzz_check_turns(f, i);
    fuzz_stand(f, f->paths[i]);
}

static void fuzz_step(struct fuzz *f)
{
    static const struct {
        uint32_t weight;
        void (*run)(struct fuzz *, size_t);
    } operations[] = {{52, do_append}, {20, do_rewind}, {15, do_fork}, {1, do_evict}, {10, do_reopen}, {2, do_kill}};
    uint32_t chosen = fuzz_random(f, 100);
    size_t i = 0;
    while (chosen >= operations[i].weight) chosen -= operations[i++].weight;
    operations[i].run(f, fuzz_random(f, SESSIONS));
}

/* All of them on the cpu; elsewhere as many as there is time for: a software device is a hundred times slower. */
static bool fuzz_goes_on(int done, time_t began)
{
    if (done < OPERATIONS_LEAST || on_cpu()) return done < OPERATIONS;
    return done < OPERATIONS && time(NULL) - began < SECONDS;
}

static void ten_thousand_operations_make_no_difference(void **state)
{
    (void)state;
    time_t began = time(NULL);
    struct fuzz *f = need(calloc(1, sizeof *f));
    f->random = 20261124;
    f->kit.engine = open_engine(small_model);
    f->oracle.engine = open_engine(small_model);
    strcpy(f->dir, "a");
    f->kit.store = open_store(f->dir);
    for (size_t i = 0; i < SESSIONS; i++) {
        f->sessions[i] = new_session(f->kit.store);
        f->paths[i] = 1;
    }
    int operations = 0;
    for (; fuzz_goes_on(operations, began); operations++) fuzz_step(f);
    for (size_t i = 0; i < SESSIONS; i++) fuzz_check_turns(f, i);
    printf("%d operations: %zu restored, %zu back to a mark, %zu turns evaluated\n", operations, f->restored,
           f->rewound, f->evaluated);
    assert_true(f->restored > 0 && f->rewound > 0);
    fuzz_forget(f);
    store_close(&f->kit.store);
    for (size_t i = 0; i < NODES; i++) free(f->oracle.logits[i]);
    engine_close(&f->oracle.engine);
    engine_close(&f->kit.engine);
    free(f);
}

static int run_all(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_conversation_goes_on_as_if_never_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ten_thousand_operations_make_no_difference, set_up, tear_down),
    };
    return cmocka_run_group_tests_name(test_device, tests, NULL, NULL);
}

int main(void)
{
    char command[96];
    strcpy(kernels, "/tmp/lectern-kernels-XXXXXX");
    if (!mkdtemp(kernels)) return 1;
    int failed = for_each_device(run_all);
    snprintf(command, sizeof command, "rm -rf %s", kernels);
    return failed || system(command);
}
