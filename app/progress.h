/* SPDX-License-Identifier: MIT
 *
 * Progress on stderr, one line redrawn at most ten times a second; only on a terminal (console_draws), else nothing.
 */
#ifndef LECTERN_APP_PROGRESS_H
#define LECTERN_APP_PROGRESS_H

#include <stddef.h>
#include <stdint.h>

/* what: "Loading", "Reading"; rate in units/s, eta in seconds, negative = not known; unit: "tok", NULL = bytes. */
struct progress {
    const char *what, *unit;
    uint64_t done, total;
    double rate, eta;
};
void progress_show(const struct progress *);
void progress_clear(void); /* takes the line away, if there is one */

/* "1,234,567" */
const char *format_count(uint64_t n, char out[32]);
/* "512 B", "1.5 MiB" */
const char *format_bytes(uint64_t n, char out[32]);
/* "0.42 s", "12 s", "3 min 05 s", "2 h 10 min" */
const char *format_seconds(double seconds, char out[32]);

#endif
