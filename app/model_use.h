/* SPDX-License-Identifier: MIT
 *
 * How a command opens its model: found by name, planned for, told, refused with what would fit. The reading thread
 * (app/worker.c) does the same in its own way.
 */
#ifndef LECTERN_APP_MODEL_USE_H
#define LECTERN_APP_MODEL_USE_H

#include "app/memory_plan.h"
#include "app/options.h"

struct model_usage {
    const struct settings *settings;
    const char *name;            /* as typed; NULL: what -m says */
    struct engine_params params; /* model is set here */
    uint64_t need;               /* tokens that the command cannot do without */
};

int model_use(struct engine **, const struct model_usage *, struct error *);
/* The plan on stderr: always where it is of a gibibyte or more, else with -v. */
void model_tell_plan(const struct engine_plan *);

#endif
