/* SPDX-License-Identifier: MIT
 *
 * The memory plan: in words, for `devices` and whoever loads a model; and the judgement before a model is opened: what
 * does not fit is refused with all that would.
 */
#ifndef LECTERN_APP_MEMORY_PLAN_H
#define LECTERN_APP_MEMORY_PLAN_H

#include "engine/engine.h"

enum { MEMORY_PLAN_ROOM = 400 };

/* "cpu: weights 46.7 MiB, rows 64.0 MiB for 65,536 tokens, state 2.1 MiB, buffers 90 MiB of 15.2 GiB free: fits";
 * of another device also what the host needs. -> out, which is returned. */
const char *memory_plan_describe(const struct engine_plan *, char out[MEMORY_PLAN_ROOM]);
uint64_t memory_plan_need(const struct engine_plan *); /* bytes on the device */

/* One sentence: what is needed, what is there, and all that would fit: less context, q8_0 rows, a smaller type (by name
 * where it is the catalogue's model), the cpu. with_q8_0: the plan with q8_0 rows, NULL where they are used already. */
int memory_plan_refuse(const struct engine_plan *, const struct engine_plan *with_q8_0, const struct engine_params *,
                       struct error *);

/* The catalogue's best that fits there at that context; NULL: none. By no more than `below` bytes. */
struct catalogue_entry;
const struct catalogue_entry *memory_plan_suggest(uint64_t available, bool is_cpu, uint64_t below,
                                                  const struct engine_params *);

/* Plans for params and judges. need: tokens that the caller cannot do without, 0 = none. note gets a sentence worth
 * telling (the context is more than the model was made for, or less than it could take; the weights are more than the
 * memory), or "". ERROR_FIT when it does not fit, or when params->context is less than `need`; else the errors of
 * engine_plan. */
enum { MEMORY_NOTE_ROOM = 300 };
int memory_plan_check(struct engine_plan *, const struct engine_params *, uint64_t need, char note[MEMORY_NOTE_ROOM],
                      struct error *);

#endif
