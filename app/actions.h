/* SPDX-License-Identifier: MIT
 *
 * Commands with actions (sessions, models): the action is the first argument, "list" when there is none.
 */
#ifndef LECTERN_APP_ACTIONS_H
#define LECTERN_APP_ACTIONS_H

#include <stddef.h>

#include "quant/error.h"

struct action_form {
    const char *name;
    int least, most; /* arguments after it */
};

/* Rows of `row` bytes that begin with a struct action_form. */
struct action_table {
    const char *command;
    const void *rows;
    size_t count, row;
};

/* The row that argv[1] names; NULL with ERROR_USAGE when there is none, or when it takes another number of arguments.
 */
const void *action_find(const struct action_table *, int argc, char *const *argv, struct error *);

#endif
