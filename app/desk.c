/* SPDX-License-Identifier: MIT
 *
 * What the desk knows and what the worker tells it (desk.h). Sessions are in desk_session.c.
 */
#include "app/desk.h"

#include <stdlib.h>
#include <string.h>

#include "app/progress.h"
#include "app/sanitize.h"
#include "app/speed.h"

/* ---------------------------------------------------------------------------------------------- messages */

static void message_add(struct desk *desk, enum message_kind kind, const char *sentence)
{
    char *text = malloc(SANITIZE_ROOM(strlen(sentence)) + 1);
    const struct desk_message *last = desk_message_at(desk, 0);
    if (!text) return; /* a message lost for want of memory is not worth ending for */
    sanitize_line(sentence, text, SANITIZE_ROOM(strlen(sentence)) + 1);
    if (last && kind == MESSAGE_ERROR && last->kind == kind && !strcmp(last->text, text)) {
        free(text); /* each waiting job fails for the same reason */
        return;
    }
    struct desk_message *slot = &desk->messages[desk->n_messages++ % DESK_MESSAGES];
    free(slot->text);
    *slot = (struct desk_message){.kind = kind, .when = time(NULL), .text = text};
}

void desk_note(struct desk *desk, const char *format, ...)
{
    char sentence[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    message_add(desk, MESSAGE_NOTE, sentence);
}

void desk_fail(struct desk *desk, struct error *error)
{
    message_add(desk, MESSAGE_ERROR, error->text);
    *error = (struct error){0};
}

const struct desk_message *desk_message_at(const struct desk *desk, size_t back)
{
    if (back >= desk->n_messages || back >= DESK_MESSAGES) return NULL;
    return &desk->messages[(desk->n_messages - 1 - back) % DESK_MESSAGES];
}

/* ------------------------------------------------------------------------------------------------- turns */

static int out_of_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory while keeping what was said.");
}

static void turn_free(struct desk_turn *turn)
{
    free(turn->raw);
    text_block_free(&turn->shown);
    *turn = (struct desk_turn){0};
}

void desk_clear_turns(struct desk *desk, size_t keep)
{
    while (desk->n_turns > keep) turn_free(&desk->turns[--desk->n_turns]);
}

static int turn_append(struct desk_turn *turn, const char *text, size_t len, struct error *error)
{
    if (turn->raw_len + len + 1 > turn->raw_capacity) {
        const size_t capacity = 2 * (turn->raw_len + len + 32);
        char *raw = realloc(turn->raw, capacity);
        if (!raw) return out_of_memory(error);
        turn->raw = raw;
        turn->raw_capacity = capacity;
    }
    if (len) memcpy(turn->raw + turn->raw_len, text, len);
    turn->raw_len += len;
    turn->raw[turn->raw_len] = '\0';

    char *safe = malloc(SANITIZE_ROOM(len));
    if (!safe) return out_of_memory(error);
    const size_t safe_len = sanitize_push(&turn->sanitizer, text, len, safe);
    const int rc = text_block_append(&turn->shown, safe, safe_len, error);
    free(safe);
    return rc;
}

/* Nothing more will be appended. */
static int turn_end(struct desk_turn *turn, struct error *error)
{
    char rest[SANITIZE_ROOM(0)];
    return text_block_append(&turn->shown, rest, sanitize_end(&turn->sanitizer, rest), error);
}

int desk_add_turn(struct desk *desk, bool is_question, const char *text, size_t len, struct error *error)
{
    if (desk->n_turns == desk->turn_capacity) {
        const size_t capacity = desk->turn_capacity ? 2 * desk->turn_capacity : 16;
        struct desk_turn *turns = realloc(desk->turns, capacity * sizeof *turns);
        if (!turns) return out_of_memory(error);
        desk->turns = turns;
        desk->turn_capacity = capacity;
    }
    struct desk_turn turn = {.is_question = is_question};
    int rc = turn_append(&turn, text, len, error);
    if (!rc && len) rc = turn_end(&turn, error);
    if (rc) {
        turn_free(&turn);
        return rc;
    }
    desk->turns[desk->n_turns++] = turn;
    return 0;
}

/* A question that was not answered goes back to the input. */
static void give_back(struct desk *desk, char *question)
{
    free(desk->returned);
    desk->returned = question;
}

static void take_back_last(struct desk *desk)
{
    if (desk->n_turns < 2) return;
    give_back(desk, strdup(desk->turns[desk->n_turns - 2].raw));
    desk_clear_turns(desk, desk->n_turns - 2);
}

/* ----------------------------------------------------------------------------------------------- talking */

bool desk_is_busy(const struct desk *desk)
{
    return desk->state == DESK_READING || desk->state == DESK_ANSWERING;
}

static int ask_now(struct desk *desk, const char *question, struct error *error)
{
    const size_t len = strlen(question), keep = desk->n_turns;
    int rc = desk_add_turn(desk, true, question, len, error);
    if (!rc) rc = desk_add_turn(desk, false, "", 0, error);
    if (!rc) rc = worker_ask(desk->worker, question, len, error);
    if (rc) {
        desk_clear_turns(desk, keep);
        return rc;
    }
    desk->state = DESK_ANSWERING;
    desk->is_saved = false;
    desk->answer_started = time(NULL);
    desk->reading = (struct desk_progress){0};
    return 0;
}

static int check_askable(const struct desk *desk, struct error *error)
{
    if (desk->failed) return error_set(error, ERROR_FAILED, "The model is not loaded, so nothing can be asked.");
    if (desk->state == DESK_EMPTY)
        return error_set(error, ERROR_USAGE, "Nothing is on the desk yet: /add FILE, or open a session (F2).");
    return 0;
}

int desk_ask(struct desk *desk, const char *question, struct error *error)
{
    const int rc = check_askable(desk, error);
    if (rc) return rc;
    if (desk->state == DESK_ANSWERING)
        return error_set(error, ERROR_USAGE, "An answer is being written: stop it with Ctrl-C, or wait.");
    if (desk->state == DESK_IDLE) return ask_now(desk, question, error);
    if (desk->queued) return error_set(error, ERROR_USAGE, "One question waits for the reading already.");
    desk->queued = strdup(question);
    return desk->queued ? 0 : out_of_memory(error);
}

int desk_rewind(struct desk *desk, size_t keep, struct error *error)
{
    int rc = check_askable(desk, error);
    if (rc) return rc;
    if (desk_is_busy(desk)) return error_set(error, ERROR_USAGE, "Stop the running job first (Ctrl-C).");
    rc = worker_rewind(desk->worker, keep, error);
    if (rc) return rc;
    desk_clear_turns(desk, keep);
    desk->sessions_changed = true;
    return 0;
}

int desk_ask_again(struct desk *desk, size_t keep, const char *question, bool keep_branch, struct error *error)
{
    int rc = check_askable(desk, error);
    if (!rc && desk_is_busy(desk)) rc = error_set(error, ERROR_USAGE, "Stop the running job first (Ctrl-C).");
    if (!rc && keep_branch) rc = desk_keep_branch(desk, error);
    if (!rc) rc = desk_rewind(desk, keep, error);
    return rc ? rc : desk_ask(desk, question, error);
}

int desk_read(struct desk *desk, struct error *error)
{
    int rc = check_askable(desk, error);
    if (rc || desk_is_busy(desk)) return rc;
    rc = worker_read(desk->worker, error);
    if (rc) return rc;
    desk->state = DESK_READING;
    return 0;
}

void desk_stop(struct desk *desk)
{
    if (desk->queued) {
        give_back(desk, desk->queued);
        desk->queued = NULL;
    }
    if (desk_is_busy(desk)) worker_cancel(desk->worker);
}

uint64_t desk_context(const struct desk *desk)
{
    return desk->is_ready ? engine_info(worker_engine(desk->worker))->context : 0;
}

uint64_t desk_context_used(const struct desk *desk)
{
    return desk->is_ready ? worker_length(desk->worker) : 0;
}

double desk_document_share(const struct desk *desk, size_t i)
{
    if (desk->has_read) return 1;
    double before = 0, all = 0;
    for (size_t k = 0; k < desk->n_documents; k++) {
        all += (double)desk->documents[k].len;
        if (k < i) before += (double)desk->documents[k].len;
    }
    if (!desk->reading.total || all <= 0) return 0;
    const double done = all * (double)desk->reading.done / (double)desk->reading.total;
    const double len = (double)desk->documents[i].len;
    if (len <= 0) return done > before ? 1 : 0;
    const double share = (done - before) / len;
    return share < 0 ? 0 : share > 1 ? 1 : share;
}

/* ------------------------------------------------------------------------------------------------ events */

/* The running job has ended, well or not. */
static void job_ended(struct desk *desk)
{
    struct error error = {0};
    desk->state = DESK_IDLE;
    if (desk->pending != PENDING_NONE) {
        if (desk_resume_pending(desk, &error)) desk_fail(desk, &error);
        return;
    }
    char *question = desk->queued;
    desk->queued = NULL;
    if (!question) return;
    if (desk_ask(desk, question, &error)) {
        desk_fail(desk, &error);
        give_back(desk, question);
        return;
    }
    free(question);
}

static void on_answered(struct desk *desk, const struct event *event)
{
    if (desk->state != DESK_ANSWERING || !desk->n_turns) return;
    struct desk_turn *turn = &desk->turns[desk->n_turns - 1];
    struct error error = {0};
    if (turn_end(turn, &error)) desk_fail(desk, &error);
    turn->stats = event->stats;
    turn->has_stats = true;
    turn->stopped = event->stopped;
    if (event->stopped && !turn->raw_len) take_back_last(desk); /* nothing was said: the worker keeps nothing either */
    desk->has_read = true;
    desk->sessions_changed = true;
    if (event->stats.answer_seconds > 0) desk->speed = (double)event->stats.answer_tokens / event->stats.answer_seconds;
    job_ended(desk);
}

static void on_text(struct desk *desk, const struct event *event)
{
    if (desk->state != DESK_ANSWERING || !desk->n_turns) return;
    struct error error = {0};
    if (turn_append(&desk->turns[desk->n_turns - 1], event->text, event->text_len, &error)) {
        desk_fail(desk, &error);
        desk_stop(desk);
    }
}

static void on_read(struct desk *desk, const struct event *event)
{
    const bool is_whole = !event->stopped;
    if (event->total)
        desk->reading = (struct desk_progress){event->done, event->total, event->seconds, event->rate, event->eta};
    if (desk->state != DESK_READING) return;
    desk->has_read = is_whole;
    if (!is_whole && desk->pending == PENDING_NONE) {
        desk_note(desk, "Stopped reading; what was read is kept. /read goes on, and so does a question.");
        if (desk->queued) give_back(desk, desk->queued);
        desk->queued = NULL;
    }
    job_ended(desk);
}

static void on_error(struct desk *desk, const struct event *event)
{
    struct error error = event->error;
    if (error.code == ERROR_CANCELLED && desk->state == DESK_READING) {
        const struct event stopped = {.stopped = true};
        on_read(desk, &stopped);
        return;
    }
    if (!desk->is_ready && !desk->failed) {
        desk->failed = true;
        desk->failure = error;
    }
    desk_fail(desk, &error);
    if (desk->state == DESK_ANSWERING) take_back_last(desk);
    if (desk->queued) give_back(desk, desk->queued);
    desk->queued = NULL;
    if (desk_is_busy(desk)) job_ended(desk);
    if (!desk->is_open && desk->pending == PENDING_NONE && !desk_is_busy(desk)) desk->state = DESK_EMPTY;
}

/* Before it is read: what is kept, what is to be read, and how long that takes where it is known. */
static void tell_cost(struct desk *desk, const struct event *event)
{
    const struct engine_info *info = engine_info(worker_engine(desk->worker));
    const struct speed speed = speed_recall(desk->params->state_dir, info);
    const double takes = speed_seconds(&speed, event->done, event->total);
    const uint64_t left = event->total - event->done;
    char kept[32], all[32], count[32], seconds[32];
    desk->tells_cost = false;
    if (!left) return;
    format_seconds(takes, seconds);
    desk_note(desk, "%s of %s tokens are kept, %s are to be read%s%s.", format_count(event->done, kept),
              format_count(event->total, all), format_count(left, count), takes > 0 ? ": about " : "",
              takes > 0 ? seconds : "");
}

static void on_resumed(struct desk *desk, const struct event *event)
{
    const bool tells = desk->tells_cost && !event->stopped;
    desk->is_open = true;
    desk->prompt_tokens = event->total;
    if (tells) tell_cost(desk, event);
    if (!event->done) return;
    char count[32], seconds[32];
    desk->was_resumed = true;
    desk->is_saved = event->done == event->total;
    desk->resumed_tokens = event->done;
    desk->resumed_seconds = event->seconds;
    if (!tells)
        desk_note(desk, "Resumed %s tokens in %s.", format_count(event->done, count),
                  format_seconds(event->seconds, seconds));
}

static void desk_event(struct desk *desk, const struct event *event)
{
    const struct desk_progress progress = {event->done, event->total, event->seconds, event->rate, event->eta};
    switch (event->kind) {
    case EVENT_LOADING:
        desk->loading = progress;
        break;
    case EVENT_READY:
        desk->is_ready = true;
        break;
    case EVENT_RESUMED:
        on_resumed(desk, event);
        break;
    case EVENT_READING:
        desk->reading = progress;
        desk->speed = event->rate;
        break;
    case EVENT_READ:
        speed_keep(desk->params->state_dir, engine_info(worker_engine(desk->worker)), &event->speed);
        on_read(desk, event);
        break;
    case EVENT_TEXT:
        on_text(desk, event);
        break;
    case EVENT_ANSWERED:
        on_answered(desk, event);
        break;
    case EVENT_SAVED:
        desk->is_saved = true;
        desk->sessions_changed = true;
        break;
    case EVENT_NOTE:
        desk_note(desk, "%s", event->text ? event->text : "");
        break;
    case EVENT_ERROR:
        on_error(desk, event);
        break;
    }
}

bool desk_poll(struct desk *desk)
{
    bool changed = false;
    struct event event;
    while (desk->worker && worker_event(desk->worker, &event, 0)) {
        desk_event(desk, &event);
        event_free(&event);
        changed = true;
    }
    return changed;
}

int desk_fd(const struct desk *desk)
{
    return desk->worker ? worker_fd(desk->worker) : -1;
}
