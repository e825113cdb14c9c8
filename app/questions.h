/* SPDX-License-Identifier: MIT
 *
 * Questions from a file or a pipe, one a line, each given as soon as its line is there: a script may wait for an answer
 * before it writes the next question.
 */
#ifndef LECTERN_APP_QUESTIONS_H
#define LECTERN_APP_QUESTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "quant/error.h"

#define QUESTION_MOST_BYTES ((size_t)1 << 20)

struct questions {
    int fd;
    char *bytes;
    size_t len, capacity, at; /* what was read; where the next line begins in it */
    bool has_ended;
};

/* Path "-" is stdin. ERROR_INPUT, with the reason. */
int questions_open(struct questions *, const char *path, struct error *);
/* The next line that is not blank, without its end: valid until the next call. NULL: there is none, or a signal came
 * (console_signal). ERROR_USAGE: it is too long or has NUL bytes. */
int questions_next(struct questions *, const char **line, struct error *);
void questions_close(struct questions *);

#endif
