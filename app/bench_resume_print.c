/* SPDX-License-Identifier: MIT
 *
 * bench --resume, as a table and as JSON.
 */
#include "app/bench_resume.h"

#include <stdio.h>

#include "app/progress.h"
#include "app/sanitize.h"
#include "quant/quant.h"

static double ratio(const struct resume_result *r, const struct resume_run *run)
{
    return run->first_seconds > 0 ? r->reread_seconds / run->first_seconds : 0;
}

static const char *dtype_name(enum engine_dtype dtype)
{
    return quant_format((uint32_t)dtype)->name;
}

static double all_bytes(const struct resume_result *r)
{
    return (double)(r->rows_bytes + r->snapshot_bytes);
}

/* How much longer reading takes for the checkpoints that are taken meanwhile. */
static double take_share(const struct bench_resume_options *o, const struct resume_result *r)
{
    return r->saving.take_seconds / (r->read_seconds / o->tokens * r->saving.checkpoint_tokens);
}

/* ---------------------------------------------------------------------------------------------------- table */

static void print_state(const struct bench_resume_options *o, const struct resume_result *r)
{
    char tokens[32], rows[32], snapshot[32];
    printf("state     %s tokens: rows %s (%s), snapshot %s (%s)\n", format_count(o->tokens, tokens),
           format_bytes(r->rows_bytes, rows), dtype_name(r->info.rows_dtype), format_bytes(r->snapshot_bytes, snapshot),
           dtype_name(r->info.state_dtype));
    printf("save      %.3f s, all of it, from the device to committed (%.2f GB/s)\n", r->save_seconds,
           all_bytes(r) / r->save_seconds / 1e9);
    if (!o->made)
        printf("re-read   %.3f s to the first token (%.1f tok/s)\n", r->reread_seconds, o->tokens / r->read_seconds);
}

static void print_run(const struct resume_result *r, const char *name, const struct resume_run *run)
{
    const struct state_load_times *t = &run->times;
    char times[32] = "-";
    if (r->reread_seconds > 0) snprintf(times, sizeof times, "%.0f", ratio(r, run));
    printf("%-5s %7.4f %7.4f %7.4f %7.4f %7.4f %7.4f %7.4f %7.4f %11.4f %9.2f %7s  %s\n", name, run->open_seconds,
           run->find_seconds, t->begin, t->wait, t->rows, t->snapshot, run->load_seconds, run->ask_seconds,
           run->first_seconds, all_bytes(r) / run->load_seconds / 1e9, times,
           run->identical ? "bit-identical" : "DIFFERENT");
}

static void print_threads(const struct resume_result *r, const char *name, const struct resume_run *run)
{
    const struct store_load_times *t = &run->times.store;
    printf("%-5s %u threads read for %.4f s and verified for %.4f s, together: %.2f and %.2f GB/s a thread\n", name,
           t->threads, t->read, t->verify, all_bytes(r) / t->read / 1e9, all_bytes(r) / t->verify / 1e9);
}

static void print_runs(const struct bench_resume_options *o, const struct resume_result *r)
{
    printf("\n%-5s %7s %7s %7s %7s %7s %7s %7s %7s %11s %9s %7s  %s\n", "", "open s", "find s", "begin s", "wait s",
           "rows s", "snap s", "load s", "ask s", "first tok s", "load GB/s", "ratio", "logits");
    print_run(r, "warm", &r->warm);
    if (o->cold) print_run(r, "cold", &r->cold);
    print_threads(r, "warm", &r->warm);
    if (!o->cold) return;
    print_threads(r, "cold", &r->cold);
    printf("disk  %.2f GB/s: the same file read in order by one thread; at that speed the state alone takes %.3f s\n",
           r->disk_rate / 1e9, all_bytes(r) / r->disk_rate);
    if (!r->is_cold)
        printf("(not cold: this system does not let the store be dropped from its page cache, or does not tell)\n");
}

static void print_legend(void)
{
    printf("begin: a timeline made; wait: for the store's threads, which read and verify; rows, snap: given to the "
           "device;\nload: these four; ask: %d tokens and the first of an answer; first tok: open + find + load + "
           "ask;\nratio: re-read / first tok\n",
           RESUME_QUESTION);
}

static void print_saving(const struct bench_resume_options *o, const struct resume_result *r)
{
    const struct bench_saving *s = &r->saving;
    char bytes[32], tokens[32];
    printf("\nsaving    answering %.1f tok/s with the writer idle, %.1f while it writes: %.1f %% off (%u x %u tokens)\n"
           "          a checkpoint of %s is taken from the device in %.1f ms",
           s->idle_rate, s->writing_rate, 100 * s->off, s->rounds, s->tokens, format_bytes(s->checkpoint_bytes, bytes),
           1e3 * s->take_seconds);
    if (!o->made)
        printf(": %.1f %% of reading its %s tokens", 100 * take_share(o, r),
               format_count(s->checkpoint_tokens, tokens));
    printf("\n");
}

static void print_share(const char *what, double one, double other)
{
    printf("  %-24s %12.4f %12.4f %8.2f\n", what, one, other, other / one);
}

/* The second against the first. */
static void print_comparison(const struct bench_resume_options *o, const struct resume_result *r)
{
    char one[32], other[32];
    snprintf(one, sizeof one, "%s, %s", dtype_name(r[0].info.state_dtype), dtype_name(r[0].info.rows_dtype));
    snprintf(other, sizeof other, "%s, %s", dtype_name(r[1].info.state_dtype), dtype_name(r[1].info.rows_dtype));
    printf("\n  %-24s %12s %12s %8s\n", "state, rows", one, other, "share");
    print_share("rows, MB", (double)r[0].rows_bytes / 1e6, (double)r[1].rows_bytes / 1e6);
    print_share("snapshot, MB", (double)r[0].snapshot_bytes / 1e6, (double)r[1].snapshot_bytes / 1e6);
    print_share("all, MB", all_bytes(&r[0]) / 1e6, all_bytes(&r[1]) / 1e6);
    print_share("save, s", r[0].save_seconds, r[1].save_seconds);
    print_share("load warm, s", r[0].warm.load_seconds, r[1].warm.load_seconds);
    if (o->cold) print_share("load cold, s", r[0].cold.load_seconds, r[1].cold.load_seconds);
    print_share("first token warm, s", r[0].warm.first_seconds, r[1].warm.first_seconds);
    if (o->cold) print_share("first token cold, s", r[0].cold.first_seconds, r[1].cold.first_seconds);
}

void resume_print(const struct bench_resume_options *o, const struct resume_result *r, size_t count)
{
    char model[SANITIZE_ROOM(128)], device[SANITIZE_ROOM(128)];
    sanitize_line(r->info.model_name, model, sizeof model);
    sanitize_line(r->info.device_name, device, sizeof device);
    printf("model     %s, opened in %.3f s (not counted below: it is there already)\ndevice    %s (%s), batch %u\n",
           model, r->model_seconds, device, r->info.device_id, r->info.batch);
    for (size_t i = 0; i < count; i++) {
        if (i) printf("\n");
        print_state(o, &r[i]);
        print_runs(o, &r[i]);
        if (r[i].has_saving) print_saving(o, &r[i]);
    }
    print_legend();
    if (count > 1) print_comparison(o, r);
}

/* ----------------------------------------------------------------------------------------------------- JSON */

static void json_run(struct json *j, const struct resume_result *r, const char *name, const struct resume_run *run)
{
    const struct state_load_times *t = &run->times;
    json_open(j, name, '{');
    json_real(j, "open_seconds", run->open_seconds);
    json_real(j, "find_seconds", run->find_seconds);
    json_real(j, "begin_seconds", t->begin);
    json_real(j, "wait_seconds", t->wait);
    json_real(j, "rows_seconds", t->rows);
    json_real(j, "snapshot_seconds", t->snapshot);
    json_real(j, "load_seconds", run->load_seconds);
    json_uint(j, "threads", t->store.threads);
    json_real(j, "threads_read_seconds", t->store.read);
    json_real(j, "threads_verify_seconds", t->store.verify);
    json_real(j, "ask_seconds", run->ask_seconds);
    json_real(j, "first_token_seconds", run->first_seconds);
    if (r->reread_seconds > 0) json_real(j, "ratio", ratio(r, run));
    json_bool(j, "identical", run->identical);
    json_close(j, '}');
}

static void json_saving(struct json *j, const struct bench_resume_options *o, const struct resume_result *r)
{
    const struct bench_saving *s = &r->saving;
    json_open(j, "saving", '{');
    json_uint(j, "rounds", s->rounds);
    json_uint(j, "tokens", s->tokens);
    json_uint(j, "checkpoint_tokens", s->checkpoint_tokens);
    json_uint(j, "checkpoint_bytes", s->checkpoint_bytes);
    json_real(j, "idle_tokens_per_second", s->idle_rate);
    json_real(j, "writing_tokens_per_second", s->writing_rate);
    json_real(j, "off", s->off);
    json_real(j, "take_seconds", s->take_seconds);
    if (!o->made) json_real(j, "take_share_of_reading", take_share(o, r));
    json_close(j, '}');
}

static void json_result(struct json *j, const struct bench_resume_options *o, const struct resume_result *r)
{
    json_text(j, "model", r->info.model_name);
    json_text(j, "device", r->info.device_name);
    json_text(j, "device_id", r->info.device_id);
    json_uint(j, "batch", r->info.batch);
    json_uint(j, "tokens", o->tokens);
    json_uint(j, "question_tokens", RESUME_QUESTION);
    json_text(j, "rows_dtype", dtype_name(r->info.rows_dtype));
    json_text(j, "state_dtype", dtype_name(r->info.state_dtype));
    json_uint(j, "rows_bytes", r->rows_bytes);
    json_uint(j, "snapshot_bytes", r->snapshot_bytes);
    json_real(j, "model_seconds", r->model_seconds);
    json_real(j, "save_seconds", r->save_seconds);
    if (!o->made) json_real(j, "read_seconds", r->read_seconds);
    if (!o->made) json_real(j, "reread_first_token_seconds", r->reread_seconds);
    json_run(j, r, "warm", &r->warm);
    if (o->cold) {
        json_run(j, r, "cold", &r->cold);
        json_bool(j, "cold_is_cold", r->is_cold);
        json_real(j, "disk_bytes_per_second", r->disk_rate);
    }
    if (r->has_saving) json_saving(j, o, r);
}

/* One object; of a comparison a list of them. */
void resume_print_json(const struct bench_resume_options *o, const struct resume_result *r, size_t count)
{
    struct json j = {0};
    if (count > 1) json_open(&j, NULL, '[');
    for (size_t i = 0; i < count; i++) {
        json_open(&j, NULL, '{');
        json_result(&j, o, &r[i]);
        json_close(&j, '}');
    }
    if (count > 1) json_close(&j, ']');
    json_send(&j);
    json_free(&j);
}
