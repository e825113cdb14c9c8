/* SPDX-License-Identifier: MIT
 *
 * The memory plan in words, for `devices` and, with -v, for whoever loads a model.
 */
#ifndef LECTERN_APP_MEMORY_PLAN_H
#define LECTERN_APP_MEMORY_PLAN_H

#include "engine/engine.h"

enum { MEMORY_PLAN_ROOM = 256 };

/* "weights 46.7 MiB, rows 64.0 MiB for 65,536 tokens, state 2.1 MiB, buffers 90 MiB: fits" -> out, which is returned.
 */
const char *memory_plan_describe(const struct engine_plan *, char out[MEMORY_PLAN_ROOM]);

#endif
