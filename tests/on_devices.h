/* SPDX-License-Identifier: MIT
 *
 * Tests that must hold on every device: the names in $LECTERN_TEST_DEVICES (default "cpu,vulkan"), "vulkan" being a
 * software device where there is no other. A device that is not there is left out, and said so.
 */
#ifndef LECTERN_TESTS_ON_DEVICES_H
#define LECTERN_TESTS_ON_DEVICES_H

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/engine.h"

enum { TEST_DEVICES = 8 };

/* The device the tests run on now, and whether it multiplies f16. */
static char test_device[16];
static bool test_halves;

static inline bool on_cpu(void)
{
    return !strcmp(test_device, "cpu");
}

static inline bool find_device(const char *name, size_t len, char out[16])
{
    struct engine_device list[16];
    size_t count = 0;
    struct error error;
    if (engine_devices(list, 16, &count, &error)) return false;
    for (size_t i = 0; i < count; i++) {
        if (!list[i].is_usable || strncmp(list[i].id, name, len)) continue;
        if (list[i].id[len] && list[i].id[len] != ':') continue;
        memcpy(out, list[i].id, sizeof list[i].id);
        test_halves = strstr(list[i].note, "cooperative matrices") != NULL;
        return true;
    }
    return false;
}

/* Runs group() with test_device set to each device in turn; returns the sum of what it returns. */
static inline int for_each_device(int (*group)(void))
{
    const char *names = getenv("LECTERN_TEST_DEVICES");
    int failed = 0;
    if (!names || !*names) names = "cpu,vulkan";
    while (*names) {
        size_t len = strcspn(names, ",");
        if (find_device(names, len, test_device)) {
            printf("-- on %s\n", test_device);
            failed += group();
        } else {
            printf("-- no device %.*s here: left out\n", (int)len, names);
        }
        names += len + (names[len] == ',');
    }
    return failed;
}

/* A temporary file of this process. */
static inline void temp_path(char out[128], const char *name)
{
    const char *dir = getenv("TMPDIR");
    snprintf(out, 128, "%s/lectern-test-%ld-%s", dir ? dir : "/tmp", (long)getpid(), name);
}

#endif
