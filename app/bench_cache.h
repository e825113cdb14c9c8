/* SPDX-License-Identifier: MIT
 *
 * Files and the page cache, for measurements that are to begin on the disk.
 */
#ifndef LECTERN_APP_BENCH_CACHE_H
#define LECTERN_APP_BENCH_CACHE_H

#include <stdbool.h>

#include "quant/error.h"

struct bench_cache {
    double kept_bytes; /* that stayed in the cache all the same */
    bool is_unknown;   /* the system does not tell */
};
/* Drops all files of a folder (no folders in it) from the cache once they are on the disk, and counts what stayed. */
int bench_cache_drop(const char *dir, struct bench_cache *out, struct error *);

/* Reads a file from its beginning to its end, in big pieces and by one thread: bytes a second. */
int bench_read_rate(const char *path, double *rate, struct error *);

/* Removes a folder and the files in it. */
int bench_folder_remove(const char *dir, struct error *);

#endif
