/* SPDX-License-Identifier: MIT
 *
 * What comes with a Hugging Face folder is hostile: JSON texts, safetensors headers and imatrix files, whole and broken
 * in thousands of ways. Run under the sanitizers too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "quant/imatrix.h"
#include "quant/json_tree.h"
#include "quant/safetensors.h"

static char folder[] = "/tmp/lectern-test-XXXXXX", path[64], file[64];

static int parse(struct json_tree *tree, const char *text)
{
    struct error error;
    return json_tree_parse(tree, text, strlen(text), "It", &error);
}

static void test_json_is_read(void **state)
{
    (void)state;
    struct json_tree t;
    uint64_t n;
    assert_int_equal(
        parse(&t, " {\"a\\n\": [1, -2.5e1, {}], \"b\": \"\\u00e9\\ud83d\\ude00\\u0000\\/\", \"c\": true } "), 0);
    const struct json_node *list = json_node_get(&t, t.nodes, "a\n"), *text = json_node_get(&t, t.nodes, "b");
    assert_int_equal(list->count, 3);
    const struct json_node *first = json_node_first(&t, list), *second = json_node_next(&t, first);
    assert_true(json_node_uint(first, &n) && n == 1);
    assert_true(second->number < -24.9 && second->number > -25.1 && !json_node_uint(second, &n));
    assert_int_equal(json_node_next(&t, second)->kind, JSON_OBJECT);
    assert_null(json_node_next(&t, json_node_next(&t, second)));
    assert_int_equal(text->text.len, 8);
    assert_memory_equal(text->text.bytes, "\xc3\xa9\xf0\x9f\x98\x80\0/", 8);
    assert_true(json_node_get(&t, t.nodes, "c")->truth);
    assert_null(json_node_get(&t, t.nodes, "d"));
    assert_null(json_node_get(&t, NULL, "d"));
    json_tree_free(&t);
}

static void test_json_is_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",          " ",          "{",           "[1,]",        "[1 2]",
        "{\"a\" 1}", "{\"a\":}",   "{1: 2}",      "\"a",         "\"\n\"",
        "\"\\x\"",   "\"\\u12\"",  "\"\\ud800\"", "\"\\udc00\"", "\"\\ud800\\u0041\"",
        "01",        "-",          "1.",          ".5",          "1e",
        "1e999",     "+1",         "NaN",         "nul",         "true 1",
        "[1]]",      "{\"a\":1,}", "'a'",         "\"\\",        "[\"\\u",
        "tru",       "[-]",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct json_tree t;
        if (parse(&t, bad[i]) != ERROR_MODEL) fail_msg("accepted: %s", bad[i]);
        assert_null(t.nodes);
    }
    char deep[200];
    struct json_tree t;
    memset(deep, '[', 199);
    deep[199] = 0;
    assert_int_equal(parse(&t, deep), ERROR_MODEL);
}

/* splitmix64 (Steele, Lea, Flood 2014) */
static uint64_t random_next(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static void write_bytes(const char *name, const void *bytes, size_t n)
{
    FILE *out = fopen(name, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(bytes, 1, n, out), n);
    assert_int_equal(fclose(out), 0);
}

/* Changes up to four bytes, to anything or to what means something in a header, or cuts the end. */
static size_t damage(unsigned char *bytes, size_t n, uint64_t *seed)
{
    static const char telling[] = "\"{}[],:0129-e\\\xff";
    for (uint64_t count = 1 + random_next(seed) % 4; count > 0; count--) {
        uint64_t r = random_next(seed);
        bytes[r % n] = r >> 63 ? (unsigned char)(r >> 32) : (unsigned char)telling[(r >> 32) % (sizeof telling - 1)];
    }
    return random_next(seed) % 8 ? n : (size_t)(random_next(seed) % n) + 1;
}

static size_t make_safetensors(unsigned char *out)
{
    static const char header[] = "{\"__metadata__\":{\"format\":\"pt\"},"
                                 "\"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
                                 "\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}}";
    size_t n = sizeof header - 1;
    memset(out, 0, 8 + n + 32);
    out[0] = (unsigned char)n;
    memcpy(out + 8, header, n);
    out[8 + n] = 7;
    return 8 + n + 32;
}

static void test_safetensors(void **state)
{
    (void)state;
    unsigned char whole[512], bad[512];
    size_t n = make_safetensors(whole), refused = 0;
    uint64_t seed = 11;
    struct safetensors *s;
    struct error error;
    write_bytes(path, whole, n);
    assert_int_equal(safetensors_open(&s, folder, &error), 0);
    assert_int_equal(safetensors_count(s), 2);
    const struct safetensor *a = safetensors_named(s, "a");
    assert_true(a && a->n_dims == 2 && a->shape[1] == 3 && a->count == 6 && a->data[0] == 7);
    assert_null(safetensors_named(s, "c"));
    safetensors_close(&s);
    for (int i = 0; i < 3000; i++) {
        memcpy(bad, whole, n);
        write_bytes(path, bad, damage(bad, n, &seed));
        int rc = safetensors_open(&s, folder, &error);
        refused += rc != 0;
        for (const char *name = "ab"; !rc && *name; name++) { /* what was accepted can be read to its end */
            const struct safetensor *t = safetensors_named(s, (char[2]){*name, 0});
            size_t size = t ? (size_t)t->count * t->format->block_bytes : 0;
            if (size) memcpy(bad, t->data, size); /* at most the file */
        }
        safetensors_close(&s);
    }
    assert_true(refused > 2000);
    unlink(path);
}

static void make_imatrix(struct error *error)
{
    struct gguf_writer *w;
    const float sums[6] = {2, 4, 8, 0, 0, 0}, counts[2] = {2, 0};
    assert_int_equal(gguf_writer_open(&w, file, error), 0);
    gguf_put_string(w, "general.type", "imatrix", 7);
    gguf_put_tensor(w, "x.weight.in_sum2", quant_format(QUANT_F32), 2, (const uint64_t[2]){3, 2});
    gguf_put_tensor(w, "x.weight.counts", quant_format(QUANT_F32), 2, (const uint64_t[2]){1, 2});
    assert_int_equal(gguf_write(w, sums, sizeof sums, error), 0);
    assert_int_equal(gguf_write(w, counts, sizeof counts, error), 0);
    assert_int_equal(gguf_writer_finish(&w, error), 0);
}

static void test_imatrix(void **state)
{
    (void)state;
    struct error error;
    struct imatrix *m;
    bool found;
    unsigned char whole[1024], bad[1024];
    uint64_t seed = 5;
    struct gguf_tensor t = {.name = {"x.weight", 8}, .n_dims = 3, .ne = {3, 2, 2, 1}};
    make_imatrix(&error);
    assert_int_equal(imatrix_read(&m, file, &error), 0);
    assert_int_equal(imatrix_find(m, &t, &found, &error), 0);
    assert_true(found);
    float got[12];
    static const float want[12] = {1, 2, 4, 1, 2, 4, 1, 1, 1, 1, 1, 1};
    for (uint64_t first = 0; first < 12; first++) { /* wherever a piece begins */
        imatrix_fill(m, &t, first, (size_t)(12 - first), got);
        assert_memory_equal(got, want + first, (12 - first) * sizeof *got);
    }
    t.ne[2] = 3;
    assert_int_equal(imatrix_find(m, &t, &found, &error), ERROR_MODEL);
    imatrix_free(&m);

    FILE *in = fopen(file, "rb");
    assert_non_null(in);
    size_t n = fread(whole, 1, sizeof whole, in);
    fclose(in);
    for (int i = 0; i < 2000; i++) {
        memcpy(bad, whole, n);
        write_bytes(file, bad, damage(bad, n, &seed));
        if (!imatrix_read(&m, file, &error)) {
            t.ne[2] = 2;
            int rc = imatrix_find(m, &t, &found, &error);
            if (!rc && found) imatrix_fill(m, &t, 0, 12, got);
        }
        imatrix_free(&m);
    }
    unlink(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_is_read),
        cmocka_unit_test(test_json_is_refused),
        cmocka_unit_test(test_safetensors),
        cmocka_unit_test(test_imatrix),
    };
    if (!mkdtemp(folder)) return 1;
    snprintf(path, sizeof path, "%s/model.safetensors", folder);
    snprintf(file, sizeof file, "%s/imatrix.gguf", folder);
    int rc = cmocka_run_group_tests(tests, NULL, NULL);
    rmdir(folder);
    return rc;
}
