/* SPDX-License-Identifier: MIT
 *
 * The memory plan in words, and the judgement before a model is opened.
 */
#include "app/memory_plan.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "app/catalogue.h"
#include "app/progress.h"

uint64_t memory_plan_need(const struct engine_plan *p)
{
    return p->rows + p->state + p->workspace + (p->is_cpu ? 0 : p->weights);
}

static void append(char *out, size_t room, const char *format, ...)
{
    size_t used = strlen(out);
    va_list args;
    va_start(args, format);
    vsnprintf(out + used, room - used, format, args);
    va_end(args);
}

const char *memory_plan_describe(const struct engine_plan *p, char out[MEMORY_PLAN_ROOM])
{
    char weights[32], rows[32], state[32], work[32], context[32], left[32], other[32];
    snprintf(out, MEMORY_PLAN_ROOM, "%s: weights %s%s, rows %s for %s tokens, state %s, buffers %s of %s free",
             p->device_id, format_bytes(p->weights, weights), p->is_cpu ? " read in place" : "",
             format_bytes(p->rows, rows), format_count(p->context, context), format_bytes(p->state, state),
             format_bytes(p->workspace, work), format_bytes(p->available, left));
    if (!p->is_cpu)
        append(out, MEMORY_PLAN_ROOM, "; host: %s of %s free", format_bytes(p->host, other),
               format_bytes(p->host_available, left));
    if (p->fits)
        append(out, MEMORY_PLAN_ROOM, ": fits");
    else if (p->context_fits)
        append(out, MEMORY_PLAN_ROOM, ": does not fit; %s tokens would", format_count(p->context_fits, left));
    else
        append(out, MEMORY_PLAN_ROOM, ": does not fit");
    return out;
}

/* ----------------------------------------------------------------------------------------------- what fits */

const struct catalogue_entry *memory_plan_suggest(uint64_t available, bool is_cpu, uint64_t below,
                                                  const struct engine_params *params)
{
    for (const struct catalogue_entry *e = catalogue; e->name; e++) {
        bool runs = is_cpu || !e->format || engine_gpu_takes(e->format);
        if (runs && e->bytes < below && catalogue_plan(e, available, params, is_cpu).fits) return e;
    }
    return NULL;
}

/* Is this a file of the model that the catalogue's files are of? */
static bool is_of_catalogue(const struct engine_plan *p, const struct engine_params *params)
{
    struct engine_params same = *params;
    same.context = p->context;
    struct engine_plan theirs = catalogue_plan(catalogue, 0, &same, true);
    return theirs.state == p->state && theirs.rows == p->rows;
}

/* " or A or B": all that would fit instead. */
static void list_remedies(const struct engine_plan *p, const struct engine_plan *q8, const struct engine_params *params,
                          char *out, size_t room)
{
    struct engine_params same = *params;
    same.context = p->context;
    if (p->context_fits) append(out, room, " or --ctx %u", p->context_fits);
    if (q8 && q8->fits)
        append(out, room, " or --kv-dtype q8_0");
    else if (q8 && q8->context_fits > p->context_fits)
        append(out, room, " or --kv-dtype q8_0 with --ctx %u", q8->context_fits);
    if (p->is_cpu) {
        if (!*out) append(out, room, " or a smaller --batch");
        return;
    }
    const struct catalogue_entry *e = NULL;
    if (is_of_catalogue(p, params)) e = memory_plan_suggest(p->available, false, p->weights, &same);
    if (e)
        append(out, room, " or the smaller type %s (lectern pull %s)", e->name, e->name);
    else
        append(out, room, " or a smaller type (lectern quantize)");
    append(out, room, " or --device cpu");
}

int memory_plan_refuse(const struct engine_plan *p, const struct engine_plan *with_q8_0,
                       const struct engine_params *params, struct error *error)
{
    char need[32], left[32], weights[32], rows[32], state[32], work[32], context[32], remedies[250] = "";
    list_remedies(p, with_q8_0, params, remedies, sizeof remedies);
    return error_set(error, ERROR_FIT,
                     "%.60s has %s free and %s are needed (weights %s%s, rows %s for %s tokens, state %s, buffers %s); "
                     "what would fit:%s.",
                     p->device_name, format_bytes(p->available, left), format_bytes(memory_plan_need(p), need),
                     format_bytes(p->weights, weights), p->is_cpu ? " read in place" : "", format_bytes(p->rows, rows),
                     format_count(p->context, context), format_bytes(p->state, state), format_bytes(p->workspace, work),
                     remedies + (*remedies ? strlen(" or") : 0));
}

/* ------------------------------------------------------------------------------------------------ checking */

static int refuse(const struct engine_plan *plan, const struct engine_params *params, struct error *error)
{
    struct engine_plan smaller;
    struct engine_params q8_0 = *params;
    q8_0.rows_dtype = ENGINE_Q8_0;
    bool helps = params->rows_dtype != ENGINE_Q8_0 && !engine_plan(&smaller, &q8_0, NULL);
    return memory_plan_refuse(plan, helps ? &smaller : NULL, params, error);
}

/* Nothing in the model ends where its context does, so that more than it was made for is told and not refused. */
static int check_context(const struct engine_plan *plan, const struct engine_params *params, uint64_t need, char *note,
                         struct error *error)
{
    char own[32], asked[32];
    if (params->context && need > params->context)
        return error_set(error, ERROR_FIT, "%llu tokens are needed, --ctx holds %u.", (unsigned long long)need,
                         params->context);
    if (plan->context <= plan->context_own) return 0;
    snprintf(note, MEMORY_NOTE_ROOM,
             "This model was made for at most %s tokens and the context is %s: beyond the first it may answer badly.",
             format_count(plan->context_own, own), format_count(plan->context, asked));
    return 0;
}

int memory_plan_check(struct engine_plan *plan, const struct engine_params *params, uint64_t need,
                      char note[MEMORY_NOTE_ROOM], struct error *error)
{
    char a[32], b[32];
    *note = 0;
    int rc = engine_plan(plan, params, error);
    if (!rc) rc = check_context(plan, params, need, note, error);
    if (rc) return rc;
    if (!plan->fits && (params->context || !plan->context_fits || need > plan->context_fits))
        return refuse(plan, params, error);
    if (!plan->fits)
        snprintf(note, MEMORY_NOTE_ROOM,
                 "The context is %s tokens: more does not fit beside the model (it could take %s).",
                 format_count(plan->context_fits, a), format_count(plan->context, b));
    else if (!*note && plan->is_cpu && plan->weights > plan->available)
        snprintf(note, MEMORY_NOTE_ROOM,
                 "The weights (%s) are more than the memory that is free (%s): they are read from the disk again and "
                 "again; a smaller type is much faster.",
                 format_bytes(plan->weights, a), format_bytes(plan->available, b));
    return 0;
}
