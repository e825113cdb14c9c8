/* SPDX-License-Identifier: MIT
 *
 * Downloads on the console.
 */
#include "app/transfer_console.h"

#include <time.h>

#include "app/console.h"
#include "app/progress.h"

static uint64_t now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static bool on_tick(void *ctx, enum download_phase phase, uint64_t done, uint64_t total)
{
    struct transfer_console *t = ctx;
    if (console_signal()) return false;
    if (!total) return true; /* its size is not known yet */
    if (!t->has_begun || t->phase != phase || done < t->first_done) {
        t->has_begun = true;
        t->phase = phase;
        t->first_done = done;
        t->first_ms = now_ms();
    }
    uint64_t spent = now_ms() - t->first_ms;
    double rate = spent > 500 ? 1000.0 * (double)(done - t->first_done) / (double)spent : 0;
    progress_show(&(struct progress){
        .what = phase == DOWNLOAD_CHECKING ? "Checking" : "Fetching",
        .done = done,
        .total = total,
        .rate = rate,
        .eta = rate > 0 ? (double)(total - done) / rate : -1,
    });
    return true;
}

static void on_say(void *ctx, const char *sentence)
{
    (void)ctx;
    console_say("%s", sentence);
}

int transfer_console_begin(struct transfer_console *t, struct error *error)
{
    *t = (struct transfer_console){.hooks = {.tick = on_tick, .say = on_say}};
    t->hooks.ctx = t;
    return console_catch_signals(error);
}

int transfer_console_end(int rc, const struct error *error)
{
    progress_clear();
    if (!rc) return console_finish(0);
    console_error(error);
    return rc == ERROR_CANCELLED && console_signal() ? console_signal_status(console_signal()) : rc;
}
