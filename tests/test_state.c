/* SPDX-License-Identifier: MIT
 *
 * Saved state: what comes back continues bit for bit, at any position, in every dtype; what is damaged or belongs to
 * something else is refused, and the engine goes on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <openssl/evp.h>

#include "engine/state_half.h"
#include "quant/quant.h"
#include "tests/make_model.h"
#include "tests/on_devices.h"

enum { BATCH = 48, TEXT = 570, MOST_PIECES = 8 };

static char model_path[128], other_path[128];

static void must(int rc, const struct error *error)
{
    if (rc) fail_msg("%s", error->text);
}

static struct engine *open_engine(const char *path, enum engine_dtype state, enum engine_dtype rows)
{
    struct error error;
    struct engine *engine;
    const struct engine_params params = {.model = path,
                                         .device = test_device,
                                         .context = 1024,
                                         .batch = BATCH,
                                         .state_dtype = state,
                                         .rows_dtype = rows};
    must(engine_open(&engine, &params, &error), &error);
    return engine;
}

/* Pseudo-random ids. */
static void make_text(uint32_t *ids, size_t n, uint32_t n_vocab, uint32_t seed)
{
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        ids[i] = (seed >> 8) % n_vocab;
    }
}

/* ------------------------------------------------------------------------------------------- saving everything */

struct saved {
    struct blob rows[MOST_PIECES], snapshot;
    size_t n_rows;
};

/* Rows in pieces of `piece` tokens. */
static void save(struct timeline *t, size_t piece, struct saved *out)
{
    struct error error;
    *out = (struct saved){0};
    size_t length = timeline_length(t);
    for (size_t at = 0; at < length; at += piece) {
        assert_true(out->n_rows < MOST_PIECES);
        size_t n = length - at < piece ? length - at : piece;
        must(timeline_save_rows(t, at, n, &out->rows[out->n_rows++], &error), &error);
    }
    must(timeline_save_snapshot(t, &out->snapshot, &error), &error);
}

static void saved_free(struct saved *s)
{
    for (size_t i = 0; i < s->n_rows; i++) blob_free(&s->rows[i]);
    blob_free(&s->snapshot);
}

static int try_restore(struct engine *e, const struct saved *s, const uint32_t *ids, size_t count,
                       struct timeline **out, struct error *error)
{
    struct restore *r;
    *out = NULL;
    int rc = restore_begin(&r, e, ids, count, error);
    for (size_t i = 0; !rc && i < s->n_rows; i++) rc = restore_rows(r, s->rows[i].data, s->rows[i].size, error);
    if (!rc) rc = restore_snapshot(r, s->snapshot.data, s->snapshot.size, error);
    if (!rc) return restore_finish(&r, out, error);
    restore_abort(&r);
    return rc;
}

/* -------------------------------------------------------------------------------------------------- round trip */

/* Logits of the rest of the text, and of one token more at a time after it. */
static float *go_on(struct timeline *t, const uint32_t *ids, size_t from, uint32_t n_vocab)
{
    struct error error;
    float *logits = calloc(TEXT * n_vocab, sizeof *logits);
    assert_non_null(logits);
    size_t middle = TEXT - 8;
    must(timeline_append(t, ids + from, middle - from, logits + from * n_vocab, NULL, &error), &error);
    for (size_t i = middle; i < TEXT; i++)
        must(timeline_append(t, ids + i, 1, logits + i * n_vocab, NULL, &error), &error);
    return logits;
}

static void check_round_trip(struct engine *e, size_t position, size_t piece)
{
    struct error error;
    uint32_t ids[TEXT], n_vocab = engine_info(e)->n_vocab;
    struct timeline *stayed, *returned;
    struct saved saved;
    make_text(ids, TEXT, n_vocab, (uint32_t)position);
    must(timeline_create(&stayed, e, &error), &error);
    must(timeline_append(stayed, ids, position, NULL, NULL, &error), &error);
    save(stayed, piece, &saved);
    must(try_restore(e, &saved, ids, position, &returned, &error), &error);

    assert_int_equal(timeline_length(returned), position);
    assert_memory_equal(timeline_tokens(returned), ids, position * sizeof *ids);
    assert_memory_equal(timeline_logits(returned), timeline_logits(stayed), n_vocab * sizeof(float));
    float *a = go_on(stayed, ids, position, n_vocab), *b = go_on(returned, ids, position, n_vocab);
    assert_memory_equal(a, b, TEXT * n_vocab * sizeof *a);
    free(b);
    /* Back by the snapshot alone, over the rows that are there. */
    must(timeline_go_back(stayed, saved.snapshot.data, saved.snapshot.size, &error), &error);
    assert_int_equal(timeline_length(stayed), position);
    b = go_on(stayed, ids, position, n_vocab);
    assert_memory_equal(a, b, TEXT * n_vocab * sizeof *a);
    free(a);
    free(b);
    saved_free(&saved);
    timeline_destroy(&returned);
    timeline_destroy(&stayed);
}

static void round_trips(void **state)
{
    (void)state;
    static const enum engine_dtype dtypes[][2] = {
        {ENGINE_F32, ENGINE_F32}, {ENGINE_F16, ENGINE_F16}, {ENGINE_F32, ENGINE_Q8_0}};
    static const size_t positions[] = {1, 47, 48, 49, 511, 512, 513, 550};
    for (size_t d = 0; d < 3; d++) {
        struct engine *e = open_engine(model_path, dtypes[d][0], dtypes[d][1]);
        /* A software device is slow: one position in the middle of everything for each dtype. */
        for (size_t i = on_cpu() ? 0 : 6; i < (on_cpu() ? sizeof positions / sizeof *positions : 7); i++)
            check_round_trip(e, positions[i], i % 2 ? STATE_SEGMENT : 200);
        engine_close(&e);
    }
}

/* Saving an f32 state does not disturb the timeline. */
static void saving_changes_nothing(void **state)
{
    (void)state;
    struct error error;
    struct engine *e = open_engine(model_path, ENGINE_F32, ENGINE_F16);
    uint32_t ids[TEXT], n_vocab = engine_info(e)->n_vocab;
    struct timeline *plain, *saving;
    struct saved saved;
    make_text(ids, TEXT, n_vocab, 3);
    must(timeline_create(&plain, e, &error), &error);
    must(timeline_create(&saving, e, &error), &error);
    must(timeline_append(plain, ids, 100, NULL, NULL, &error), &error);
    must(timeline_append(saving, ids, 100, NULL, NULL, &error), &error);
    save(saving, STATE_SEGMENT, &saved);
    float *a = go_on(plain, ids, 100, n_vocab), *b = go_on(saving, ids, 100, n_vocab);
    assert_memory_equal(a, b, TEXT * n_vocab * sizeof *a);
    free(a);
    free(b);
    saved_free(&saved);
    timeline_destroy(&plain);
    timeline_destroy(&saving);
    engine_close(&e);
}

/* ---------------------------------------------------------------------------------------------------- refusals */

struct fixture {
    struct engine *engine;
    uint32_t ids[100];
    struct saved saved;
};

static void fixture_open(struct fixture *f)
{
    struct error error;
    struct timeline *t;
    f->engine = open_engine(model_path, ENGINE_F32, ENGINE_F16);
    make_text(f->ids, 100, engine_info(f->engine)->n_vocab, 1);
    must(timeline_create(&t, f->engine, &error), &error);
    must(timeline_append(t, f->ids, 100, NULL, NULL, &error), &error);
    save(t, 60, &f->saved);
    timeline_destroy(&t);
}

/* The engine still restores what is whole. */
static void fixture_close(struct fixture *f)
{
    struct error error;
    struct timeline *t;
    must(try_restore(f->engine, &f->saved, f->ids, 100, &t, &error), &error);
    timeline_destroy(&t);
    saved_free(&f->saved);
    engine_close(&f->engine);
}

static void refused(struct engine *e, const struct saved *s, const uint32_t *ids, size_t count, const char *reason)
{
    struct error error = {0};
    struct timeline *t;
    assert_int_equal(try_restore(e, s, ids, count, &t, &error), ERROR_STATE);
    assert_null(t);
    if (!strstr(error.text, reason)) fail_msg("\"%s\" does not say \"%s\"", error.text, reason);
}

/* A snapshot of another text, of more than is there, of other types, or cut short: nothing moves. */
static void going_back_where_one_never_was(void **state)
{
    (void)state;
    enum { LENGTH = 130, AT = 100 };
    struct error error;
    struct engine *e = open_engine(model_path, ENGINE_F32, ENGINE_F16);
    struct engine *other = open_engine(model_path, ENGINE_F32, ENGINE_F32);
    uint32_t ids[TEXT], n_vocab = engine_info(e)->n_vocab;
    struct timeline *t, *elsewhere, *foreign;
    struct blob good, another, more, types;
    make_text(ids, TEXT, n_vocab, 5);
    must(timeline_create(&t, e, &error), &error);
    must(timeline_create(&elsewhere, e, &error), &error);
    must(timeline_create(&foreign, other, &error), &error);
    must(timeline_append(t, ids, AT, NULL, NULL, &error), &error);
    must(timeline_save_snapshot(t, &good, &error), &error);
    must(timeline_append(foreign, ids, AT, NULL, NULL, &error), &error);
    must(timeline_save_snapshot(foreign, &types, &error), &error);
    must(timeline_append(t, ids + AT, LENGTH - AT, NULL, NULL, &error), &error);
    must(timeline_append(elsewhere, ids, LENGTH + 1, NULL, NULL, &error), &error);
    must(timeline_save_snapshot(elsewhere, &more, &error), &error);
    timeline_clear(elsewhere);
    must(timeline_append(elsewhere, ids + 1, AT, NULL, NULL, &error), &error);
    must(timeline_save_snapshot(elsewhere, &another, &error), &error);
    float *before = malloc(n_vocab * sizeof *before);
    assert_non_null(before);
    memcpy(before, timeline_logits(t), n_vocab * sizeof *before);
    const struct blob *refused[] = {&another, &more, &types};
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        assert_int_equal(timeline_go_back(t, refused[i]->data, refused[i]->size, &error), ERROR_STATE);
    assert_int_equal(timeline_go_back(t, good.data, good.size - 1, &error), ERROR_STATE);
    assert_int_equal(timeline_length(t), LENGTH);
    assert_memory_equal(timeline_logits(t), before, n_vocab * sizeof *before);
    must(timeline_go_back(t, good.data, good.size, &error), &error);
    assert_int_equal(timeline_length(t), AT);
    must(timeline_append(t, ids + AT, LENGTH - AT, NULL, NULL, &error), &error);
    assert_memory_equal(timeline_logits(t), before, n_vocab * sizeof *before);
    free(before);
    blob_free(&good);
    blob_free(&another);
    blob_free(&more);
    blob_free(&types);
    timeline_destroy(&foreign);
    timeline_destroy(&elsewhere);
    timeline_destroy(&t);
    engine_close(&other);
    engine_close(&e);
}

static void wrong_engine(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct engine *other = open_engine(other_path, ENGINE_F32, ENGINE_F16);
    refused(other, &f.saved, f.ids, 100, "another model");
    engine_close(&other);
    other = open_engine(model_path, ENGINE_F32, ENGINE_Q8_0);
    refused(other, &f.saved, f.ids, 100, "row dtype");
    engine_close(&other);
    other = open_engine(model_path, ENGINE_F16, ENGINE_F16);
    refused(other, &f.saved, f.ids, 100, "another model file or other dtypes");
    engine_close(&other);
    fixture_close(&f);
}

static void wrong_use(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    struct saved s = f.saved;
    refused(f.engine, &s, f.ids, 99, "covers tokens");
    f.ids[70]++;
    refused(f.engine, &s, f.ids, 100, "another text");
    f.ids[70]--;
    s.n_rows = 1;
    refused(f.engine, &s, f.ids, 100, "missing");
    s.n_rows = 2;
    s.rows[0] = f.saved.rows[1];
    refused(f.engine, &s, f.ids, 100, "were due");
    s.rows[0] = f.saved.snapshot;
    refused(f.engine, &s, f.ids, 100, "rows was expected");
    s = f.saved;
    s.snapshot = f.saved.rows[0];
    refused(f.engine, &s, f.ids, 100, "a snapshot was expected");
    fixture_close(&f);
}

static uint32_t next_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    return *seed ^= *seed << 5;
}

/* One flipped bit, or fewer or more bytes, in one of the three pieces. */
static void damage(struct blob *b, uint32_t *seed)
{
    uint32_t how = next_random(seed) % 4;
    size_t at = next_random(seed) % b->size;
    unsigned char *bytes = b->data;
    if (how == 0)
        b->size = at;
    else if (how == 1)
        bytes[at % 176] ^= (unsigned char)(1u << next_random(seed) % 8);
    else
        bytes[at] ^= (unsigned char)(1u << next_random(seed) % 8);
}

static void damaged(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f);
    for (uint32_t seed = 1; seed <= 400; seed++) {
        uint32_t random = seed * 2654435761u;
        struct saved s = f.saved;
        struct blob *piece = seed % 3 == 0 ? &s.snapshot : &s.rows[seed % 3 - 1], whole = *piece;
        piece->data = malloc(whole.size);
        assert_non_null(piece->data);
        memcpy(piece->data, whole.data, whole.size);
        damage(piece, &random);
        refused(f.engine, &s, f.ids, 100, "");
        free(piece->data);
    }
    fixture_close(&f);
}

/* Makes a piece what the first release wrote: version 1, SHA-256 of bytes 0..143 and the payload at 144. */
static struct blob as_version_1(const struct blob *piece)
{
    struct blob old = {malloc(piece->size), piece->size};
    assert_non_null(old.data);
    memcpy(old.data, piece->data, piece->size);
    unsigned char *p = old.data;
    p[8] = 1;
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    assert_true(hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) && EVP_DigestUpdate(hash, p, 144) &&
                EVP_DigestUpdate(hash, p + 176, old.size - 176) && EVP_DigestFinal_ex(hash, p + 144, NULL));
    EVP_MD_CTX_free(hash);
    return old;
}

/* Version 1 is read, also between pieces of version 2, and its checksum counts; others are refused. */
static void older_and_newer_versions(void **state)
{
    (void)state;
    struct fixture f;
    struct error error;
    struct timeline *a, *b;
    fixture_open(&f);
    struct saved s = f.saved;
    s.rows[1] = as_version_1(&f.saved.rows[1]);
    s.snapshot = as_version_1(&f.saved.snapshot);
    must(try_restore(f.engine, &f.saved, f.ids, 100, &a, &error), &error);
    must(try_restore(f.engine, &s, f.ids, 100, &b, &error), &error);
    uint32_t more[3] = {1, 2, 3};
    must(timeline_append(a, more, 3, NULL, NULL, &error), &error);
    must(timeline_append(b, more, 3, NULL, NULL, &error), &error);
    assert_memory_equal(timeline_logits(a), timeline_logits(b), engine_info(f.engine)->n_vocab * sizeof(float));
    timeline_destroy(&a);
    timeline_destroy(&b);
    unsigned char *bytes = s.rows[1].data;
    bytes[s.rows[1].size - 1] ^= 1;
    refused(f.engine, &s, f.ids, 100, "its checksum is wrong");
    bytes[8] = 0;
    refused(f.engine, &s, f.ids, 100, "format version 0, this program reads 1 and 2");
    bytes[8] = 3;
    refused(f.engine, &s, f.ids, 100, "format version 3, this program reads 1 and 2");
    blob_free(&s.rows[1]);
    blob_free(&s.snapshot);
    fixture_close(&f);
}

/* --state-dtype f16 halves the state and --kv-dtype q8_0 all but halves the rows (34 bytes where f16 has 64). */
static void options_halve_the_bytes(void **state)
{
    (void)state;
    struct saved whole, half;
    struct fixture f;
    struct error error;
    struct timeline *t;
    fixture_open(&f);
    struct engine *e = open_engine(model_path, ENGINE_F16, ENGINE_Q8_0);
    must(timeline_create(&t, e, &error), &error);
    must(timeline_append(t, f.ids, 100, NULL, NULL, &error), &error);
    save(t, 60, &half);
    whole = f.saved;
    const size_t header = 176, kda = 3 * 4 * 64 * 64; /* of "tiny" */
    assert_int_equal((half.rows[0].size - header) * 64, (whole.rows[0].size - header) * 34);
    assert_int_equal(whole.snapshot.size - half.snapshot.size, 2 * kda);
    saved_free(&half);
    timeline_destroy(&t);
    engine_close(&e);
    fixture_close(&f);
}

static float from_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* The wide conversions are those of quant/half.c, on every half, at every border between two, and beside it. */
static void halves_are_exact(void **state)
{
    (void)state;
    enum { N = 65536, SPAN = 9 };
    float *x = malloc(N * SPAN * sizeof *x), *y = malloc(N * SPAN * sizeof *y);
    unsigned char *h = malloc(2 * N * SPAN);
    assert_true(x && y && h);
    for (uint32_t i = 0; i < N; i++) {
        uint32_t bits, step;
        float f = quant_f16_to_f32((uint16_t)i);
        memcpy(&bits, &f, sizeof bits);
        step = i % 3 + 1; /* around the half itself, and around the middle to the next */
        for (uint32_t k = 0; k < SPAN; k++)
            x[i * SPAN + k] = from_bits(bits + (k < 5 ? (k - 2) * step : 0x1000 + (k - 7) * step));
    }
    memcpy(y, x, N * SPAN * sizeof *x);
    state_half_round(y, h, N * SPAN);
    for (size_t i = 0; i < N * SPAN; i++) {
        uint16_t half = quant_f32_to_f16(x[i]);
        float back = quant_f16_to_f32(half);
        assert_int_equal(h[2 * i] | h[2 * i + 1] << 8, half);
        assert_memory_equal(&y[i], &back, sizeof back);
    }
    state_half_widen(h, x, N * SPAN);
    assert_memory_equal(x, y, N * SPAN * sizeof *x);
    free(h);
    free(y);
    free(x);
}

static void bad_requests(void **state)
{
    (void)state;
    struct error error;
    struct engine *e = open_engine(model_path, ENGINE_F32, ENGINE_F16);
    struct timeline *t;
    struct blob blob;
    struct restore *r;
    uint32_t ids[10] = {0};
    must(timeline_create(&t, e, &error), &error);
    assert_int_equal(timeline_save_snapshot(t, &blob, &error), ERROR_USAGE);
    assert_int_equal(timeline_save_rows(t, 0, 1, &blob, &error), ERROR_USAGE);
    must(timeline_append(t, ids, 10, NULL, NULL, &error), &error);
    assert_int_equal(timeline_save_rows(t, 5, 6, &blob, &error), ERROR_USAGE);
    assert_int_equal(timeline_save_rows(t, 11, SIZE_MAX, &blob, &error), ERROR_USAGE);
    assert_int_equal(restore_begin(&r, e, ids, 0, &error), ERROR_USAGE);
    assert_int_equal(restore_begin(&r, e, ids, 5000, &error), ERROR_FIT);
    timeline_destroy(&t);
    engine_close(&e);
}

/* -------------------------------------------------------------------------------------------------------- main */

static int group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(saving_changes_nothing),
        cmocka_unit_test(going_back_where_one_never_was),
        cmocka_unit_test(wrong_engine),
        cmocka_unit_test(wrong_use),
        cmocka_unit_test(damaged),
        cmocka_unit_test(bad_requests),
        cmocka_unit_test(older_and_newer_versions),
        cmocka_unit_test(options_halve_the_bytes),
        cmocka_unit_test(halves_are_exact),
    };
    return cmocka_run_group_tests_name(test_device, tests, NULL, NULL);
}

int main(void)
{
    struct error error = {0};
    temp_path(model_path, "state.gguf");
    temp_path(other_path, "state-other.gguf");
    const struct test_model model = {.seed = 1}, other = {.seed = 2};
    if (test_model_write(model_path, &model, &error) || test_model_write(other_path, &other, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    int failed = for_each_device(group);
    unlink(model_path);
    unlink(other_path);
    return failed;
}
