/* SPDX-License-Identifier: MIT
 *
 * How every layer reports failure: a function returns 0 or one of the codes below and, on failure, leaves one clear
 * sentence in the caller's struct error. The codes are the program's exit codes, so app never translates them.
 * This header is the one thing all layers share; it depends on libc alone.
 */
#ifndef LECTERN_QUANT_ERROR_H
#define LECTERN_QUANT_ERROR_H

#include <stdarg.h>
#include <stdio.h>

enum error_code {
    ERROR_NONE = 0,
    ERROR_FAILED = 1,      /* anything not named below, out of memory included */
    ERROR_USAGE = 2,       /* the command line or an argument */
    ERROR_MODEL = 3,       /* model file missing, broken, or of another architecture */
    ERROR_INPUT = 4,       /* a document cannot be read */
    ERROR_FIT = 5,         /* does not fit: memory or context */
    ERROR_DISK = 6,        /* disk full, or a write failed */
    ERROR_STATE = 7,       /* a stored state cannot be used */
    ERROR_CANCELLED = 130, /* the user stopped it */
};

struct error {
    enum error_code code;
    char text[480]; /* one sentence, no newline, UTF-8 */
};

/* Fills *e (which may be NULL) and returns code, so that a failure is one line: return error_set(e, ERROR_FIT, "..."). */
#if defined(__GNUC__)
__attribute__((format(printf, 3, 4)))
#endif
static inline int
error_set(struct error *e, enum error_code code, const char *format, ...)
{
    if (!e) return code;
    va_list args;
    va_start(args, format);
    e->code = code;
    vsnprintf(e->text, sizeof e->text, format, args);
    va_end(args);
    return code;
}

#endif
