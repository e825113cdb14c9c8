/* SPDX-License-Identifier: MIT
 *
 * Importance files as others write them, from the published layouts: GGUF with stacks of experts in two and in three
 * dimensions, and the older binary one. All give a quantizer the same numbers; damaged ones get one sentence.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "quant/imatrix.h"
#include "tests/make_model.h"

enum { N_EXPERT = 8, MOST = 1 << 20 };

/* All counts are powers of two, so that sums over them are exact: files of both kinds tell the very same importance. */
static const float counts[N_EXPERT] = {64, 32, 0, 128, 64, 16, 256, 64};
static const char *const stack = "blk.2.ffn_down_exps.weight", *const single = "blk.1.attn_q.weight";
static char folder[] = "/tmp/lectern-imatrix-XXXXXX", model_path[96], path[96];
static struct gguf *model;
static uint32_t state;

static uint32_t next_random(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

/* The importance of input i of matrix `mat`: 24 bits between 0.5 and 1.5. */
static float importance(uint32_t mat, uint32_t i)
{
    uint32_t h = (mat * 4096 + i + 1) * 2654435761u;
    return counts[mat % N_EXPERT] == 0 && mat ? 1 : 0.5f + (float)(h >> 9) * 0x1p-23f;
}

static const struct gguf_tensor *tensor(const char *name)
{
    const struct gguf_tensor *t = gguf_tensor_named(model, name);
    assert_non_null(t);
    return t;
}

/* -------------------------------------------------------------------------------------------------- writing */

static void put_pair(struct gguf_writer *w, const char *name, uint32_t dims, uint64_t n_in, uint64_t n_mat)
{
    char full[96];
    const uint64_t sums[3] = {n_in, n_mat, 1}, flat[3] = {n_in, 1, n_mat};
    snprintf(full, sizeof full, "%s.in_sum2", name);
    gguf_put_tensor(w, full, quant_format(QUANT_F32), dims, dims == 3 ? flat : sums);
    const uint64_t one[3] = {1, n_mat, 1}, deep[3] = {1, 1, n_mat};
    snprintf(full, sizeof full, "%s.counts", name);
    gguf_put_tensor(w, full, quant_format(QUANT_F32), dims, dims == 3 ? deep : one);
}

static void write_values(struct gguf_writer *w, uint32_t n_in, uint32_t n_mat, struct error *error)
{
    for (uint32_t m = 0; m < n_mat; m++)
        for (uint32_t i = 0; i < n_in; i++) {
            float v = importance(m, i) * (n_mat == 1 ? 128 : counts[m]);
            assert_int_equal(gguf_write(w, &v, sizeof v, error), 0);
        }
    for (uint32_t m = 0; m < n_mat; m++) {
        float v = n_mat == 1 ? 128 : counts[m];
        assert_int_equal(gguf_write(w, &v, sizeof v, error), 0);
    }
}

/* dims: 2, or 3 with the matrices of a stack along the third. */
static void write_gguf(uint32_t dims)
{
    struct error error = {0};
    struct gguf_writer *w;
    const struct gguf_string set = {"calibration.txt", 15};
    const struct gguf_tensor *a = tensor(single), *b = tensor(stack);
    assert_int_equal(gguf_writer_open(&w, path, &error), 0);
    gguf_put_string(w, "general.type", "imatrix", 7);
    gguf_put_string_array(w, "imatrix.datasets", &set, 1);
    gguf_put_u32(w, "imatrix.chunk_count", 4);
    gguf_put_u32(w, "imatrix.chunk_size", 512);
    put_pair(w, single, 2, a->ne[0], 1);
    put_pair(w, stack, dims, b->ne[0], N_EXPERT);
    write_values(w, (uint32_t)a->ne[0], 1, &error);
    write_values(w, (uint32_t)b->ne[0], N_EXPERT, &error);
    if (gguf_writer_finish(&w, &error)) fail_msg("%s", error.text);
}

static void put_i32(FILE *f, int32_t v)
{
    assert_int_equal(fwrite(&v, sizeof v, 1, f), 1);
}

static void put_entry(FILE *f, const char *name, uint32_t n_in, uint32_t n_mat, int32_t calls)
{
    put_i32(f, (int32_t)strlen(name));
    fwrite(name, 1, strlen(name), f);
    put_i32(f, calls);
    put_i32(f, (int32_t)(n_in * n_mat));
    for (uint32_t m = 0; m < n_mat; m++)
        for (uint32_t i = 0; i < n_in; i++) {
            float v = importance(m, i) * (float)calls;
            fwrite(&v, sizeof v, 1, f);
        }
}

static void write_older(void)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    put_i32(f, 2);
    put_entry(f, stack, (uint32_t)tensor(stack)->ne[0], N_EXPERT, 512);
    put_entry(f, single, (uint32_t)tensor(single)->ne[0], 1, 2);
    put_i32(f, 4); /* the last call */
    put_i32(f, 15);
    fwrite("calibration.txt", 1, 15, f);
    assert_int_equal(fclose(f), 0);
}

/* -------------------------------------------------------------------------------------------------- reading */

static void check_tensor(const struct imatrix *m, const char *name)
{
    struct error error = {0};
    bool found;
    const struct gguf_tensor *t = tensor(name);
    const uint64_t n_in = t->ne[0], rows = t->ne[1], all = rows * t->ne[2];
    float *row = malloc(n_in * sizeof *row);
    assert_non_null(row);
    assert_int_equal(imatrix_find(m, t, &found, &error), 0);
    assert_true(found);
    for (uint64_t r = 0; r < all; r += rows / 2) {
        imatrix_fill(m, t, r * n_in, (size_t)n_in, row);
        for (uint32_t i = 0; i < n_in; i++) assert_true(row[i] == importance((uint32_t)(r / rows), i));
    }
    free(row);
}

static void check_file(const char *what)
{
    struct error error = {0};
    struct imatrix *m;
    bool found = true;
    if (imatrix_read(&m, path, &error)) fail_msg("%s: %s", what, error.text);
    check_tensor(m, single);
    check_tensor(m, stack);
    assert_int_equal(imatrix_find(m, tensor("blk.1.attn_k.weight"), &found, &error), 0);
    assert_false(found);
    imatrix_free(&m);
}

static void all_layouts_tell_the_same(void **unused)
{
    (void)unused;
    write_gguf(2);
    check_file("GGUF");
    write_gguf(3);
    check_file("GGUF, three dimensions");
    write_older();
    check_file("older");
}

static void of_another_model(void **unused)
{
    (void)unused;
    struct error error = {0};
    struct imatrix *m;
    bool found;
    struct gguf_tensor other = *tensor(stack);
    write_older();
    assert_int_equal(imatrix_read(&m, path, &error), 0);
    other.ne[2] = 4;
    assert_int_equal(imatrix_find(m, &other, &found, &error), ERROR_MODEL);
    assert_non_null(strstr(error.text, "another model"));
    imatrix_free(&m);
}

/* ------------------------------------------------------------------------------------------------- damaged */

static size_t load(unsigned char *bytes)
{
    FILE *f = fopen(path, "rb");
    assert_non_null(f);
    size_t n = fread(bytes, 1, MOST, f);
    fclose(f);
    assert_true(n > 1000 && n < MOST);
    return n;
}

static void save(const unsigned char *bytes, size_t n)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

/* Refused with a sentence that names the file or the matrix. */
static void refused(const unsigned char *bytes, size_t n, const char *words)
{
    struct error error = {0};
    struct imatrix *m;
    save(bytes, n);
    assert_int_equal(imatrix_read(&m, path, &error), ERROR_MODEL);
    assert_null(m);
    if (!strstr(error.text, words) || strchr(error.text, '\n')) fail_msg("\"%s\" has not \"%s\"", error.text, words);
}

static void older_files_cut_off_or_wrong(void **unused)
{
    (void)unused;
    static unsigned char good[MOST], bad[MOST];
    write_older();
    const size_t n = load(good), tail = 8 + 15, name = 8, calls = name + strlen(stack);
    for (size_t cut = 0; cut < n - tail; cut += cut < 64 ? 1 : 997) refused(good, cut, path);
    const struct {
        size_t at;
        int32_t value;
        const char *words;
    } wrong[] = {{0, 0, "not an imatrix file"},
                 {0, -5, "not an imatrix file"},
                 {0, 0x7fffffff, "not an imatrix file"},
                 {4, 0, "entry 1"},
                 {4, -1, "entry 1"},
                 {4, 64, "entry 1"},
                 {calls + 4, 0, "entry 1"},
                 {calls + 4, -1, "entry 1"},
                 {calls + 4, 0x7fffffff, "entry 1"},
                 {calls + 8, (int32_t)0x7fc00000, "not finite"},
                 {calls + 8, (int32_t)0xbf800000u, "negative"},
                 {calls + 8, 0x7f800000, "not finite"}};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        memcpy(bad, good, n);
        memcpy(bad + wrong[i].at, &wrong[i].value, sizeof wrong[i].value);
        refused(bad, n, wrong[i].words);
    }
}

/* Whatever the bytes: read, or refused with a sentence. */
static void fuzz(void)
{
    static unsigned char good[MOST], bad[MOST];
    const size_t n = load(good);
    for (int round = 0; round < 300; round++) {
        struct error error = {0};
        struct imatrix *m;
        memcpy(bad, good, n);
        for (uint32_t k = next_random() % 8 + 1; k; k--)
            bad[next_random() % (round % 2 ? 600 : n)] = (unsigned char)next_random();
        save(bad, round % 3 ? n : next_random() % n);
        int rc = imatrix_read(&m, path, &error);
        assert_true(rc ? !m && error.text[0] : m != NULL);
        imatrix_free(&m);
    }
}

static void random_damage(void **unused)
{
    (void)unused;
    state = 5;
    write_older();
    fuzz();
    write_gguf(2);
    fuzz();
}

int main(void)
{
    struct error error = {0};
    const struct test_model made = {.preset = "tiny", .type = "F16", .seed = 3};
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_layouts_tell_the_same), cmocka_unit_test(of_another_model),
                                       cmocka_unit_test(older_files_cut_off_or_wrong), cmocka_unit_test(random_damage)};
    if (!mkdtemp(folder)) return 1;
    snprintf(model_path, sizeof model_path, "%s/model.gguf", folder);
    snprintf(path, sizeof path, "%s/importance", folder);
    if (test_model_write(model_path, &made, &error) || gguf_open(&model, model_path, &error)) {
        printf("%s\n", error.text);
        return 1;
    }
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gguf_close(&model);
    unlink(path);
    unlink(model_path);
    rmdir(folder);
    return failed;
}
