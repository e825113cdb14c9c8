/* SPDX-License-Identifier: MIT
 *
 * The store from outside: documents, sessions and their turns, forks and rewinds; and that its files are private.
 */
#include "tests/store_steps.h"

#include <sys/stat.h>

/* ------------------------------------------------------------------------------------------------ documents */

static void test_files_are_private(void **state)
{
    (void)state;
    struct store *store = fresh("private/deeper");
    const char *const names[] = {"", "/lectern.db", "/lectern.db-wal", "/lectern.db-shm", "/lectern.lock"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[PATH_MAX + 32];
        struct stat st;
        snprintf(path, sizeof path, "%s%s", dir, names[i]);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, i ? 0600 : 0700);
    }
    store_close(&store);
    assert_null(store);
}

static void test_documents(void **state)
{
    (void)state;
    struct store *store = fresh("documents");
    struct store_document d = {.path = "/books/moby.txt",
                               .title = "Moby-Dick",
                               .text = "Call me Ishmael.",
                               .text_len = 16,
                               .places = "\0\1",
                               .places_len = 2,
                               .mtime = 123,
                               .size = 16},
                          got;
    int64_t a, b, c;
    kit_ok(store_document_put(store, &d, &a, error));
    kit_ok(store_document_put(store, &d, &b, error));
    assert_int_equal(a, b);
    d.path = "/moved/moby.txt";
    d.places = NULL;
    d.places_len = 0;
    kit_ok(store_document_put(store, &d, &b, error));
    assert_int_equal(a, b);
    reopen(&store);
    kit_ok(store_document_get(store, a, &got, error));
    assert_string_equal(got.path, "/moved/moby.txt");
    assert_string_equal(got.title, "Moby-Dick");
    assert_int_equal(got.text_len, 16);
    assert_memory_equal(got.text, "Call me Ishmael.", 17);
    assert_null(got.places);
    assert_int_equal(got.mtime, 123);
    store_document_free(&got);
    d = (struct store_document){.text = "", .text_len = 0};
    kit_ok(store_document_put(store, &d, &c, error));
    kit_ok(store_document_get(store, c, &got, error));
    assert_int_equal(got.text_len, 0);
    assert_string_equal(got.text, "");
    assert_null(got.title);
    store_document_free(&got);
    kit_fails(store_document_get(store, 99, &got, error), ERROR_USAGE, "no document 99");
    no_faults(store);
    store_close(&store);
}

/* ------------------------------------------------------------------------------------------------- sessions */

static int64_t put_text(struct store *store, const char *text)
{
    int64_t id;
    struct store_document d = {.text = (char *)text, .text_len = strlen(text)};
    kit_ok(store_document_put(store, &d, &id, error));
    return id;
}

static void hash_of(struct store *store, int64_t id, uint8_t out[32])
{
    struct store_document d;
    kit_ok(store_document_get(store, id, &d, error));
    memcpy(out, d.hash, 32);
    store_document_free(&d);
}

static void test_sessions(void **state)
{
    (void)state;
    struct store *store = fresh("sessions");
    int64_t docs[2] = {put_text(store, "one"), put_text(store, "two")}, s, t, none, found, *ids;
    size_t count;
    kit_ok(store_session_create(store, "first", docs, 2, &s, error));
    kit_ok(store_session_create(store, "second", docs, 1, &t, error));
    none = session_make(store, "empty");
    kit_ok(store_session_documents(store, s, &ids, &count, error));
    assert_int_equal(count, 2);
    assert_memory_equal(ids, docs, sizeof docs);
    free(ids);
    uint8_t hashes[2][32], swapped[2][32];
    hash_of(store, docs[0], hashes[0]);
    hash_of(store, docs[1], hashes[1]);
    memcpy(swapped[0], hashes[1], 32);
    memcpy(swapped[1], hashes[0], 32);
    kit_ok(store_session_find(store, (const uint8_t(*)[32])hashes, 2, &found, error));
    assert_int_equal(found, s);
    kit_ok(store_session_find(store, (const uint8_t(*)[32])hashes, 1, &found, error));
    assert_int_equal(found, t);
    kit_ok(store_session_find(store, (const uint8_t(*)[32])swapped, 2, &found, error));
    assert_int_equal(found, 0);
    kit_ok(store_session_find(store, NULL, 0, &found, error));
    assert_int_equal(found, none);
    kit_ok(store_session_add_document(store, t, docs[1], error));
    kit_ok(store_session_rename(store, t, "renamed", error));
    kit_ok(store_session_find(store, (const uint8_t(*)[32])hashes, 2, &found, error));
    assert_int_equal(found, t); /* as lately used as s, and newer */
    struct store_session_list list;
    kit_ok(store_session_list(store, &list, error));
    assert_int_equal(list.count, 3);
    assert_string_equal(list.items[1].name, "renamed");
    assert_int_equal(list.items[1].n_documents, 2);
    store_session_list_free(&list);
    kit_fails(store_session_rename(store, 77, "x", error), ERROR_USAGE, "no session 77");
    kit_fails(store_session_add_document(store, t, 77, error), ERROR_USAGE, "no document 77");
    kit_fails(store_session_remove(store, 77, error), ERROR_USAGE, "no session 77");
    kit_fails(store_session_fork(store, 77, 0, NULL, &found, error), ERROR_USAGE, "no session 77");
    kit_fails(store_session_create(store, "bad", (int64_t[]){docs[0], 55}, 2, &found, error), ERROR_USAGE,
              "document 55");
    kit_ok(store_session_list(store, &list, error));
    assert_int_equal(list.count, 3); /* "bad" left nothing */
    store_session_list_free(&list);
    kit_ok(store_session_remove(store, s, error));
    kit_ok(store_session_remove(store, t, error));
    struct store_usage usage;
    kit_ok(store_usage(store, &usage, error));
    assert_int_equal(usage.n_documents, 0);
    assert_int_equal(usage.n_sessions, 1);
    no_faults(store);
    store_close(&store);
}

static void test_turns(void **state)
{
    (void)state;
    struct store *store = fresh("turns");
    int64_t s = session_make(store, "talk"), f;
    uint32_t ids[1300], turn_ids[3] = {5, 0, UINT32_MAX};
    kit_ids(3, ids, 1300);
    struct store_turn turns[2] = {
        {.role = STORE_USER, .text = "Why?", .text_len = 4, .ids = turn_ids, .n_ids = 3, .created = 42},
        {.role = STORE_ASSISTANT, .text = "a\0b", .text_len = 3, .meta = "{}"}};
    struct kit_save k = {.ids = ids,
                         .session = s,
                         .keep = true,
                         .turns = turns,
                         .n_turns = 2,
                         .row_bytes = ROWS,
                         .snapshot_bytes = SNAP};
    kit_ok(kit_save(store, &k, error)); /* turns alone */
    k.count = 1300;
    kit_ok(kit_save(store, &k, error));
    reopen(&store);
    struct store_turn_list list;
    kit_ok(store_turns(store, s, &list, error));
    assert_int_equal(list.count, 4);
    assert_int_equal(list.items[0].role, STORE_USER);
    assert_int_equal(list.items[0].created, 42);
    assert_string_equal(list.items[0].text, "Why?");
    assert_null(list.items[0].meta);
    assert_int_equal(list.items[2].n_ids, 3);
    assert_memory_equal(list.items[2].ids, turn_ids, sizeof turn_ids);
    assert_int_equal(list.items[3].text_len, 3);
    assert_memory_equal(list.items[3].text, "a\0b", 3);
    assert_string_equal(list.items[3].meta, "{}");
    assert_true(list.items[3].created > 1600000000);
    store_turn_list_free(&list);
    struct store_session info = session_get(store, s);
    assert_int_equal(info.n_turns, 4);
    assert_int_equal(info.n_tokens, 1300);
    assert_memory_equal(info.model, kit_model, STORE_KEY);
    kit_ok(store_session_fork(store, s, 2, "branch", &f, error));
    info = session_get(store, f);
    assert_int_equal(info.n_turns, 2);
    assert_int_equal(info.n_tokens, 0); /* the state was saved with four turns */
    assert_int_equal(info.parent, s);
    kit_ok(store_session_fork(store, s, SIZE_MAX, NULL, &f, error));
    assert_int_equal(session_get(store, f).n_tokens, 1300);
    assert_int_equal(session_get(store, f).n_turns, 4);
    kit_ok(store_session_remove(store, s, error));
    load(store, ids, 1300); /* the fork has it */
    kit_ok(store_turns(store, f, &list, error));
    assert_int_equal(list.count, 4);
    store_turn_list_free(&list);
    no_faults(store);
    store_close(&store);
}

static void test_rewind(void **state)
{
    (void)state;
    struct store *store = fresh("rewind");
    uint32_t ids[4000];
    kit_ids(1, ids, 4000);
    int64_t s = session_make(store, "s");
    struct store_turn turns[2] = {{.role = STORE_USER, .text = "q", .text_len = 1},
                                  {.role = STORE_ASSISTANT, .text = "a", .text_len = 1}};
    const size_t ends[] = {1000, 1500, 2600, 4000}; /* the documents, then three answers */
    for (size_t i = 0; i < 4; i++) {
        struct kit_save k = {.ids = ids,
                             .count = ends[i],
                             .first_segment = present(store, ids, ends[i]),
                             .session = s,
                             .keep = true,
                             .turns = turns,
                             .n_turns = i ? 2 : 0,
                             .row_bytes = ROWS,
                             .snapshot_bytes = SNAP};
        kit_ok(kit_save(store, &k, error));
    }
    kit_ok(store_session_truncate(store, s, 4, error));
    assert_int_equal(find(store, ids, 4000), 2600);
    assert_int_equal(session_get(store, s).n_turns, 4);
    assert_int_equal(session_get(store, s).n_tokens, 2600);
    load(store, ids, 2600);
    kit_ok(store_session_truncate(store, s, 0, error));
    assert_int_equal(find(store, ids, 4000), 1000);
    assert_int_equal(session_get(store, s).n_turns, 0);
    kit_ok(store_session_truncate(store, s, 9, error));
    no_faults(store);
    store_close(&store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_files_are_private),
        cmocka_unit_test(test_documents),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_turns),
        cmocka_unit_test(test_rewind),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    kit_cleanup();
    return failed;
}
