/* SPDX-License-Identifier: MIT
 *
 * The GGUF reader and writer: what is written reads back; every kind of broken file is refused with a sentence; shards
 * read as one model; hundreds of cut and bit-flipped models never crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "quant/gguf.h"
#include "tests/make_model.h"

static char folder[] = "/tmp/lectern-gguf-XXXXXX";

static const char *in_folder(const char *name)
{
    static char path[2][256];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", folder, name);
    return path[turn];
}

static int make_folder(void **state)
{
    (void)state;
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    static const char *const names[] = {"a.gguf",
                                        "b.gguf",
                                        "model.gguf",
                                        "s-00001-of-00002.gguf",
                                        "s-00002-of-00002.gguf",
                                        "t-00001-of-00002.gguf",
                                        "t-00002-of-00002.gguf"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) unlink(in_folder(names[i]));
    return rmdir(folder);
}

/* ---- Files made byte by byte, so that the reader is not only tested against our writer. ---- */

struct blob {
    unsigned char data[8192];
    size_t len;
};

static void put(struct blob *b, const void *data, size_t len)
{
    assert_true(b->len + len <= sizeof b->data);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}

static void put_u32(struct blob *b, uint32_t v)
{
    for (int i = 0; i < 4; i++) put(b, &(unsigned char){(unsigned char)(v >> (8 * i))}, 1);
}

static void put_u64(struct blob *b, uint64_t v)
{
    put_u32(b, (uint32_t)v);
    put_u32(b, (uint32_t)(v >> 32));
}

static void put_text(struct blob *b, const char *s)
{
    put_u64(b, strlen(s));
    put(b, s, strlen(s));
}

static void put_start(struct blob *b, uint64_t tensors, uint64_t values)
{
    put(b, "GGUF", 4);
    put_u32(b, 3);
    put_u64(b, tensors);
    put_u64(b, values);
}

static void put_tensor(struct blob *b, const char *name, uint64_t n, uint32_t type, uint64_t offset)
{
    put_text(b, name);
    put_u32(b, 1);
    put_u64(b, n);
    put_u32(b, type);
    put_u64(b, offset);
}

/* Pads to 32 and adds bytes of data. */
static void put_data(struct blob *b, size_t bytes)
{
    while (b->len % 32) put(b, "", 1);
    for (size_t i = 0; i < bytes; i++) put(b, "\1", 1);
}

static void save(const struct blob *b, const char *path)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(b->data, 1, b->len, f), b->len);
    assert_int_equal(fclose(f), 0);
}

static void refused(const struct blob *b, const char *why)
{
    struct gguf *g = (void *)-1;
    struct error error = {0};
    save(b, in_folder("a.gguf"));
    assert_int_equal(gguf_open(&g, in_folder("a.gguf"), &error), ERROR_MODEL);
    assert_null(g);
    if (!strstr(error.text, why)) fail_msg("\"%s\" does not say \"%s\"", error.text, why);
}

static void test_start_is_checked(void **state)
{
    (void)state;
    static const struct {
        const char *magic;
        uint32_t version;
        const char *why;
    } starts[] = {{"GGUX", 3, "not a GGUF file"},
                  {"GGUF", 1, "too old"},
                  {"GGUF", 2, "too old"},
                  {"GGUF", 4, "only version 3"},
                  {"GGUF", 3u << 24, "big-endian"}};
    for (size_t i = 0; i < sizeof starts / sizeof starts[0]; i++) {
        struct blob b = {.len = 0};
        put(&b, starts[i].magic, 4);
        put_u32(&b, starts[i].version);
        put_u64(&b, 0);
        put_u64(&b, 0);
        refused(&b, starts[i].why);
        b.len = 7;
        refused(&b, "not a GGUF file");
    }
    struct blob b = {.len = 0};
    put_start(&b, 1u << 20, 0);
    refused(&b, "more than 65536 tensors");
    b.len = 0;
    put_start(&b, 0, UINT64_MAX);
    refused(&b, "more than 65536 metadata values");
}

static void value_refused(uint32_t kind, const void *data, size_t len, const char *why)
{
    struct blob b = {.len = 0};
    put_start(&b, 0, 1);
    put_text(&b, "general.alignment");
    put_u32(&b, kind);
    put(&b, data, len);
    refused(&b, why);
}

static void test_values_are_checked(void **state)
{
    (void)state;
    const uint32_t three[] = {3}, huge[] = {1 << 21}, four[] = {4};
    value_refused(GGUF_U32, three, 4, "power of two");
    value_refused(GGUF_U32, four, 4, "power of two");
    value_refused(GGUF_U32, huge, 4, "power of two");
    value_refused(GGUF_F32, three, 4, "power of two");
    value_refused(13, three, 4, "unknown kind");
    value_refused(GGUF_U32, three, 3, "cut off");
    const uint32_t nested[] = {GGUF_ARRAY, 1, 0, 0, 0};
    value_refused(GGUF_ARRAY, nested, sizeof nested, "array of arrays");
    const uint32_t long_array[] = {GGUF_U64, UINT32_MAX, UINT32_MAX, 0};
    value_refused(GGUF_ARRAY, long_array, sizeof long_array, "cut off");
    const uint32_t long_strings[] = {GGUF_STRING, 2, 0, 0, 0, UINT32_MAX, UINT32_MAX};
    value_refused(GGUF_ARRAY, long_strings, sizeof long_strings, "cut off");

    struct blob b = {.len = 0};
    put_start(&b, 0, 2);
    for (int i = 0; i < 2; i++) {
        put_text(&b, "twin");
        put_u32(&b, GGUF_U8);
        put(&b, "\1", 1);
    }
    refused(&b, "twin is there twice");
    b.len = 0;
    put_start(&b, 0, 1);
    put_text(&b, "");
    put_u32(&b, GGUF_U8);
    put(&b, "\1", 1);
    refused(&b, "key is empty");
}

static void tensor_refused(uint64_t n, uint32_t type, uint64_t offset, const char *why)
{
    struct blob b = {.len = 0};
    put_start(&b, 1, 0);
    put_tensor(&b, "one", n, type, offset);
    put_data(&b, 64);
    refused(&b, why);
}

static void test_tensors_are_checked(void **state)
{
    (void)state;
    tensor_refused(16, QUANT_F32, 32, "past the end");
    tensor_refused(17, QUANT_F32, 0, "past the end");
    tensor_refused(16, QUANT_F32, UINT64_MAX - 31, "past the end");
    tensor_refused(16, QUANT_F32, 4, "not aligned");
    tensor_refused(0, QUANT_F32, 0, "impossible dimension");
    tensor_refused(UINT64_MAX, QUANT_F32, 0, "impossible dimension");
    tensor_refused(INT64_MAX - 3, QUANT_F32, 0, "impossibly large");
    tensor_refused(16, 4, 0, "type 4, which is not known");
    tensor_refused(16, UINT32_MAX, 0, "which is not known");
    tensor_refused(48, QUANT_Q8_0, 0, "blocks of 32");
}

static void test_tensor_sets_are_checked(void **state)
{
    (void)state;
    struct blob b = {.len = 0};
    put_start(&b, 2, 0);
    put_tensor(&b, "one", 16, QUANT_F32, 0);
    put_tensor(&b, "two", 8, QUANT_F32, 32);
    put_data(&b, 64);
    refused(&b, "overlap");
    b.len = 0;
    put_start(&b, 2, 0);
    put_tensor(&b, "one", 8, QUANT_F32, 0);
    put_tensor(&b, "one", 8, QUANT_F32, 32);
    put_data(&b, 64);
    refused(&b, "one is there twice");
    for (uint32_t dims = 0; dims <= 5; dims += 5) {
        b.len = 0;
        put_start(&b, 1, 0);
        put_text(&b, "o\x1b[0m");
        put_u32(&b, dims);
        for (uint32_t i = 0; i < dims; i++) put_u64(&b, 1);
        put_u32(&b, 0);
        put_u64(&b, 0);
        put_data(&b, 64);
        refused(&b, "tensor o?[0m has"); /* and names are made safe to show */
    }
    b.len = 0;
    put_start(&b, 1, 0);
    put_text(&b, "one");
    put_u32(&b, 4);
    for (int i = 0; i < 4; i++) put_u64(&b, 1u << 30);
    put_u32(&b, 0);
    put_u64(&b, 0);
    refused(&b, "impossibly large");
}

static void test_what_is_no_file_is_refused(void **state)
{
    (void)state;
    struct gguf *g;
    struct error error;
    assert_int_equal(gguf_open(&g, "/nonexistent/x.gguf", &error), ERROR_MODEL);
    assert_non_null(strstr(error.text, "No such file"));
    assert_int_equal(gguf_open(&g, folder, &error), ERROR_MODEL);
    assert_non_null(strstr(error.text, "regular file"));
    assert_int_equal(gguf_open(&g, "/dev/null", &error), ERROR_MODEL);
    assert_null(g);
    gguf_close(&g);
}

/* ---- Writing and reading back. ---- */

static void write_sample(const char *path)
{
    struct gguf_writer *w;
    struct error error;
    const int32_t numbers[] = {-1, 0, 7};
    const struct gguf_string words[] = {{"alpha", 5}, {"", 0}, {"\xce\xb2", 2}};
    const float weights[64] = {1, 2, 3};
    assert_int_equal(gguf_writer_open(&w, path, &error), 0);
    gguf_put_u32(w, "u", 4000000000u);
    gguf_put_f32(w, "f", 1.5f);
    gguf_put_bool(w, "b", true);
    gguf_put_string(w, "s", "a\0b", 3);
    gguf_put_i32_array(w, "numbers", numbers, 3);
    gguf_put_string_array(w, "words", words, 3);
    gguf_put_tensor(w, "first", quant_format(QUANT_F32), 2, (const uint64_t[]){3, 2});
    gguf_put_tensor(w, "second", quant_format(QUANT_F16), 1, (const uint64_t[]){5});
    assert_int_equal(gguf_write(w, weights, 20, &error), 0);
    assert_int_equal(gguf_write(w, weights, 4, &error), 0);
    assert_int_equal(gguf_write(w, weights, 10, &error), 0);
    assert_int_equal(gguf_writer_finish(&w, &error), 0);
    assert_null(w);
}

static void check_values(const struct gguf *g)
{
    uint32_t u = 5;
    float f;
    bool b;
    struct gguf_string s;
    int64_t i;
    assert_true(gguf_get_u32(g, "u", &u) && u == 4000000000u);
    assert_true(gguf_get_f32(g, "f", &f) && f == 1.5f);
    assert_true(gguf_get_bool(g, "b", &b) && b);
    assert_true(gguf_get_string(g, "s", &s) && s.len == 3 && memcmp(s.bytes, "a\0b", 3) == 0);
    u = 9;
    assert_false(gguf_get_u32(g, "f", &u) || gguf_get_u32(g, "absent", &u) || gguf_get_u32(g, "numbers", &u));
    assert_int_equal(u, 9);
    assert_false(gguf_get_f32(g, "u", &f) || gguf_get_bool(g, "u", &b) || gguf_get_string(g, "words", &s));
    const struct gguf_value *numbers = gguf_find(g, "numbers"), *words = gguf_find(g, "words");
    assert_true(numbers && numbers->is_array && numbers->count == 3);
    assert_true(gguf_array_int(numbers, 0, &i) && i == -1);
    assert_true(gguf_array_int(numbers, 2, &i) && i == 7);
    assert_false(gguf_array_int(numbers, 3, &i) || gguf_array_int(words, 0, &i));
    size_t cursor = 0;
    assert_true(gguf_array_string(words, &cursor, &s) && s.len == 5 && memcmp(s.bytes, "alpha", 5) == 0);
    assert_true(gguf_array_string(words, &cursor, &s) && s.len == 0);
    assert_true(gguf_array_string(words, &cursor, &s) && s.len == 2);
    assert_false(gguf_array_string(words, &cursor, &s));
}

static void test_written_reads_back(void **state)
{
    (void)state;
    struct gguf *g;
    struct error error;
    struct stat st;
    write_sample(in_folder("b.gguf"));
    assert_int_equal(gguf_open(&g, in_folder("b.gguf"), &error), 0);
    check_values(g);
    const struct gguf_tensor *first = gguf_tensor_named(g, "first"), *second = gguf_tensor_named(g, "second");
    assert_true(first && second && !gguf_tensor_named(g, "third"));
    assert_true(first->n_dims == 2 && first->ne[0] == 3 && first->ne[1] == 2 && first->ne[2] == 1);
    assert_int_equal(first->bytes, 24);
    assert_int_equal(((const float *)first->data)[2], 3);
    assert_int_equal(second->bytes, 10);
    assert_int_equal(gguf_tensor_bytes(g), 34);
    assert_int_equal(stat(in_folder("b.gguf"), &st), 0);
    assert_int_equal(gguf_file_bytes(g), (uint64_t)st.st_size);
    size_t header;
    assert_memory_equal(gguf_header(g, &header), "GGUF", 4);
    assert_true((const char *)gguf_header(g, &header) + header <= (const char *)first->data);
    gguf_close(&g);
    assert_null(g);
}

static void test_copied_values_stay_equal(void **state)
{
    (void)state;
    struct gguf *g, *copy;
    struct gguf_writer *w;
    struct error error;
    write_sample(in_folder("b.gguf"));
    assert_int_equal(gguf_open(&g, in_folder("b.gguf"), &error), 0);
    assert_int_equal(gguf_writer_open(&w, in_folder("a.gguf"), &error), 0);
    for (size_t i = 0; i < gguf_value_count(g); i++) gguf_put_copy(w, gguf_value_at(g, i));
    assert_int_equal(gguf_writer_finish(&w, &error), 0);
    assert_int_equal(gguf_open(&copy, in_folder("a.gguf"), &error), 0);
    assert_int_equal(gguf_value_count(copy), gguf_value_count(g));
    check_values(copy);
    gguf_close(&copy);
    gguf_close(&g);
}

static void test_half_written_leaves_nothing(void **state)
{
    (void)state;
    struct gguf_writer *w;
    struct error error;
    char zeros[64] = {0};
    for (int extra = 0; extra < 2; extra++) {
        unlink(in_folder("a.gguf"));
        assert_int_equal(gguf_writer_open(&w, in_folder("a.gguf"), &error), 0);
        gguf_put_tensor(w, "one", quant_format(QUANT_F32), 1, (const uint64_t[]){8});
        if (extra)
            assert_int_equal(gguf_write(w, zeros, 33, &error), ERROR_FAILED);
        else
            assert_int_equal(gguf_write(w, zeros, 31, &error), 0);
        assert_int_equal(gguf_writer_finish(&w, &error), ERROR_FAILED);
        assert_null(w);
        assert_int_not_equal(access(in_folder("a.gguf"), F_OK), 0);
        assert_int_not_equal(access(in_folder("a.gguf.part"), F_OK), 0);
    }
    assert_int_equal(gguf_writer_open(&w, "/nonexistent/a.gguf", &error), ERROR_DISK);
    assert_null(w);
}

/* ---- Shards. ---- */

static void write_shard(const char *name, uint32_t no, uint32_t count, const char *tensor)
{
    struct gguf_writer *w;
    struct error error;
    const float weights[8] = {(float)no};
    assert_int_equal(gguf_writer_open(&w, in_folder(name), &error), 0);
    gguf_put_u32(w, "split.no", no);
    gguf_put_u32(w, "split.count", count);
    gguf_put_u32(w, "split.tensors.count", 2);
    gguf_put_tensor(w, tensor, quant_format(QUANT_F32), 1, (const uint64_t[]){8});
    assert_int_equal(gguf_write(w, weights, sizeof weights, &error), 0);
    assert_int_equal(gguf_writer_finish(&w, &error), 0);
}

static void shards_refused(const char *name, const char *why)
{
    struct gguf *g;
    struct error error = {0};
    assert_int_equal(gguf_open(&g, in_folder(name), &error), ERROR_MODEL);
    assert_null(g);
    if (!strstr(error.text, why)) fail_msg("\"%s\" does not say \"%s\"", error.text, why);
}

static void test_shards_read_as_one(void **state)
{
    (void)state;
    struct gguf *g;
    struct error error;
    write_shard("s-00001-of-00002.gguf", 0, 2, "one");
    shards_refused("s-00001-of-00002.gguf", "cannot be opened");
    write_shard("s-00002-of-00002.gguf", 1, 2, "two");
    assert_int_equal(gguf_open(&g, in_folder("s-00001-of-00002.gguf"), &error), 0);
    assert_int_equal(gguf_tensor_count(g), 2);
    assert_true(((const float *)gguf_tensor_named(g, "one")->data)[0] == 0);
    assert_true(((const float *)gguf_tensor_named(g, "two")->data)[0] == 1);
    assert_int_equal(gguf_tensor_bytes(g), 64);
    gguf_close(&g);
}

static void test_wrong_shards_are_refused(void **state)
{
    (void)state;
    write_shard("t-00001-of-00002.gguf", 0, 2, "one");
    write_shard("t-00002-of-00002.gguf", 1, 2, "one");
    shards_refused("t-00001-of-00002.gguf", "one is there twice");
    shards_refused("t-00002-of-00002.gguf", "first part");
    write_shard("t-00002-of-00002.gguf", 0, 2, "two");
    shards_refused("t-00001-of-00002.gguf", "says it is part 1 of 2");
    write_shard("t-00002-of-00002.gguf", 1, 3, "two");
    shards_refused("t-00001-of-00002.gguf", "says it is part 2 of 3");
    write_shard("a.gguf", 0, 2, "one");
    shards_refused("a.gguf", "one part of several");
}

/* ---- Test models, whole and broken. ---- */

static uint64_t next_random(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return *s >> 33;
}

/* Reads everything an accessor gives, to its last byte, so that the sanitizers can object. */
static unsigned walk(const struct gguf *g)
{
    unsigned sum = 0;
    for (size_t i = 0; i < gguf_value_count(g); i++) {
        const struct gguf_value *v = gguf_value_at(g, i);
        struct gguf_string s;
        size_t cursor = 0;
        int64_t n;
        for (size_t k = 0; k < v->key.len; k++) sum += (unsigned char)v->key.bytes[k];
        while (gguf_array_string(v, &cursor, &s))
            for (size_t k = 0; k < s.len; k++) sum += (unsigned char)s.bytes[k];
        for (uint64_t k = 0; k < v->count && gguf_array_int(v, k, &n); k++) sum += (unsigned)n;
        if (v->bytes) sum += v->data[v->bytes - 1];
    }
    for (size_t i = 0; i < gguf_tensor_count(g); i++) {
        const struct gguf_tensor *t = gguf_tensor_at(g, i);
        float out[256];
        t->format->decode(t->data, out, t->format->block_len);
        sum += ((const unsigned char *)t->data)[t->bytes - 1] + (out[0] > 0 ? 1u : 0u);
        assert_true(t->bytes ==
                    t->ne[0] / t->format->block_len * t->format->block_bytes * t->ne[1] * t->ne[2] * t->ne[3]);
    }
    return sum;
}

static size_t open_and_walk(const char *path, unsigned *sum)
{
    struct gguf *g;
    struct error error = {0};
    int rc = gguf_open(&g, path, &error);
    if (rc) {
        assert_int_equal(rc, ERROR_MODEL);
        assert_true(strlen(error.text) > 10 && error.text[strlen(error.text) - 1] == '.');
        assert_null(g);
        return 0;
    }
    *sum += walk(g);
    gguf_close(&g);
    return 1;
}

static void make(const char *type)
{
    struct error error;
    struct test_model m = {.type = type, .seed = 7};
    if (test_model_write(in_folder("model.gguf"), &m, &error)) fail_msg("%s", error.text);
}

static void test_models_read(void **state)
{
    (void)state;
    static const char *const types[] = {"F32", "Q8_0", "Q4_K", "Q2_K"};
    for (size_t i = 0; i < 4; i++) {
        struct gguf *g;
        struct error error;
        uint32_t n;
        make(types[i]);
        assert_int_equal(gguf_open(&g, in_folder("model.gguf"), &error), 0);
        assert_true(gguf_get_u32(g, "kimi-linear.block_count", &n) && n == 4);
        assert_string_equal(gguf_tensor_named(g, "blk.1.ffn_up_exps.weight")->format->name, types[i]);
        assert_string_equal(gguf_tensor_named(g, "blk.0.ssm_a")->format->name, "F32");
        assert_int_equal(gguf_find(g, "tokenizer.ggml.tokens")->count, 512);
        walk(g);
        gguf_close(&g);
    }
}

static void test_truncated_models_are_refused(void **state)
{
    (void)state;
    struct stat st;
    unsigned sum = 0;
    uint64_t seed = 1;
    make("Q4_K");
    const char *path = in_folder("model.gguf");
    assert_int_equal(stat(path, &st), 0);
    uint64_t len = (uint64_t)st.st_size;
    for (int i = 0; i < 400 && len; i++) {
        /* The data first in large steps, then the header (17 KiB) in small ones. */
        uint64_t step = len > 20000 ? 1 + next_random(&seed) % (len / 12) : 1 + next_random(&seed) % 120;
        len = step < len ? len - step : 0;
        if (len < 20000 && len + step >= 20000) len = 19999;
        assert_int_equal(truncate(path, (off_t)len), 0);
        assert_int_equal(open_and_walk(path, &sum), 0);
    }
    assert_true(len < 4000);
}

/* Flips 1 to 4 bits of the first `reach` bytes, opens, and puts them back. */
static size_t flip_and_open(int fd, const char *path, size_t reach, uint64_t *seed, unsigned *sum)
{
    size_t flips = 1 + next_random(seed) % 4, at[4];
    unsigned char was[4];
    for (size_t k = 0; k < flips; k++) {
        at[k] = next_random(seed) % reach;
        assert_int_equal(pread(fd, &was[k], 1, (off_t)at[k]), 1);
        unsigned char now = (unsigned char)(was[k] ^ 1u << next_random(seed) % 8);
        assert_int_equal(pwrite(fd, &now, 1, (off_t)at[k]), 1);
    }
    size_t opened = open_and_walk(path, sum);
    for (size_t k = flips; k-- > 0;) assert_int_equal(pwrite(fd, &was[k], 1, (off_t)at[k]), 1);
    return opened;
}

static void test_flipped_models_do_no_harm(void **state)
{
    (void)state;
    static const size_t reaches[] = {24, 2000, 17000, 1 << 20};
    unsigned sum = 0;
    uint64_t seed = 3;
    make("Q2_K");
    const char *path = in_folder("model.gguf");
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    size_t opened = 0, tried = 0;
    for (size_t r = 0; r < 4; r++)
        for (int i = 0; i < 400; i++, tried++) opened += flip_and_open(fd, path, reaches[r], &seed, &sum);
    /* The tensor descriptions, the last part of the header, where most flips are fatal. */
    for (int i = 0; i < 600; i++, tried++) {
        unsigned char was, now;
        off_t at = (off_t)(11500 + next_random(&seed) % 5400);
        assert_int_equal(pread(fd, &was, 1, at), 1);
        now = (unsigned char)next_random(&seed);
        assert_int_equal(pwrite(fd, &now, 1, at), 1);
        opened += open_and_walk(path, &sum);
        assert_int_equal(pwrite(fd, &was, 1, at), 1);
    }
    close(fd);
    assert_int_equal(open_and_walk(path, &sum), 1);
    assert_true(opened > 0 && opened < tried);
    print_message("%zu of %zu damaged files were refused\n", tried - opened, tried);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_start_is_checked),
        cmocka_unit_test(test_values_are_checked),
        cmocka_unit_test(test_tensors_are_checked),
        cmocka_unit_test(test_tensor_sets_are_checked),
        cmocka_unit_test(test_what_is_no_file_is_refused),
        cmocka_unit_test(test_written_reads_back),
        cmocka_unit_test(test_copied_values_stay_equal),
        cmocka_unit_test(test_half_written_leaves_nothing),
        cmocka_unit_test(test_shards_read_as_one),
        cmocka_unit_test(test_wrong_shards_are_refused),
        cmocka_unit_test(test_models_read),
        cmocka_unit_test(test_truncated_models_are_refused),
        cmocka_unit_test(test_flipped_models_do_no_harm),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
