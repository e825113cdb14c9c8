/* SPDX-License-Identifier: MIT
 *
 * The files that `lectern pull` knows by name, and what it takes to run one. docs/catalogue.md says where each figure
 * comes from.
 */
#ifndef LECTERN_APP_CATALOGUE_H
#define LECTERN_APP_CATALOGUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/engine.h"

struct catalogue_entry {
    const char *name; /* what the user types; NULL ends the table */
    const char *repository, *file; /* file: its path in the repository; of several (app/model_parts.h) the first */
    uint64_t bytes;                /* of all files */
    bool bytes_are_known;          /* false: an estimate, for planning alone; the server tells the true one */
    const uint64_t *part_bytes;    /* of each of several files, where known; else NULL */
    const char *sha256;   /* hex; NULL: not known to us */
    const char *format;   /* the block format that not every device takes (engine_gpu_takes); NULL: all take it */
    unsigned quality;     /* order among the entries: higher is nearer to the original */
    const char *remark;
};
extern const struct catalogue_entry catalogue[]; /* best first */

const struct catalogue_entry *catalogue_find(const char *name);      /* any case; NULL when there is none */
const struct catalogue_entry *catalogue_find_file(const char *file); /* by the name of its (first) file */
const char *catalogue_file_name(const struct catalogue_entry *);     /* that name, without folders */

/* What an entry needs on a device with `available` bytes free, in the terms of engine_plan: every entry is the same
 * model, so that all but the weights is known before there is a file. params: context (0 = 131,072), batch, dtypes. */
struct engine_plan catalogue_plan(const struct catalogue_entry *, uint64_t available, const struct engine_params *,
                                  bool is_cpu);

#define CATALOGUE_CONTEXT 131072u

#endif
