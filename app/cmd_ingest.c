/* SPDX-License-Identifier: MIT
 *
 * lectern ingest: read documents now, ask later.
 */
#include "app/commands.h"
#include "app/console.h"
#include "app/progress.h"
#include "app/reader.h"

struct ingest_options {
    bool json;
};

static const struct option ingest_table[] = {
    {"json", 0, OPTION_FLAG, NULL, NULL, "what was read, as one JSON object",
     .offset = offsetof(struct ingest_options, json)},
    {NULL},
};

static const struct command_usage ingest_usage = {
    .name = "ingest",
    .arguments = "FILE|DIR...",
    .about = "Reads documents and keeps the model's state, so that later questions are answered at once. Stopped or "
             "killed,\n"
             "it goes on from the last checkpoint when started again.",
    .options = ingest_table,
};

struct ingest {
    struct reader reader;
    bool stopped;
    double seconds, rate;
};

static void take_event(void *ctx, const struct event *e)
{
    struct ingest *in = ctx;
    if (e->kind != EVENT_READ) return;
    in->stopped = e->stopped;
    in->seconds = e->seconds;
    in->rate = e->rate;
}

static void describe(const struct ingest *in)
{
    const struct reader *r = &in->reader;
    const struct engine_info *info = engine_info(worker_engine(r->worker));
    struct json j = {.failed = r->notes.failed};
    json_open(&j, NULL, '{');
    json_int(&j, "session", r->session);
    json_text(&j, "model", info->model_name);
    json_text(&j, "device", info->device_name);
    json_uint(&j, "tokens", r->total);
    json_uint(&j, "resumed_tokens", r->resumed);
    json_uint(&j, "read_tokens", r->at - r->resumed);
    json_uint(&j, "context", info->context);
    json_real(&j, "seconds", in->seconds);
    json_real(&j, "tokens_per_second", in->rate);
    reader_describe_documents(r, &j);
    json_raw(&j, "notes", '[', &r->notes, ']');
    json_close(&j, '}');
    json_send(&j);
    json_free(&j);
}

static int ingest(struct ingest *in, struct error *error)
{
    struct reader *r = &in->reader;
    if (r->signal) return error_set(error, ERROR_CANCELLED, "Stopped.");
    int rc = worker_read(r->worker, error);
    if (!rc) rc = reader_wait(r, EVENT_READ, take_event, in, error);
    if (!rc) rc = reader_wait_saved(r, error);
    if (rc || in->stopped) return rc;
    char tokens[32], seconds[32];
    if (r->at > r->resumed)
        console_say("read %s tokens in %s (%.0f tok/s); kept as session %lld", format_count(r->at - r->resumed, tokens),
                    format_seconds(in->seconds, seconds), in->rate, (long long)r->session);
    else
        console_say("all %s tokens were read before: session %lld", format_count(r->total, tokens),
                    (long long)r->session);
    return 0;
}

int cmd_ingest(int argc, char **argv)
{
    struct settings settings;
    struct ingest_options options = {0};
    struct error error = {0};
    struct ingest in = {0};
    int status;
    if (!command_begin(&settings, &ingest_usage, &options, &argc, argv, &status)) return status;
    int rc = 0;
    if (argc < 2)
        rc = error_set(&error, ERROR_USAGE, "ingest needs a file or folder.");
    else if (settings.ephemeral)
        rc = error_set(&error, ERROR_USAGE, "ingest keeps what it reads: --ephemeral makes no sense.");
    if (rc)
        rc = console_error(&error);
    else {
        struct reader_params params = {.paths = argv + 1, .n_paths = (size_t)argc - 1, .one_shot = true, .lists = true};
        rc = reader_open(&in.reader, &settings, &params, &error);
        if (!rc) rc = ingest(&in, &error);
        if (!rc && options.json) describe(&in);
        rc = reader_close(&in.reader, rc, &error);
    }
    settings_free(&settings);
    return rc;
}
