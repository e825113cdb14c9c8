/* SPDX-License-Identifier: MIT
 *
 * Manifests: what is written is read back; anything else (cut at every byte, changed at every byte, well-formed lies)
 * is refused. Names and addresses that may not be used. The catalogue's plan.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>
#include <openssl/sha.h>

#include "app/catalogue.h"
#include "app/download.h"
#include "app/manifest.h"
#include "app/models.h"
#include "app/model_parts.h"
#include "app/pull_source.h"
#include "quant/quant.h"

#define NAME "x.gguf.manifest"

struct kit {
    char path[64];
    int dir;
};

static int set_up(void **state)
{
    struct kit *k = calloc(1, sizeof *k);
    if (!k) return -1;
    strcpy(k->path, "/tmp/lectern-manifest-XXXXXX");
    if (!mkdtemp(k->path)) return -1;
    k->dir = open(k->path, O_RDONLY | O_DIRECTORY);
    *state = k;
    return k->dir < 0;
}

static int tear_down(void **state)
{
    struct kit *k = *state;
    unlinkat(k->dir, NAME, 0);
    close(k->dir);
    rmdir(k->path);
    free(k);
    return 0;
}

static void make(struct manifest *m)
{
    struct error error;
    assert_int_equal(manifest_init(m, "https://example.org/x.gguf", 50000, 4096, &error), 0);
    assert_int_equal(m->n_chunks, 13);
    strcpy(m->etag, "\"an etag\"");
    strcpy(m->revision, "0123456789abcdef0123456789abcdef01234567");
    m->trust = TRUST_SERVER;
    for (size_t i = 0; i < 32; i++) m->sha256[i] = (uint8_t)(i * 7 + 1);
    for (size_t i = 0; i < m->n_chunks; i += 2) {
        m->chunks[i].state = CHUNK_HERE;
        memset(m->chunks[i].sha256, (int)i + 1, 32);
    }
}

static size_t slurp(const struct kit *k, char *out, size_t cap)
{
    int file = openat(k->dir, NAME, O_RDONLY);
    ssize_t n = read(file, out, cap - 1);
    close(file);
    assert_true(n > 0);
    out[n] = 0;
    return (size_t)n;
}

static void spill(const struct kit *k, const char *text, size_t n)
{
    int file = openat(k->dir, NAME, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(write(file, text, n), (ssize_t)n);
    close(file);
}

/* The text with a right last line: what a careful liar would write. */
static void spill_signed(const struct kit *k, const char *text)
{
    uint8_t hash[32];
    char hex[65], all[8192];
    SHA256((const unsigned char *)text, strlen(text), hash);
    int n = snprintf(all, sizeof all, "%send %s\n", text, hash_to_hex(hash, hex));
    spill(k, all, (size_t)n);
}

static bool is_read(const struct kit *k)
{
    struct manifest m;
    struct error error;
    bool found = false;
    int rc = manifest_read(&m, k->dir, NAME, &found, &error);
    assert_int_equal(rc == 0, found);
    if (found) manifest_free(&m);
    return found;
}

static void test_round_trip(void **state)
{
    struct kit *k = *state;
    struct manifest m, back;
    struct error error;
    bool found = true;
    assert_int_equal(manifest_read(&back, k->dir, NAME, &found, &error), 0);
    assert_false(found);
    make(&m);
    assert_int_equal(manifest_write(&m, k->dir, NAME, &error), 0);
    assert_int_equal(manifest_read(&back, k->dir, NAME, &found, &error), 0);
    assert_true(found);
    assert_string_equal(back.url, m.url);
    assert_string_equal(back.revision, m.revision);
    assert_string_equal(back.etag, m.etag);
    assert_int_equal(back.size, m.size);
    assert_int_equal(back.chunk, m.chunk);
    assert_int_equal(back.trust, m.trust);
    assert_memory_equal(back.sha256, m.sha256, 32);
    assert_int_equal(back.n_chunks, m.n_chunks);
    assert_memory_equal(back.chunks, m.chunks, m.n_chunks * sizeof *m.chunks);
    assert_int_equal(manifest_bytes_here(&back), 6 * 4096 + 50000 - 12 * 4096);
    assert_int_equal(manifest_chunk_bytes(&back, 12), 50000 - 12 * 4096);
    manifest_free(&m);
    manifest_free(&back);
}

static void test_cut_and_changed(void **state)
{
    struct kit *k = *state;
    struct manifest m;
    struct error error;
    char text[4096];
    make(&m);
    assert_int_equal(manifest_write(&m, k->dir, NAME, &error), 0);
    manifest_free(&m);
    size_t size = slurp(k, text, sizeof text);
    for (size_t n = 0; n < size; n++) {
        spill(k, text, n);
        assert_false(is_read(k));
    }
    for (size_t i = 0; i < size; i++) {
        text[i] ^= 1;
        spill(k, text, size);
        text[i] ^= 1;

        assert_false(is_read(k));
    }
    spill(k, text, size);
    assert_true(is_read(k));
}

#define HASH "00000000000000000000000000000000000000000000000000000000000000ff"
#define TOP "lectern-manifest 1\nurl https://a/x\nrevision -\netag -\n"

static void test_lies(void **state)
{
    struct kit *k = *state;
    static const char *const lies[] = {
        "",
        "lectern-manifest 2\nurl -\nrevision -\netag -\nsize 9\nchunk 4096\nsha256 - none\n",
        TOP "size 0\nchunk 4096\nsha256 - none\n",
        TOP "size -1\nchunk 4096\nsha256 - none\n",
        TOP "size 18446744073709551616\nchunk 4096\nsha256 - none\n",
        TOP "size 18446744073709551615\nchunk 4096\nsha256 - none\n", /* too many chunks */
        TOP "size 9000\nchunk 0\nsha256 - none\n",
        TOP "size 9000\nchunk 4294967296\nsha256 - none\n",
        TOP "size 9000\nchunk 4096\nsha256 " HASH " none\n",
        TOP "size 9000\nchunk 4096\nsha256 - server\n",
        TOP "size 9000\nchunk 4096\nsha256 " HASH " friend\n",
        TOP "size 9000\nchunk 4096\n",
        TOP "size 9000\nchunk 4096\nsha256 - none\nhave 3 " HASH "\n",
        TOP "size 9000\nchunk 4096\nsha256 - none\nhave 1 " HASH "\nhave 1 " HASH "\n",
        TOP "size 9000\nchunk 4096\nsha256 - none\nhave 1 " HASH "\nhave 0 " HASH "\n",
        TOP "size 9000\nchunk 4096\nsha256 - none\nhave 0 " HASH "0\n",
        TOP "size 9000\nchunk 4096\nsha256 - none\nmore\n",
        "lectern-manifest 1\nurl -\netag -\nrevision -\nsize 9000\nchunk 4096\nsha256 - none\n",
        "lectern-manifest 1\nurl -\nrevision 0123456789abcdef0123456789abcdef012345678\netag -\nsize 9000\nchunk 4096\n"
        "sha256 - none\n",
    };
    for (size_t i = 0; i < sizeof lies / sizeof *lies; i++) {
        spill_signed(k, lies[i]);
        if (is_read(k)) fail_msg("lie %zu was believed", i);
    }
    spill_signed(k, TOP "size 9000\nchunk 4096\nsha256 " HASH " user\nhave 0 " HASH "\nhave 2 " HASH "\n");
    assert_true(is_read(k));
    assert_int_equal(unlinkat(k->dir, NAME, 0), 0);
    assert_int_equal(symlinkat("/etc/passwd", k->dir, NAME), 0);
    assert_false(is_read(k));
}

static void test_unwritable(void **state)
{
    struct kit *k = *state;
    struct manifest m;
    struct error error;
    make(&m);
    assert_int_equal(mkdirat(k->dir, NAME ".new", 0700), 0);
    assert_int_equal(manifest_write(&m, k->dir, NAME, &error), ERROR_DISK);
    assert_int_equal(unlinkat(k->dir, NAME ".new", AT_REMOVEDIR), 0);
    manifest_free(&m);
}

static void test_names(void **state)
{
    (void)state;
    static const char *const good[] = {"a.gguf", "Kimi-48B_Q4.K+M.gguf"};
    static const char *const bad[] = {"",        ".gguf",         "a",         "a.gguf/",  "../a.gguf", "a/b.gguf",
                                      ".a.gguf", "-a.gguf",       "a b.gguf",  "a\n.gguf", "a%2f.gguf", "a.gguf.part",
                                      "a.GGUF",  "\xc3\xa4.gguf", "a\\b.gguf", "a;rm.gguf"};
    char longest[260];
    memset(longest, 'a', sizeof longest);
    strcpy(longest + 195, ".gguf");
    assert_true(download_name_is_good(longest));
    strcpy(longest + 196, ".gguf");
    longest[195] = 'a';
    assert_false(download_name_is_good(longest));
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_true(download_name_is_good(good[i]));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (download_name_is_good(bad[i])) fail_msg("\"%s\" passed", bad[i]);
}

static void test_addresses(void **state)
{
    (void)state;
    struct error error;
    static const char *const good[] = {"https://example.org/x", "https://example.org:8443/x?y=1",
                                       "http://127.0.0.1:1/x", "http://localhost/x", "http://[::1]:80/x"};
    static const char *const bad[] = {"http://example.org/x",
                                      "http://127.0.0.1.example.org/x",
                                      "http://localhost@example.org/x",
                                      "https://me:pw@example.org/x",
                                      "https://me@example.org/x",
                                      "ftp://example.org/x",
                                      "file:///etc/passwd",
                                      "x",
                                      "https://example.org/a b",
                                      "https://example.org/a\nb",
                                      "http://[::2]/x",
                                      "http://10.0.0.1/x"};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) assert_int_equal(download_check_url(good[i], &error), 0);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (!download_check_url(bad[i], &error)) fail_msg("\"%s\" passed", bad[i]);
    assert_true(download_same_origin("https://Example.org/a", "https://example.org:443/b"));
    assert_false(download_same_origin("https://example.org/a", "http://example.org/a"));
    assert_false(download_same_origin("https://example.org/a", "https://example.org:444/a"));
    assert_false(download_same_origin("https://example.org/a", "https://cdn.example.org/a"));
}

static void test_sources(void **state)
{
    (void)state;
    struct pull_source s;
    struct error error;
    unsetenv("HF_ENDPOINT");
    assert_int_equal(pull_source_parse(&s, "Q4_K_M", NULL, &error), 0);
    assert_string_equal(s.name, "moonshotai_Kimi-Linear-48B-A3B-Instruct-Q4_K_M.gguf");
    assert_string_equal(s.before,
                        "https://huggingface.co/bartowski/moonshotai_Kimi-Linear-48B-A3B-Instruct-GGUF/resolve/");
    assert_string_equal(s.revision, "main");
    assert_true(s.is_hub);
    assert_int_equal(pull_source_parse(&s, "hf:a/b/c/d.gguf", "v1", &error), 0);
    assert_string_equal(s.after, "/c/d.gguf");
    assert_string_equal(s.name, "d.gguf");
    assert_string_equal(s.revision, "v1");
    assert_int_equal(pull_source_parse(&s, "https://example.org/d.gguf?x=../y.gguf", NULL, &error), 0);
    assert_string_equal(s.name, "d.gguf");
    assert_false(s.is_hub);
    static const char *const bad[] = {
        "nosuch",       "hf:a",           "hf:a/b",       "hf:a/../c.gguf",       "hf:a/b/.c.gguf",
        "hf:a/b/c.bin", "hf:/a/b/c.gguf", "hf:a//c.gguf", "https://example.org/", "https://example.org/a"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (pull_source_parse(&s, bad[i], NULL, &error) != ERROR_USAGE) fail_msg("\"%s\" passed", bad[i]);
    assert_int_equal(pull_source_parse(&s, "q4_k_m", "a/b", &error), ERROR_USAGE);
    assert_int_equal(pull_source_parse(&s, "q4_k_m", "", &error), ERROR_USAGE);
}

static void test_catalogue(void **state)
{
    (void)state;
    struct engine_params params = {.rows_dtype = ENGINE_F16};
    unsigned last = UINT32_MAX;
    for (const struct catalogue_entry *e = catalogue; e->name; e++) {
        uint8_t hash[32];
        struct model_parts parts = model_parts_of(catalogue_file_name(e));
        uint64_t sum = 0;
        assert_true(download_name_is_good(catalogue_file_name(e)));
        assert_ptr_equal(catalogue_find(e->name), e);
        assert_ptr_equal(catalogue_find_file(catalogue_file_name(e)), e);
        assert_true(parts.number == 1 && !(e->sha256 && parts.count > 1));
        for (unsigned i = 0; e->part_bytes && i < parts.count; i++) sum += e->part_bytes[i];
        assert_true(!e->part_bytes || sum == e->bytes);
        assert_true(!e->format || quant_format_named(e->format));
        assert_true(e->quality < last);
        assert_true(!e->sha256 || hash_from_hex(e->sha256, hash));
        assert_true(e->bytes_are_known || !e->sha256);
        last = e->quality;
    }
    const struct catalogue_entry *e = catalogue_find("q4_k_m");
    assert_int_equal(e->bytes, 30061058720);
    struct engine_plan p = catalogue_plan(e, 0, &params, true);
    assert_false(p.fits);
    assert_int_equal(p.context_fits, 0);
    assert_int_equal(p.rows, 131072ull * 8064); /* 7 layers of 576 halves a token */
    assert_int_equal(p.state, 44892160);        /* 42.8 MiB */
    uint64_t need = p.weights + p.rows + p.state + p.workspace;
    assert_true(catalogue_plan(e, need, &params, true).fits);
    p = catalogue_plan(e, need - 1, &params, true);
    assert_false(p.fits);
    assert_int_equal(p.context_fits, 131072 - STATE_SEGMENT);
    /* A GPU takes larger batches, where there is room for them. */
    const struct engine_plan large = catalogue_plan(e, UINT64_MAX, &params, false);
    need = large.weights + large.rows + large.state + large.workspace;
    assert_true(large.fits);
    assert_int_equal(catalogue_plan(e, need, &params, false).workspace, large.workspace);
    p = catalogue_plan(e, need - 1, &params, false);
    assert_true(p.fits);
    assert_int_equal(large.workspace - p.workspace, 1024 * 210000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_and_changed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_unwritable, set_up, tear_down),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_sources),
        cmocka_unit_test(test_catalogue),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
