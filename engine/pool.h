/* SPDX-License-Identifier: MIT
 *
 * A pool of threads that share one job at a time: a job is a number of equal tasks, handed out one by one.
 * The caller works too, so a pool of one thread starts none.
 */
#ifndef LECTERN_ENGINE_POOL_H
#define LECTERN_ENGINE_POOL_H

#include <stdint.h>

#include "quant/error.h"

struct pool;

/* Does task `task` of the job; `thread` (0 .. pool_threads - 1) tells the tasks that run at the same time apart. */
typedef void pool_task(void *ctx, uint32_t task, uint32_t thread);

int pool_create(struct pool **out, uint32_t threads, struct error *error); /* 0 = as many as the machine runs at once */
void pool_destroy(struct pool **pool);                                     /* accepts NULL and half-built */
uint32_t pool_threads(const struct pool *);
uint32_t pool_default_threads(uint32_t threads); /* what pool_create would make of it */

/* Runs tasks 0 .. tasks - 1 and returns when all are done. One caller at a time; a task starts no job. */
void pool_run(struct pool *, pool_task *task, void *ctx, uint32_t tasks);

#endif
