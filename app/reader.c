/* SPDX-License-Identifier: MIT
 *
 * Documents to worker, and the event loop of the plain commands.
 */
#include "app/reader.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "app/console.h"
#include "app/model_find.h"
#include "app/model_use.h"
#include "app/paths.h"
#include "app/progress.h"
#include "app/session.h"
#include "app/speed.h"

#define NAMES_SHOWN 10

/* ------------------------------------------------------------------------------------------------- report */

/* How a document was read is told where it is not plain UTF-8; with `lists` each is named, the first few or with -v. */
static void report_document(const struct document *d, bool lists, bool is_detail)
{
    char bytes[32];
    const char *encoding = document_encoding_name(d->encoding);
    if (d->encoding == ENCODING_WINDOWS1252)
        console_say("%.300s: %s, not UTF-8, read as %s", d->name, format_bytes(d->text_len, bytes), encoding);
    else if (lists && is_detail)
        console_detail("%.300s: %s, %s", d->name, format_bytes(d->text_len, bytes), encoding);
    else if (lists)
        console_say("%.300s: %s, %s", d->name, format_bytes(d->text_len, bytes), encoding);
}

static void report_documents(const struct document_list *list, bool lists)
{
    char bytes[32];
    uint64_t total = 0;
    for (size_t i = 0; i < list->count; i++) {
        report_document(&list->items[i], lists, i >= NAMES_SHOWN);
        total += list->items[i].text_len;
    }
    for (size_t i = 0; i < list->n_skipped; i++) {
        const struct document_skip *s = &list->skipped[i];
        if (i < NAMES_SHOWN)
            console_say("Skipped: %.300s %s.", s->name, s->reason);
        else
            console_detail("Skipped: %.300s %s.", s->name, s->reason);
    }
    if (list->n_skipped > NAMES_SHOWN) console_say("%zu were skipped in all (-v lists them).", list->n_skipped);
    if (lists || list->count > 1)
        console_say("%zu document%s, %s.", list->count, list->count == 1 ? "" : "s", format_bytes(total, bytes));
}

void reader_describe_documents(const struct reader *r, struct json *j)
{
    json_open(j, "documents", '[');
    for (size_t i = 0; i < r->documents.count; i++) {
        const struct document *d = &r->documents.items[i];
        json_open(j, NULL, '{');
        json_text(j, "name", d->name);
        json_text(j, "path", d->path);
        json_uint(j, "bytes", d->text_len);
        json_text(j, "encoding", document_encoding_name(d->encoding));
        json_hex(j, "sha256", d->hash, sizeof d->hash);
        json_close(j, '}');
    }
    json_close(j, ']');
    json_open(j, "skipped", '[');
    for (size_t i = 0; i < r->documents.n_skipped; i++) {
        json_open(j, NULL, '{');
        json_text(j, "name", r->documents.skipped[i].name);
        json_text(j, "reason", r->documents.skipped[i].reason);
        json_close(j, '}');
    }
    json_close(j, ']');
}

/* ------------------------------------------------------------------------------------------------ telling */

static void note_sentence(struct reader *r, const struct event *e)
{
    if (e->error.code && r->unsaved.code == e->error.code && !strcmp(r->unsaved.text, e->error.text)) return;
    console_say("%.*s", (int)e->text_len, e->text ? e->text : "");
    json_string(&r->notes, NULL, e->text ? e->text : "", e->text_len);
    r->n_notes++;
    if (e->error.code) r->unsaved = e->error;
}

static void stream_event(struct json *j, const struct event *e)
{
    static const char *const types[] = {
        [EVENT_LOADING] = NULL, [EVENT_READY] = "ready", [EVENT_RESUMED] = "resumed", [EVENT_READING] = "reading",
        [EVENT_READ] = "read",  [EVENT_TEXT] = "text",   [EVENT_ANSWERED] = NULL,     [EVENT_SAVED] = "saved",
        [EVENT_NOTE] = "note",  [EVENT_ERROR] = NULL};
    if (!types[e->kind]) return;
    bool counts = e->kind == EVENT_RESUMED || e->kind == EVENT_READING || e->kind == EVENT_READ;
    json_open(j, NULL, '{');
    json_text(j, "type", types[e->kind]);
    if (e->text) json_string(j, "text", e->text, e->text_len);
    if (counts) {
        json_uint(j, "done", e->done);
        json_uint(j, "total", e->total);
        json_real(j, "seconds", e->seconds);
    }
    json_close(j, '}');
    json_send(j);
}

/* What became of the documents since they were read, as a note like any other. */
static void tell_change(void *ctx, const char *sentence)
{
    struct reader *r = ctx;
    char *text = strdup(sentence);
    struct event e = {.kind = EVENT_NOTE, .text = text, .text_len = text ? strlen(text) : 0};
    note_sentence(r, &e);
    if (r->stream) stream_event(r->stream, &e);
    free(text);
}

/* ------------------------------------------------------------------------------------------------- opening */

static int open_store(struct reader *r, struct error *error)
{
    if (r->settings->ephemeral) return 0;
    int rc = paths_data(r->settings->data_dir, &r->data_dir, error);
    return rc ? rc : store_open(&r->store, r->data_dir, error);
}

static int gather_documents(struct reader *r, const struct reader_params *params, struct error *error)
{
    r->session = params->session;
    if (params->n_paths) {
        int rc = documents_read(&r->documents, params->paths, params->n_paths, error);
        report_documents(&r->documents, params->lists);
        if (rc) return rc;
    }
    int rc = open_store(r, error);
    if (rc) return rc;
    if (!params->n_paths && !r->store)
        return error_set(error, ERROR_USAGE, "With --ephemeral there are no sessions: name the documents.");
    const struct change_report report = {.tell = tell_change, .ctx = r};
    if (params->n_paths)
        return r->store ? session_for_documents(r->store, &r->documents, &report, &r->session, error) : 0;
    rc = session_load_documents(r->store, r->session, &r->documents, error);
    if (!rc && changes_on_disk(&r->documents, &report))
        tell_change(r, "The session goes on with the text it has read.");
    return rc;
}

static int open_session(struct reader *r, struct error *error)
{
    size_t count = r->documents.count;
    struct worker_document *list = calloc(count + 1, sizeof *list);
    if (!list) return error_set(error, ERROR_FAILED, "Out of memory.");
    for (size_t i = 0; i < count; i++) {
        const struct document *d = &r->documents.items[i];
        list[i] = (struct worker_document){.name = d->name, .text = d->text, .text_len = d->text_len};
    }
    int rc = worker_open(r->worker, r->session, list, count, error);
    free(list);
    return rc;
}

/* What keeps a plan from being made is told by the loading itself. */
static void tell_plan(const struct engine_params *params)
{
    struct engine_plan plan;
    char note[MEMORY_NOTE_ROOM];
    if (!memory_plan_check(&plan, params, 0, note, NULL)) model_tell_plan(&plan);
}

int reader_open(struct reader *r, const struct settings *settings, const struct reader_params *params,
                struct error *error)
{
    *r = (struct reader){.settings = settings, .stream = params->stream};
    int rc = console_catch_signals(error);
    if (!rc) rc = model_find(settings->model, settings->data_dir, &r->model, error);
    if (!rc) rc = gather_documents(r, params, error);
    if (rc) return rc;
    struct worker_params worker = {
        .engine = settings_engine(settings),
        .sample = settings_sample(settings),
        .most_answer_tokens = settings->most_tokens,
        .one_shot = params->one_shot,
        .system_text = settings->system_text,
        .store = r->store,
        .store_max = settings->store_max,
    };
    worker.engine.model = r->model;
    tell_plan(&worker.engine);
    rc = worker_start(&r->worker, &worker, error);
    if (!rc) rc = open_session(r, error);
    return rc ? rc : reader_wait(r, EVENT_RESUMED, NULL, NULL, error);
}

/* ----------------------------------------------------------------------------------------------- the loop */

static void show_progress(const struct event *e)
{
    bool is_reading = e->kind == EVENT_READING;
    progress_show(&(struct progress){.what = is_reading ? "Reading" : "Loading",
                                     .unit = is_reading ? "tok" : NULL,
                                     .done = e->done,
                                     .total = e->total,
                                     .rate = is_reading ? e->rate : 0,
                                     .eta = is_reading ? e->eta : -1});
}

static void note_resumed(struct reader *r, const struct event *e)
{
    char done[32], total[32], seconds[32], left[32], time[48] = "";
    r->resumed = r->at = e->done;
    r->total = e->total;
    r->resume_seconds = e->seconds;
    if (e->stopped) return;
    if (e->done)
        console_say("resumed %s of %s tokens in %s", format_count(e->done, done), format_count(e->total, total),
                    format_seconds(e->seconds, seconds));
    const struct engine_info *info = engine_info(worker_engine(r->worker));
    const struct speed speed = speed_recall(r->data_dir, info);
    const double takes = speed_seconds(&speed, e->done, e->total);
    if (takes > 0) snprintf(time, sizeof time, ", about %s", format_seconds(takes, seconds));
    if (e->done < e->total)
        console_say("%s tokens to read%s (%.0f %% of the context of %s)", format_count(e->total - e->done, left), time,
                    100.0 * (double)e->total / (double)info->context, format_count(info->context, total));
}

static void take_event(struct reader *r, const struct event *e)
{
    switch (e->kind) {
    case EVENT_LOADING:
        show_progress(e);
        break;
    case EVENT_READING:
        r->at = e->done, show_progress(e);
        break;
    case EVENT_READY:
        progress_clear();
        r->is_ready = true;
        console_detail("%s on %s", engine_info(worker_engine(r->worker))->model_name,
                       engine_info(worker_engine(r->worker))->device_name);
        break;
    case EVENT_RESUMED:
        note_resumed(r, e);
        break;
    case EVENT_READ:
        r->at = e->done, progress_clear();
        speed_keep(r->data_dir, engine_info(worker_engine(r->worker)), &e->speed);
        break;
    case EVENT_NOTE:
        note_sentence(r, e);
        break;
    case EVENT_SAVED:
        r->unsaved = (struct error){0};
        break;
    case EVENT_TEXT:
    case EVENT_ANSWERED:
    case EVENT_ERROR:
        progress_clear();
        break;
    }
}

static bool wait_for_input(struct reader *r)
{
    struct pollfd fds[2] = {{.fd = worker_fd(r->worker), .events = POLLIN},
                            {.fd = r->signal ? -1 : console_signal_fd(), .events = POLLIN}};
    poll(fds, 2, -1); /* interrupted: the signal is looked for anyway */
    bool asks = (!r->signal && console_signal()) || r->output_gone;
    if (!r->signal) r->signal = console_signal();
    if (asks) worker_cancel(r->worker);
    return r->is_ready || !r->signal;
}

int reader_wait(struct reader *r, enum event_kind until, void (*handler)(void *ctx, const struct event *), void *ctx,
                struct error *error)
{
    for (;;) {
        struct event e;
        if (!wait_for_input(r)) return error_set(error, ERROR_CANCELLED, "Stopped while the model was loading.");
        while (worker_event(r->worker, &e, 0)) {
            enum event_kind kind = e.kind;
            take_event(r, &e);
            if (r->stream) stream_event(r->stream, &e);
            if (handler) handler(ctx, &e);
            struct error failed = e.error;
            bool is_lost = kind == EVENT_NOTE && failed.code && until == EVENT_SAVED;
            event_free(&e);
            if (kind == EVENT_ERROR || is_lost) return error_set(error, failed.code, "%s", failed.text);
            if (kind == until) return 0;
        }
    }
}

int reader_wait_saved(struct reader *r, struct error *error)
{
    if (!r->store) return 0;
    return reader_wait(r, EVENT_SAVED, NULL, NULL, error);
}

/* ------------------------------------------------------------------------------------------------- leaving */

int reader_close(struct reader *r, int status, const struct error *error)
{
    char at[32], total[32];
    progress_clear();
    if (r->worker) worker_stop(&r->worker);
    store_close(&r->store);
    if (!r->signal) r->signal = console_signal();
    if (r->signal && r->total)
        console_say("Stopped after %s of %s tokens; %s.", format_count(r->at, at), format_count(r->total, total),
                    r->settings->ephemeral ? "nothing is kept (--ephemeral)" : "what was read is kept");
    else if (r->signal)
        console_say("Stopped.");
    else if (status && error && !r->output_gone)
        console_error(error);
    if (r->signal) status = console_signal_status(r->signal);
    documents_free(&r->documents);
    json_free(&r->notes);
    free(r->model);
    free(r->data_dir);
    return console_finish(status);
}
