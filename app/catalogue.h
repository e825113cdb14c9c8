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
    const char *repository, *file;
    uint64_t bytes;       /* of the file */
    bool bytes_are_known; /* false: an estimate, for planning alone; the server tells the true one */
    const char *sha256;   /* hex; NULL: not known to us */
    unsigned quality;     /* order among the entries: higher is nearer to the original */
    const char *remark;
};
extern const struct catalogue_entry catalogue[]; /* best first */

const struct catalogue_entry *catalogue_find(const char *name);      /* any case; NULL when there is none */
const struct catalogue_entry *catalogue_find_file(const char *file); /* by the name of its file */

/* What an entry needs on a device with `available` bytes free, in the terms of engine_plan: every entry is the same
 * model, so that all but the weights is known before there is a file. params: context (0 = 131,072), batch, dtypes. */
struct engine_plan catalogue_plan(const struct catalogue_entry *, uint64_t available, const struct engine_params *);

#define CATALOGUE_CONTEXT 131072u

#endif
