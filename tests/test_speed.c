/* SPDX-License-Identifier: MIT
 *
 * The estimate of reading times, against made clocks of known cost.
 */
#include <limits.h>
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

#include "app/speed.h"

static struct engine_info cpu = {.device_id = "cpu", .model_fingerprint = {1, 2, 3, 0xff}},
                          gpu = {.device_id = "vulkan:0", .model_fingerprint = {1, 2, 3, 0xff}};
static char dir[] = "/tmp/lectern-speed-XXXXXX", file[64];

struct made { /* a device: a token at depth d takes a + b d, a batch up to `noise` more or less, the first `once` more
               */
    double a, b, noise, once;
    uint32_t seed;
};

static double made_seconds(const struct made *m, size_t first, size_t end)
{
    const double x = (double)first, y = (double)end;
    return m->a * (y - x) + m->b * (y * y - x * x) / 2;
}

/* Reads [first, end) in batches of 512 as the worker tells of it. */
static struct speed made_read(struct made *m, size_t first, size_t end)
{
    struct speed_meter meter = {0};
    double clock = m->once;
    for (size_t at = first; at < end;) {
        const size_t next = end - at < 512 ? end : at + 512;
        m->seed = m->seed * 1664525u + 1013904223u;
        clock += made_seconds(m, at, next) * (1 + m->noise * ((double)(m->seed >> 8) / (1 << 23) - 1));
        speed_meter_note(&meter, first, at = next, clock);
    }
    return speed_meter_read(&meter);
}

static double off(const struct speed *s, const struct made *m, size_t first, size_t end)
{
    return speed_seconds(s, first, end) / made_seconds(m, first, end);
}

/* From what 16,384 tokens took, the time for 131,072; also where the first batch compiles kernels for seconds. */
static void test_depth(void **state)
{
    (void)state;
    static const double slopes[] = {0, 5e-5, 1.6e-4, 7e-4};
    for (size_t i = 0; i < sizeof slopes / sizeof *slopes; i++) {
        struct made m = {.a = 4.4e-4, .b = 4.4e-4 * slopes[i], .once = 3};
        struct speed s = made_read(&m, 0, 16384);
        assert_true(fabs(off(&s, &m, 0, 131072) - 1) < 0.04);
        assert_true(fabs(off(&s, &m, 100000, 131072) - 1) < 0.06);
        m.noise = 0.1;
        s = made_read(&m, 0, 16384);
        assert_true(fabs(off(&s, &m, 0, 131072) - 1) < 0.25);
    }
}

/* 54,000 tokens that took 126 s, after readings of 2,000: told were 24. */
static void test_short_readings(void **state)
{
    (void)state;
    struct made m = {.a = 4.4e-4, .b = 7.0e-8, .noise = 0.05};
    struct speed s = made_read(&m, 0, 2000);
    assert_true(made_seconds(&m, 0, 54000) > 120 && made_seconds(&m, 0, 54000) < 130);
    assert_true(off(&s, &m, 0, 54000) > 0.6 && off(&s, &m, 0, 54000) < 1.7);
    for (int i = 0; i < 20; i++) { /* however the noise falls */
        s = made_read(&m, 0, 2000);
        assert_true(off(&s, &m, 0, 54000) > 0.6 && off(&s, &m, 0, 54000) < 1.7);
    }
    s = made_read(&m, 0, 600); /* one batch and a bit */
    assert_true(s.tokens >= 512 && off(&s, &m, 0, 600) > 0.9 && off(&s, &m, 0, 600) < 1.1);
}

/* What is nonsense, or nothing, gives no time, and never one below nothing. */
static void test_odd_sums(void **state)
{
    (void)state;
    struct speed s = {0};
    assert_true(speed_seconds(&s, 0, 1000) <= 0);
    speed_add(&s, 100, 100, 1);
    speed_add(&s, 100, 50, 1);
    speed_add(&s, 0, 100, -1);
    speed_add(&s, 0, 100, NAN);
    assert_true(speed_seconds(&s, 0, 1000) <= 0);
    speed_add(&s, 0, 20000, 20);
    speed_add(&s, 20000, 40000, 2); /* faster deep down: taken for level */
    assert_true(fabs(speed_seconds(&s, 0, 40000) - 22) < 1e-6);
    assert_true(speed_seconds(&s, 100000, 101000) > 0);
    assert_true(speed_seconds(&s, 10, 10) <= 0);
    s = (struct speed){0};
    speed_add(&s, 0, 20000, 0.001);
    speed_add(&s, 20000, 40000, 20); /* as if the first had cost nothing */
    assert_true(speed_seconds(&s, 0, 100) >= 0);
}

static void write_file(const char *text)
{
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    assert_true(fputs(text, f) >= 0);
    assert_int_equal(fclose(f), 0);
}

static void test_file(void **state)
{
    (void)state;
    struct made slow = {.a = 4e-4, .b = 6e-8}, fast = {.a = 7e-5, .b = 4e-9};
    struct speed s = speed_recall(dir, &cpu);
    assert_true(speed_seconds(&s, 0, 1000) <= 0);
    s = made_read(&slow, 0, 30000);
    speed_keep(dir, &cpu, &s);
    s = made_read(&fast, 0, 60000);
    speed_keep(dir, &gpu, &s);
    s = made_read(&fast, 0, 500); /* too short to count */
    speed_keep(dir, &cpu, &s);
    s = speed_recall(dir, &cpu);
    assert_true(fabs(off(&s, &slow, 0, 100000) - 1) < 0.02);
    s = speed_recall(dir, &gpu);
    assert_true(fabs(off(&s, &fast, 0, 100000) - 1) < 0.02);
    for (int i = 0; i < 12; i++) { /* the device became twice as fast */
        struct made faster = {.a = 2e-4, .b = 3e-8};
        s = made_read(&faster, 0, 30000);
        speed_keep(dir, &cpu, &s);
    }
    s = speed_recall(dir, &cpu);
    assert_true(fabs(off(&s, &slow, 0, 100000) - 0.5) < 0.01);
    struct stat st;
    assert_int_equal(stat(file, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
    s = speed_recall(NULL, &cpu);
    assert_true(s.tokens <= 0);
    speed_keep(NULL, &cpu, &s);
    speed_keep("/nonexistent", &cpu, &s);
}

/* A file of earlier versions has one number: read, and replaced line by line. */
static void test_old_file(void **state)
{
    (void)state;
    struct made m = {.a = 4e-4, .b = 6e-8};
    write_file("010203ff00000000 cpu 2000.0\n010203ff00000000 vulkan:0 13000.0\n");
    struct speed s = speed_recall(dir, &cpu);
    assert_true(fabs(speed_seconds(&s, 0, 512) - 512 / 2000.0) < 0.01);
    assert_true(speed_seconds(&s, 0, 50000) > 50000 / 2000.0); /* longer texts are slower */
    s = made_read(&m, 0, 20000);
    speed_keep(dir, &cpu, &s);
    s = speed_recall(dir, &cpu);
    assert_true(fabs(off(&s, &m, 0, 100000) - 1) < 0.05);
    s = speed_recall(dir, &gpu);
    assert_true(fabs(speed_seconds(&s, 0, 512) - 512 / 13000.0) < 0.001);
    FILE *f = fopen(file, "r");
    char name[32], device[32];
    double rate = 0;
    assert_non_null(f);
    assert_int_equal(fscanf(f, "%31s %31s %lf", name, device, &rate), 3); /* as those versions read it */
    assert_true(rate > 500 && rate < 2500);
    fclose(f);
}

static void test_hostile_file(void **state)
{
    (void)state;
    static const char *const lines[] = {"",
                                        "x",
                                        "010203ff00000000 cpu ",
                                        "010203ff00000000 cpu \n",
                                        "010203ff00000000 cpu nan 1 1 1 1 1\n",
                                        "010203ff00000000 cpu 5 1 2\n",
                                        "010203ff00000000 cpu 5 -1 1 1 1 1\n",
                                        "010203ff00000000 cpu inf inf inf inf inf inf\n",
                                        "010203ff00000000 cpu 0 0 0 0 0 0\n",
                                        "010203ff00000000 cpu 1e999\n"};
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        write_file(lines[i]);
        struct speed s = speed_recall(dir, &cpu);
        assert_true(speed_seconds(&s, 0, 1000) <= 0);
    }
    write_file("010203ff00000000 cpu 5 1e29 0 0 1e-9 1e30\n"); /* numbers, if odd ones */
    struct speed s = speed_recall(dir, &cpu);
    assert_true(speed_seconds(&s, 0, 1000) >= 0);
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(file);
    return rmdir(dir);
}

int main(void)
{
    if (!mkdtemp(dir)) return 1;
    snprintf(file, sizeof file, "%s/reading-speed", dir);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_depth), cmocka_unit_test(test_short_readings), cmocka_unit_test(test_odd_sums),
        cmocka_unit_test(test_file),  cmocka_unit_test(test_old_file),       cmocka_unit_test(test_hostile_file),
    };
    return cmocka_run_group_tests_name("test_speed", tests, NULL, remove_folder);
}
