/* SPDX-License-Identifier: MIT
 *
 * The memory plan in words.
 */
#include "app/memory_plan.h"

#include "app/progress.h"

#include <stdio.h>

const char *memory_plan_describe(const struct engine_plan *p, char out[MEMORY_PLAN_ROOM])
{
    char weights[32], rows[32], state[32], work[32], context[32], fits[32];
    int n = snprintf(out, MEMORY_PLAN_ROOM,
                     "weights %s, rows %s for %s tokens, state %s, buffers %s: ", format_bytes(p->weights, weights),
                     format_bytes(p->rows, rows), format_count(p->context, context), format_bytes(p->state, state),
                     format_bytes(p->workspace, work));
    const size_t at = (size_t)n, room = MEMORY_PLAN_ROOM - at;
    if (p->fits)
        snprintf(out + at, room, "fits");
    else if (p->context_fits)
        snprintf(out + at, room, "does not fit; %s tokens would", format_count(p->context_fits, fits));
    else
        snprintf(out + at, room, "does not fit, not even the weights");
    return out;
}
