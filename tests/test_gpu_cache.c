/* SPDX-License-Identifier: MIT
 *
 * Compiled kernels kept on disk: written once, left alone when there is nothing new, and no harm from a file that is
 * damaged, foreign, cut short or in the way.
 */
#include <dirent.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/ops.h"

enum { SKIP = 77, MOST = 1 << 26 };

static char folder[128], path[512];

static int gpu_open(struct backend **out, struct error *error)
{
    int rc = gpu_backend_open(out, UINT32_MAX, true, error);
    return rc == ERROR_FIT ? gpu_backend_open(out, 0, true, error) : rc;
}

/* Opens the device with the folder, computes a norm that is known, and closes. */
static void work(void)
{
    static const float x[4] = {1, -1, 1, -1}, gain[4] = {1, 2, 3, 4};
    float y[4] = {0};
    struct backend *b;
    struct error error;
    uint64_t at;
    assert_int_equal(gpu_open(&b, &error), 0);
    gpu_keep_kernels(b, folder);
    assert_int_equal(b->ops->alloc(b, 48, "test", &at, &error), 0);
    assert_int_equal(b->ops->upload(b, at, x, sizeof x, &error), 0);
    assert_int_equal(b->ops->upload(b, at + 16, gain, sizeof gain, &error), 0);
    assert_int_equal(b->ops->begin(b, &error), 0);
    b->ops->rms_norm(b, at, at + 16, at + 32, 1, 4, 0);
    assert_int_equal(b->ops->submit(b, &error), 0);
    assert_int_equal(b->ops->download(b, y, at + 32, sizeof y, &error), 0);
    for (int i = 0; i < 4; i++) assert_true(fabsf(y[i] - x[i] * gain[i]) < 1e-6f);
    b->ops->release(b, at);
    assert_int_equal(gpu_validation_messages(b), 0);
    b->ops->destroy(b);
}

/* The only file of the folder goes to `path`; fails when there is another. */
static void find_file(void)
{
    int found = 0;
    DIR *dir = opendir(folder);
    assert_non_null(dir);
    for (struct dirent *entry = readdir(dir); entry; entry = readdir(dir)) {
        if (entry->d_name[0] == '.') continue;
        snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
        found++;
    }
    closedir(dir);
    assert_int_equal(found, 1);
}

static unsigned char *contents(size_t *size)
{
    unsigned char *bytes = malloc(MOST);
    FILE *f = fopen(path, "rb");
    assert_true(f && bytes);
    *size = fread(bytes, 1, MOST, f);
    assert_true(*size >= 64 && *size < MOST);
    fclose(f);
    return bytes;
}

static void replace(const unsigned char *bytes, size_t size)
{
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, size, f), size);
    fclose(f);
}

static void test_kept(void **state)
{
    (void)state;
    struct stat before, after;
    work();
    find_file();
    assert_int_equal(stat(path, &before), 0);
    assert_true(before.st_size >= 64);
    work();
    find_file();
    assert_int_equal(stat(path, &after), 0);
    assert_int_equal(before.st_ino, after.st_ino); /* read, and with nothing new not written again */
}

/* However the file is damaged, the next run works and leaves a whole one. */
static void test_damaged(void **state)
{
    (void)state;
    size_t size;
    unsigned char *whole = contents(&size);
    const size_t flips[] = {0, 31, 32, 36, 40, 44, 48, 63, size - 1}, cuts[] = {0, 1, 32, 63, size - 1};
    for (size_t i = 0; i < sizeof flips / sizeof *flips + sizeof cuts / sizeof *cuts; i++) {
        const size_t cut = i - sizeof flips / sizeof *flips;
        struct stat damaged, after;
        if (i < sizeof flips / sizeof *flips) {
            whole[flips[i]] ^= 0x10;
            replace(whole, size);
            whole[flips[i]] ^= 0x10;
        } else {
            replace(whole, cuts[cut]);
        }
        assert_int_equal(stat(path, &damaged), 0);
        work();
        find_file();
        assert_int_equal(stat(path, &after), 0);
        assert_int_not_equal(damaged.st_ino, after.st_ino);
        assert_true(after.st_size >= 64);
    }
    free(whole);
}

static void test_in_the_way(void **state)
{
    (void)state;
    struct stat status;
    unlink(path);
    assert_int_equal(mkdir(path, 0700), 0); /* rename cannot replace it */
    work();
    find_file(); /* and no temporary file is left */
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISDIR(status.st_mode));
    rmdir(path);
    assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes to it: opening must not wait */
    work();
    find_file();
    assert_int_equal(stat(path, &status), 0);
    assert_true(S_ISREG(status.st_mode));
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kept),
        cmocka_unit_test(test_damaged),
        cmocka_unit_test(test_in_the_way),
    };
    const char *temporary = getenv("TMPDIR");
    struct backend *b;
    struct error error;
    if (gpu_open(&b, &error)) {
        printf("test_gpu_cache: skipped: %s\n", error.text);
        return SKIP;
    }
    b->ops->destroy(b);
    snprintf(folder, sizeof folder, "%s/lectern-test-%ld-cache", temporary ? temporary : "/tmp", (long)getpid());
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (failed) unlink(path);
    rmdir(folder);
    return failed;
}
