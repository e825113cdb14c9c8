/* SPDX-License-Identifier: MIT
 *
 * make_model OUT [--preset tiny|odd|...] [--type F32|Q4_K|...] [--seed N]: test models for the shell tests.
 */
#include "tests/make_model.h"

#include <stdlib.h>
#include <string.h>

static int usage(void)
{
    fprintf(stderr, "usage: make_model OUT [--preset tiny|odd|...] [--type FORMAT] [--seed N]\n");
    return ERROR_USAGE;
}

int main(int argc, char **argv)
{
    struct test_model m = {.seed = 1};
    struct error error;
    if (argc < 2) return usage();
    for (int i = 2; i < argc; i += 2) {
        if (i + 1 == argc) return usage();
        if (strcmp(argv[i], "--preset") == 0)
            m.preset = argv[i + 1];
        else if (strcmp(argv[i], "--type") == 0)
            m.type = argv[i + 1];
        else if (strcmp(argv[i], "--seed") == 0)
            m.seed = strtoull(argv[i + 1], NULL, 10);
        else
            return usage();
    }
    int rc = test_model_write(argv[1], &m, &error);
    if (rc) fprintf(stderr, "make_model: %s\n", error.text);
    return rc;
}
