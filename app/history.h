/* SPDX-License-Identifier: MIT
 *
 * The questions asked before: DIR/history, one a line (newline as \n, backslash as \\), mode 0600, the last at the end.
 * Two programs may append at once; each line is one write.
 */
#ifndef LECTERN_APP_HISTORY_H
#define LECTERN_APP_HISTORY_H

#include <stdbool.h>
#include <stddef.h>

#include "quant/error.h"

#define HISTORY_MOST 1000 /* questions kept */

struct history {
    char **items;
    size_t count, capacity;
    char *path; /* NULL: kept in memory only */
};

/* Reads DIR/history; dir is made (0700) when missing. dir NULL: nothing is kept on disk. A file grown to twice
 * HISTORY_MOST is cut back. */
int history_open(struct history *, const char *dir, struct error *);
/* Adds a question and writes it down; one like the last is not added again. */
int history_add(struct history *, const char *text, struct error *);
/* The latest question before index `before` that contains `pattern` (any case); SIZE_MAX when there is none. */
size_t history_search(const struct history *, size_t before, const char *pattern);
void history_free(struct history *);

#endif
