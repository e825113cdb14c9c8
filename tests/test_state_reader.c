/* SPDX-License-Identifier: MIT
 *
 * A stored state read by another reader, tests/state_reader.py, which knows only docs/state-format.md and schema.sql:
 * the numbers it finds are the ones that lie in the device's memory.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

#include <cmocka.h>
#include <math.h>

#include "engine/engine_internal.h"
#include "tests/make_model.h"
#include "tests/on_devices.h"
#include "tests/state_kit.h"

enum { TEXT = 2 * STATE_SEGMENT + 21, LINES = 64 };

static char folder[64], model[96];

static void must(int rc, const struct error *error)
{
    if (rc) fail_msg("%s", error->text);
}

/* ---------------------------------------------------------------------------------------- what the engine has */

struct sums {
    double sum, ordered;
    size_t count;
};

static void add_numbers(struct sums *s, const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++, s->count++) {
        s->sum += (double)x[i];
        s->ordered += (double)x[i] * (double)(s->count % 97 + 1);
    }
}

static void add_device(const struct engine *e, uint64_t address, size_t bytes, struct sums *s)
{
    struct error error;
    float *x = malloc(bytes);
    must(e->backend->ops->download(e->backend, x, address, bytes, &error), &error);
    add_numbers(s, x, bytes / sizeof *x);
    free(x);
}

/* Rows of tokens [first, first + count) of one block, in the order of the document. */
static struct sums sum_rows(const struct timeline *t, size_t block, size_t count)
{
    const struct engine *e = t->engine;
    const struct quant_format *format = quant_format((uint32_t)e->info.rows_dtype);
    size_t width = e->row_bytes / format->block_bytes * format->block_len;
    unsigned char *row = malloc(e->row_bytes);
    float *x = malloc(width * sizeof *x);
    struct sums s = {0};
    struct error error;
    for (size_t layer = 0; layer < e->info.n_mla; layer++)
        for (size_t i = 0; i < count; i++) {
            uint64_t at = t->blocks[block] + (layer * STATE_SEGMENT + i) * e->row_bytes;
            must(e->backend->ops->download(e->backend, row, at, e->row_bytes, &error), &error);
            format->decode(row, x, width);
            add_numbers(&s, x, width);
        }
    free(row);
    free(x);
    return s;
}

/* ---------------------------------------------------------------------------------------- what the reader says */

static size_t run_reader(char lines[LINES][256], const char *arguments)
{
    char command[256];
    snprintf(command, sizeof command, "python3 tests/state_reader.py %s/store %s 2>&1", folder, arguments);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t n = 0;
    while (n < LINES && fgets(lines[n], sizeof lines[n], pipe)) n++;
    if (pclose(pipe)) fail_msg("the reader refused: %s", n ? lines[n - 1] : "(nothing)");
    return n;
}

static bool reader_agrees(const char *arguments)
{
    char command[400];
    snprintf(command, sizeof command, "python3 tests/state_reader.py %s/store %s >%s/out 2>&1", folder, arguments,
             folder);
    return system(command) == 0;
}

static bool is_near(double a, double b, const struct sums *s)
{
    return fabs(a - b) <= 1e-9 * (1 + fabs(b)) + 1e-12 * (double)s->count;
}

static void expect_numbers(const char *line, const char *what, struct sums s)
{
    char is[32];
    size_t count;
    double sum, ordered;
    assert_int_equal(sscanf(line, " %31s %zu sum %lf ordered %lf", is, &count, &sum, &ordered), 4);
    assert_string_equal(is, what);
    assert_int_equal(count, s.count);
    if (!is_near(sum, s.sum, &s) || !is_near(ordered, s.ordered, &s))
        fail_msg("%s: the engine has %.17g and %.17g", line, s.sum, s.ordered);
}

static void expect_piece(const char *line, const char *what, size_t first, size_t count)
{
    char begins[96];
    snprintf(begins, sizeof begins, "%s first %zu count %zu dims ", what, first, count);
    if (strncmp(line, begins, strlen(begins))) fail_msg("%s: \"%s\" was due", line, begins);
}

static void expect_timeline(char lines[LINES][256], size_t n, const struct timeline *t)
{
    const struct engine *e = t->engine;
    size_t at = 1, blocks = (t->length + STATE_SEGMENT - 1) / STATE_SEGMENT;
    assert_int_equal(n, 1 + 2 * blocks + 4);
    for (size_t i = 0; i < blocks; i++) {
        size_t first = i * STATE_SEGMENT, left = t->length - first;
        size_t count = left < STATE_SEGMENT ? left : STATE_SEGMENT;
        expect_piece(lines[at++], "rows", first, count);
        expect_numbers(lines[at++], "rows", sum_rows(t, i, count));
    }
    struct sums state = {0}, history = {0}, logits = {0};
    add_device(e, t->state.kda, e->kda_bytes, &state);
    add_device(e, t->state.history, e->history_bytes, &history);
    add_numbers(&logits, t->logits, e->info.n_vocab);
    expect_piece(lines[at++], "snapshot", 0, t->length);
    expect_numbers(lines[at++], "state", state);
    expect_numbers(lines[at++], "history", history);
    expect_numbers(lines[at++], "logits", logits);
}

/* ------------------------------------------------------------------------------------------------------ tests */

static void write_ids(const uint32_t *ids, size_t count)
{
    char path[128];
    snprintf(path, sizeof path, "%s/ids", folder);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    for (size_t i = 0; i < count; i++)
        for (int shift = 0; shift < 32; shift += 8) putc((int)(ids[i] >> shift & 255), file);
    assert_int_equal(fclose(file), 0);
}

static void read_as(enum engine_dtype state, enum engine_dtype rows)
{
    struct error error;
    struct engine *e;
    struct timeline *t;
    struct store *store;
    char path[96], arguments[128], lines[LINES][256];
    const struct engine_params params = {
        .model = model, .device = "cpu", .context = 2048, .state_dtype = state, .rows_dtype = rows};
    uint32_t ids[TEXT];
    must(engine_open(&e, &params, &error), &error);
    must(timeline_create(&t, e, &error), &error);
    for (size_t i = 0; i < TEXT; i++) ids[i] = (uint32_t)(i * i * 31 + i) % engine_info(e)->n_vocab;
    must(timeline_append(t, ids, TEXT, NULL, NULL, &error), &error);
    snprintf(path, sizeof path, "%s/store", folder);
    must(store_open(&store, path, &error), &error);
    must(kit_save(&(struct kit){.store = store, .engine = e}, t, NULL, &error), &error);
    store_close(&store);
    write_ids(ids, TEXT);
    snprintf(arguments, sizeof arguments, "%s/ids", folder);
    size_t n = run_reader(lines, arguments);
    expect_timeline(lines, n, t);
    assert_int_equal(run_reader(lines, ""), n);
    ids[TEXT / 2] ^= 1;
    write_ids(ids, TEXT);
    assert_false(reader_agrees(arguments));
    timeline_destroy(&t);
    engine_close(&e);
}

static void f32_is_read(void **test)
{
    (void)test;
    read_as(ENGINE_F32, ENGINE_F32);
}

static void halves_and_blocks_are_read(void **test)
{
    (void)test;
    read_as(ENGINE_F16, ENGINE_Q8_0);
}

static void half_rows_are_read(void **test)
{
    (void)test;
    read_as(ENGINE_F32, ENGINE_F16);
}

static int set_up(void **test)
{
    (void)test;
    struct error error;
    strcpy(folder, "/tmp/lectern-reader-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(model, sizeof model, "%s/odd.gguf", folder);
    return test_model_write(model, &(struct test_model){.preset = "odd"}, &error);
}

static int tear_down(void **test)
{
    (void)test;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(f32_is_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(halves_and_blocks_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(half_rows_are_read, set_up, tear_down),
    };
    if (system("python3 -c 'import sqlite3' 2>/dev/null")) {
        printf("Skipped: there is no python3 with sqlite3.\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
