/* SPDX-License-Identifier: MIT
 *
 * The pool. A decoded token is some hundred small jobs, so handing one out must cost about a microsecond: idle threads
 * look for work for a while before they sleep, and a job never waits for a thread that slept through it.
 *
 * `ticket` holds (job number << 32 | tasks not yet claimed). A thread claims a task by lowering it with one
 * compare-and-swap, which fails when the job it read about is over. Hence what it read of the job before a successful
 * claim is that job's: the next job is written only after every claimed task of this one is done.
 */
#include "engine/pool.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    MOST_THREADS = 256,
    LOOKS_BEFORE_SLEEP = 20000, /* some tens of microseconds */
    LOOKS_BEFORE_YIELD = 2000,
};

struct job {
    _Atomic(pool_task *) task;
    _Atomic(void *) ctx;
};

struct worker_thread {
    struct pool *pool;
    pthread_t thread;
    uint32_t index;
};

struct pool {
    struct job job;
    _Atomic uint64_t ticket;
    _Atomic uint32_t done;     /* tasks of the present job that are finished */
    _Atomic uint32_t sleepers; /* threads that sleep, or are about to */
    _Atomic bool stop;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    uint32_t threads; /* the caller's included */
    uint32_t started;
    struct worker_thread worker[MOST_THREADS];
};

static bool work_waits(struct pool *pool)
{
    return (uint32_t)atomic_load(&pool->ticket) != 0 || atomic_load(&pool->stop);
}

/* Does tasks of the present job until none is left to claim. */
static void work(struct pool *pool, uint32_t thread)
{
    uint64_t ticket = atomic_load(&pool->ticket);
    while ((uint32_t)ticket) {
        pool_task *task = atomic_load(&pool->job.task);
        void *ctx = atomic_load(&pool->job.ctx);
        if (!atomic_compare_exchange_weak(&pool->ticket, &ticket, ticket - 1)) continue;
        task(ctx, (uint32_t)ticket - 1, thread);
        atomic_fetch_add(&pool->done, 1);
        ticket = atomic_load(&pool->ticket);
    }
}

static void wait_for_work(struct pool *pool)
{
    for (int i = 0; i < LOOKS_BEFORE_SLEEP; i++)
        if (work_waits(pool)) return;
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1);
    while (!work_waits(pool)) pthread_cond_wait(&pool->wake, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *worker_main(void *arg)
{
    struct worker_thread *self = arg;
    while (!atomic_load(&self->pool->stop)) {
        work(self->pool, self->index);
        wait_for_work(self->pool);
    }
    return NULL;
}

static void wake_sleepers(struct pool *pool)
{
    if (!atomic_load(&pool->sleepers)) return;
    pthread_mutex_lock(&pool->lock);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

void pool_run(struct pool *pool, pool_task *task, void *ctx, uint32_t tasks)
{
    if (pool->threads == 1 || tasks <= 1) {
        for (uint32_t i = 0; i < tasks; i++) task(ctx, i, 0);
        return;
    }
    uint64_t number = (atomic_load(&pool->ticket) >> 32) + 1;
    atomic_store(&pool->job.task, task);
    atomic_store(&pool->job.ctx, ctx);
    atomic_store(&pool->done, 0);
    atomic_store(&pool->ticket, number << 32 | tasks);
    wake_sleepers(pool);
    work(pool, 0);
    for (int i = 0; atomic_load(&pool->done) != tasks; i++)
        if (i > LOOKS_BEFORE_YIELD) sched_yield();
}

uint32_t pool_default_threads(uint32_t threads)
{
    if (!threads) {
        cpu_set_t set;
        CPU_ZERO(&set);
        int count = sched_getaffinity(0, sizeof set, &set) ? 0 : CPU_COUNT(&set);
        threads = count < 1 ? 1 : (uint32_t)count;
    }
    return threads < MOST_THREADS ? threads : MOST_THREADS;
}

int pool_create(struct pool **out, uint32_t threads, struct error *error)
{
    *out = NULL;
    struct pool *pool = calloc(1, sizeof *pool);
    if (!pool) return error_set(error, ERROR_FAILED, "Out of memory for the thread pool.");
    pool->threads = pool_default_threads(threads);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    for (uint32_t i = 1; i < pool->threads; i++) {
        struct worker_thread *w = &pool->worker[i];
        *w = (struct worker_thread){.pool = pool, .index = i};
        if (pthread_create(&w->thread, NULL, worker_main, w)) {
            pool_destroy(&pool);
            return error_set(error, ERROR_FAILED, "Thread %u cannot be started.", i + 1);
        }
        pool->started++;
    }
    *out = pool;
    return 0;
}

void pool_destroy(struct pool **pool)
{
    struct pool *p = *pool;
    if (!p) return;
    atomic_store(&p->stop, true);
    pthread_mutex_lock(&p->lock);
    pthread_cond_broadcast(&p->wake);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 1; i <= p->started; i++) pthread_join(p->worker[i].thread, NULL);
    pthread_cond_destroy(&p->wake);
    pthread_mutex_destroy(&p->lock);
    free(p);
    *pool = NULL;
}

uint32_t pool_threads(const struct pool *pool)
{
    return pool->threads;
}
