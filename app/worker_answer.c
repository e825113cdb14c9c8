/* SPDX-License-Identifier: MIT
 *
 * Reading (evaluate the prompt, checkpoints on the way) and answering (question, sampling, stream, commit).
 */
#include <stdlib.h>
#include <string.h>

#include "app/json.h"
#include "app/ladder.h"
#include "app/progress.h"
#include "app/prompt.h"
#include "app/repeat.h"
#include "app/worker_internal.h"

/* ----------------------------------------------------------------------------------------------- reading */

struct reading {
    struct worker *worker;
    double began, checkpoint;      /* clock */
    size_t first, at, goal, total; /* tokens: where the reading began, where it is, this stretch's end, the whole */
    bool has_begun;
    struct speed_meter meter;
};

static void emit_reading(struct reading *r, enum event_kind kind, bool stopped)
{
    double seconds = worker_clock() - r->began;
    double rate = seconds > 0 ? (double)(r->at - r->first) / seconds : 0;
    speed_meter_note(&r->meter, r->first, r->at, seconds);
    const struct speed speed = speed_meter_read(&r->meter);
    worker_emit(r->worker, &(struct event){.kind = kind,
                                           .done = r->at,
                                           .total = r->total,
                                           .seconds = seconds,
                                           .rate = rate,
                                           .eta = rate > 0 ? speed_seconds(&speed, r->at, r->total) : -1,
                                           .speed = speed,
                                           .stopped = stopped});
}

static bool note_progress(void *ctx, size_t done, size_t total)
{
    struct reading *r = ctx;
    if (!r->has_begun) r->first = r->goal - total;
    r->has_begun = true;
    r->at = r->goal - (total - done);
    atomic_store(&r->worker->length, r->at);
    emit_reading(r, EVENT_READING, false);
    return !worker_is_cancelled(r->worker) && worker_clock() - r->checkpoint < WORKER_CHECKPOINT_SECONDS;
}

/* One stretch up to r->goal, or to where a checkpoint is due. */
static int read_stretch(struct reading *r, struct error *error)
{
    struct worker *w = r->worker;
    struct eval_hooks hooks = {.progress = note_progress, .ctx = r};
    size_t before = r->at;
    int rc = worker_sync(w, w->prompt.ids, r->goal, &hooks, error);
    r->at = timeline_length(w->timeline);
    atomic_store(&w->length, r->at);
    bool is_due = rc == ERROR_CANCELLED && !worker_is_cancelled(w);
    if (rc && rc != ERROR_CANCELLED) return rc;
    if (r->at == before) return is_due ? 0 : rc;
    worker_save(w, &(struct worker_save){.keep = r->at == w->prefix || r->at == w->prompt.count});
    r->checkpoint = worker_clock();
    return is_due ? 0 : rc;
}

/* The timeline's goals are checkpoints, the rungs to come back to, the end of the documents and the prompt's end. */
static size_t next_goal(const struct worker *w, size_t at)
{
    size_t unit = ladder_unit(engine_info(w->engine)->batch);
    size_t checkpoint = unit < WORKER_CHECKPOINT_TOKENS ? WORKER_CHECKPOINT_TOKENS / unit * unit : unit;
    size_t goal = ladder_next(at, w->prompt.count, unit), due = (at / checkpoint + 1) * checkpoint;
    if (goal > due) goal = due;
    return at < w->prefix && goal > w->prefix ? w->prefix : goal;
}

/* Makes the timeline stand at the whole prompt, restoring and reading what it takes. A session that finds all of it
 * stored by others still gets a state of its own, lest it goes with them. */
static int read_prompt(struct worker *w, struct reading *r, struct error *error)
{
    *r = (struct reading){.worker = w, .began = worker_clock(), .checkpoint = worker_clock(), .total = w->prompt.count};
    int rc = worker_restore(w, error);
    if (rc) return rc;
    r->first = r->at = worker_reusable(w, w->prompt.ids, w->prompt.count);
    if (w->saved_segments > r->at / STORE_SEGMENT) w->saved_segments = r->at / STORE_SEGMENT;
    if (r->at < w->prompt.count) worker_count_stored(w);
    while (!rc && r->at < w->prompt.count) {
        r->goal = next_goal(w, r->at);
        rc = read_stretch(r, error);
        if (!rc) worker_mark(w);
    }
    if (!rc) rc = worker_sync(w, w->prompt.ids, w->prompt.count, NULL, error);
    atomic_store(&w->length, timeline_length(w->timeline));
    if (!rc && w->session && !w->is_linked) worker_save(w, &(struct worker_save){.keep = true});
    return rc;
}

void worker_run_read(struct worker *w)
{
    struct reading r;
    struct error error;
    worker_hold_saved(w);
    int rc = read_prompt(w, &r, &error);
    if (rc && rc != ERROR_CANCELLED)
        worker_emit_error(w, &error);
    else
        emit_reading(&r, EVENT_READ, rc == ERROR_CANCELLED);
    worker_release_saved(w);
}

/* --------------------------------------------------------------------------------------------- answering */

struct answer {
    struct worker *worker;
    double began, read_at, first_at; /* clock: asked, prompt read, first text */
    size_t prompt, reused;
    struct token_list question, tokens;
    size_t told; /* tokens whose text is out; those behind may be the model repeating itself */
    struct repeat repeat;
    char *text;
    size_t len, capacity;
    struct utf8_stream stream;
    enum answer_end end;
};

const char *answer_end_name(enum answer_end end)
{
    static const char *const names[] = {
        [ANSWER_WHOLE] = "whole",          [ANSWER_STOPPED] = "stopped",   [ANSWER_MOST_TOKENS] = "max-tokens",
        [ANSWER_CONTEXT_FULL] = "context", [ANSWER_REPEATED] = "repeated",
    };
    return names[end];
}

static int add_text(struct answer *a, const char *bytes, size_t n, struct error *error)
{
    if (!n) return 0;
    if (a->len + n > a->capacity) {
        size_t capacity = (a->len + n) * 2;
        char *text = realloc(a->text, capacity);
        if (!text) return error_set(error, ERROR_FAILED, "Out of memory.");
        a->text = text;
        a->capacity = capacity;
    }
    memcpy(a->text + a->len, bytes, n);
    a->len += n;
    struct event e = {.kind = EVENT_TEXT, .text = malloc(n + 1), .text_len = n};
    if (!e.text) return error_set(error, ERROR_FAILED, "Out of memory.");
    memcpy(e.text, bytes, n);
    e.text[n] = 0;
    if (!a->first_at) a->first_at = worker_clock();
    worker_emit(a->worker, &e);
    return 0;
}

/* The text of the tokens up to `count`. */
static int tell_tokens(struct answer *a, size_t count, struct error *error)
{
    int rc = 0;
    for (; !rc && a->told < count; a->told++) {
        size_t n;
        const char *bytes = engine_token_bytes(a->worker->engine, a->tokens.ids[a->told], &n);
        char *out = malloc(n * 3 + 4);
        if (!out) return error_set(error, ERROR_FAILED, "Out of memory.");
        rc = add_text(a, out, utf8_stream_push(&a->stream, bytes, n, out), error);
        free(out);
    }
    return rc;
}

/* Whether the documents or the conversation say this over and over themselves. */
static bool is_quoted(const struct answer *a, size_t stretch)
{
    const struct token_list *prompt = &a->worker->prompt, *question = &a->question;
    const uint32_t *ids = a->tokens.ids + a->tokens.count - stretch;
    return repeat_is_quoted(prompt->ids, prompt->count, ids, stretch) ||
           repeat_is_quoted(question->ids, question->count, ids, stretch);
}

/* What may be a loop is not told until it turns out to be none; what was told stays. */
static int add_token(struct answer *a, uint32_t id, struct error *error)
{
    size_t n, stretch, held, extra;
    const char *bytes = engine_token_bytes(a->worker->engine, id, &n);
    int rc = token_list_push(&a->tokens, id, error);
    if (rc) return rc;
    repeat_push(&a->repeat, id, repeat_has_word(bytes, n));
    held = repeat_held(&a->repeat);
    extra = repeat_found(&a->repeat, &stretch);
    if (extra && is_quoted(a, stretch)) held = extra = 0;
    rc = tell_tokens(a, a->tokens.count - held, error);
    if (rc || !extra) return rc;
    a->end = ANSWER_REPEATED;
    a->tokens.count -= extra;
    if (a->tokens.count < a->told) a->tokens.count = a->told;
    return 0;
}

/* How many tokens the answer may take: the asked number, or what the context leaves for it and its end. */
static size_t answer_room(const struct worker *w, enum answer_end *limit)
{
    size_t context = engine_info(w->engine)->context, length = timeline_length(w->timeline) + 1;
    size_t most = w->params.most_answer_tokens ? w->params.most_answer_tokens : 1024;
    size_t room = context > length ? context - length : 0;
    *limit = room < most ? ANSWER_CONTEXT_FULL : ANSWER_MOST_TOKENS;
    return room < most ? room : most;
}

static void tell_cut(const struct answer *a)
{
    struct worker *w = a->worker;
    char count[32];
    if (a->end == ANSWER_REPEATED)
        worker_note(w, ERROR_NONE, "The model began to repeat itself without end: the answer was cut there.");
    if (a->end == ANSWER_CONTEXT_FULL || a->end == ANSWER_MOST_TOKENS)
        worker_note(w, ERROR_NONE, "The answer was cut after %s tokens: %s.", format_count(a->tokens.count, count),
                    a->end == ANSWER_CONTEXT_FULL ? "the context is full" : "--max-tokens");
}

static int sample_answer(struct answer *a, struct error *error)
{
    struct worker *w = a->worker;
    enum answer_end limit;
    size_t room = answer_room(w, &limit);
    int rc = 0;
    while (!rc && a->end == ANSWER_WHOLE) {
        uint32_t id = sampler_next(w->sampler, timeline_logits(w->timeline));
        if (engine_is_stop(w->engine, id)) break;
        if (a->tokens.count >= room) {
            a->end = limit;
            break;
        }
        rc = add_token(a, id, error);
        if (rc || a->end == ANSWER_REPEATED) break;
        rc = worker_append(w, &id, 1, NULL, error);
        atomic_store(&w->length, timeline_length(w->timeline));
        if (worker_is_cancelled(w)) a->end = ANSWER_STOPPED;
    }
    char rest[8];
    if (!rc) rc = tell_tokens(a, a->tokens.count, error);
    if (!rc) rc = add_text(a, rest, utf8_stream_end(&a->stream, rest), error);
    tell_cut(a);
    return rc;
}

/* ------------------------------------------------------------------------------------------------ keeping */

static struct answer_stats stats_of(const struct answer *a)
{
    double now = worker_clock();
    return (struct answer_stats){
        .end = a->end,
        .prompt_tokens = a->prompt,
        .reused_tokens = a->reused,
        .answer_tokens = a->tokens.count,
        .prompt_seconds = (a->read_at ? a->read_at : now) - a->began,
        .answer_seconds = a->read_at ? now - a->read_at : 0,
        .first_token_seconds = a->first_at ? a->first_at - a->began : 0,
    };
}

static void describe_answer(const struct answer *a, const struct answer_stats *s, struct json *j)
{
    json_open(j, NULL, '{');
    json_bool(j, "stopped", a->end == ANSWER_STOPPED);
    json_text(j, "ended", answer_end_name(a->end));
    json_uint(j, "prompt_tokens", s->prompt_tokens);
    json_uint(j, "reused_tokens", s->reused_tokens);
    json_uint(j, "answer_tokens", s->answer_tokens);
    json_real(j, "prompt_seconds", s->prompt_seconds);
    json_real(j, "answer_seconds", s->answer_seconds);
    json_close(j, '}');
}

/* The timeline has been round and round: it goes back, by the store where memory has no mark left. */
static int leave_loop(struct worker *w, struct error *error)
{
    int rc = worker_restore(w, error);
    return rc == ERROR_CANCELLED ? 0 : rc;
}

/* The turns join the prompt, their tokens the timeline, and both go to the store in one transaction. */
static int keep_answer(struct answer *a, const struct job *job, const struct answer_stats *stats, struct error *error)
{
    struct worker *w = a->worker;
    struct json meta = {0};
    describe_answer(a, stats, &meta);
    char *meta_text = json_end(&meta);
    int rc = chat_close(w->engine, CHAT_ASSISTANT, &a->tokens, error);
    if (!rc) rc = token_list_append(&w->prompt, a->question.ids, a->question.count, error);
    if (!rc) rc = worker_push_turn(w, error);
    if (!rc) rc = token_list_append(&w->prompt, a->tokens.ids, a->tokens.count, error);
    if (!rc) rc = worker_push_turn(w, error);
    if (!rc && a->end == ANSWER_REPEATED) rc = leave_loop(w, error);
    if (!rc) rc = worker_sync(w, w->prompt.ids, w->prompt.count, NULL, error);
    struct store_turn turns[2] = {
        {.role = STORE_USER,
         .text = job->text,
         .text_len = job->len,
         .ids = a->question.ids,
         .n_ids = a->question.count},
        {.role = STORE_ASSISTANT,
         .text = a->text,
         .text_len = a->len,
         .meta = meta_text,
         .ids = a->tokens.ids,
         .n_ids = a->tokens.count},
    };
    if (!rc) {
        atomic_store(&w->length, timeline_length(w->timeline));
        worker_mark(w);
        worker_save(w, &(struct worker_save){.keep = true, .turns = turns, .n_turns = w->session ? 2 : 0});
    }
    json_free(&meta);
    return rc;
}

static bool note_question(void *ctx, size_t done, size_t total)
{
    (void)done;
    (void)total;
    return !worker_is_cancelled(ctx);
}

static int read_question(struct answer *a, const struct job *job, struct error *error)
{
    struct worker *w = a->worker;
    size_t context = engine_info(w->engine)->context;
    int rc = prompt_question(w->engine, job->text, job->len, worker_place(w), &a->question, error);
    if (rc) return rc;
    a->prompt = w->prompt.count + a->question.count;
    char before[32], more[32], room[32];
    if (a->prompt + 2 > context)
        return error_set(
            error, ERROR_FIT, "Documents and conversation take %s tokens, the question %s more, the context holds %s.",
            format_count(w->prompt.count, before), format_count(a->question.count, more), format_count(context, room));
    struct reading r;
    rc = read_prompt(w, &r, error);
    if (r.has_begun) emit_reading(&r, EVENT_READ, rc == ERROR_CANCELLED);
    a->reused = r.first;
    if (!rc) worker_mark(w); /* where the answer is cut, the way back to this question is short */
    struct eval_hooks hooks = {.progress = note_question, .ctx = w};
    if (!rc) rc = worker_append(w, a->question.ids, a->question.count, &hooks, error);
    a->read_at = worker_clock();
    return rc;
}

void worker_run_ask(struct worker *w, const struct job *job)
{
    struct answer a = {.worker = w, .began = worker_clock()};
    struct error error;
    worker_hold_saved(w);
    int rc = read_question(&a, job, &error);
    if (!rc) rc = sample_answer(&a, &error);
    if (rc == ERROR_CANCELLED) a.end = ANSWER_STOPPED, rc = 0;
    struct answer_stats stats = stats_of(&a);
    bool is_stopped = a.end == ANSWER_STOPPED, is_kept = !rc && (a.len || !is_stopped) && !w->params.one_shot;
    if (!rc) worker_emit(w, &(struct event){.kind = EVENT_ANSWERED, .stopped = is_stopped, .stats = stats});
    if (is_kept) rc = keep_answer(&a, job, &stats, &error);
    if (rc) worker_emit_error(w, &error);
    worker_release_saved(w);
    token_list_free(&a.question);
    token_list_free(&a.tokens);
    free(a.text);
}
