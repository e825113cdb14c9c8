/* SPDX-License-Identifier: MIT
 *
 * lectern ask: a question over documents, or one after the other; the answers on stdout.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/commands.h"
#include "app/console.h"
#include "app/questions.h"
#include "app/reader.h"
#include "app/sanitize.h"

struct ask_options {
    const char *question, *questions;
    uint64_t session;
    bool json, stream_json, continues;
};

#define AT(field) .offset = offsetof(struct ask_options, field)
static const struct option ask_table[] = {
    {"question", 'q', OPTION_TEXT, "TEXT", NULL, "the question; - reads it from stdin", AT(question)},
    {"questions", 0, OPTION_TEXT, "FILE", NULL, "a question a line, each answered in turn; - reads them from stdin",
     AT(questions)},
    {"json", 0, OPTION_FLAG, NULL, NULL, "answer as one JSON object, on one line", AT(json)},
    {"stream-json", 0, OPTION_FLAG, NULL, NULL, "events as JSON, one a line", AT(stream_json)},
    {"continue", 'c', OPTION_FLAG, NULL, NULL,
     "go on with these documents' last conversation, and keep the answer in it", AT(continues)},
    {"session", 's', OPTION_U64, "ID", "0", "go on with this session (its documents are stored)", AT(session),
     .most = INT64_MAX},
    {NULL},
};
#undef AT

static const struct command_usage ask_usage = {
    .name = "ask",
    .arguments = "FILE|DIR... -q TEXT",
    .about =
        "Answers questions over documents on stdout. What was read before is not read again. Each question stands\n"
        "alone on the documents unless --continue or --session is given. An answer that --max-tokens, the context or\n"
        "the model's repeating itself cuts short is still an answer, exit code 0: a remark on stderr tells, and in "
        "JSON\n"
        "\"ended\" (whole, stopped, max-tokens, context or repeated).",
    .options = ask_table,
};

struct asking {
    struct reader reader;
    const struct ask_options *options;
    struct sanitizer sanitizer;
    struct json answer; /* --json: the text so far, raw */
    char last;          /* byte written */
    bool stopped, is_answered;
    struct answer_stats stats;
};

/* ------------------------------------------------------------------------------------------------ question */

static int read_question(char **out, struct error *error)
{
    char *text = malloc(QUESTION_MOST_BYTES + 1);
    if (!text) return error_set(error, ERROR_FAILED, "Out of memory.");
    size_t n = fread(text, 1, QUESTION_MOST_BYTES + 1, stdin);
    int rc = 0;
    if (ferror(stdin))
        rc = error_set(error, ERROR_INPUT, "The question cannot be read: %s.", strerror(errno));
    else if (n > QUESTION_MOST_BYTES)
        rc = error_set(error, ERROR_USAGE, "The question is longer than 1 MiB.");
    else if (memchr(text, 0, n))
        rc = error_set(error, ERROR_USAGE, "The question has NUL bytes.");
    if (rc) {
        free(text);
        return rc;
    }
    text[n] = 0;
    *out = text;
    return 0;
}

static int check_options(const struct ask_options *o, int argc, struct error *error)
{
    if (!o->question && !o->questions)
        return error_set(error, ERROR_USAGE, "ask needs a question: -q TEXT, -q - for stdin, or --questions FILE.");
    if (o->question && o->questions) return error_set(error, ERROR_USAGE, "Take one of -q and --questions.");
    if (o->json && o->stream_json) return error_set(error, ERROR_USAGE, "Take one of --json and --stream-json.");
    if (argc < 2 && !o->session) return error_set(error, ERROR_USAGE, "ask needs a file or folder, or --session ID.");
    if (argc > 1 && o->session)
        return error_set(error, ERROR_USAGE, "A session has its own documents: leave the files out.");
    return 0;
}

/* ------------------------------------------------------------------------------------------------- answer */

static void write_text(struct asking *a, const char *text, size_t len)
{
    char *safe = malloc(SANITIZE_ROOM(len));
    size_t n = safe ? sanitize_push(&a->sanitizer, text, len, safe) : 0;
    if (n) a->last = safe[n - 1];
    if (!safe || (n && !console_write(safe, n))) a->reader.output_gone = true;
    free(safe);
}

static void end_text(struct asking *a)
{
    char rest[SANITIZE_ROOM(1)];
    size_t n = sanitize_end(&a->sanitizer, rest);
    if (n) a->last = rest[n - 1];
    if (a->last != '\n') rest[n++] = '\n';
    if (!console_write(rest, n)) a->reader.output_gone = true;
}

static void take_event(void *ctx, const struct event *e)
{
    struct asking *a = ctx;
    bool is_plain = !a->options->json && !a->options->stream_json;
    if (e->kind == EVENT_TEXT && is_plain) write_text(a, e->text, e->text_len);
    if (e->kind == EVENT_TEXT && a->options->json) json_append(&a->answer, e->text, e->text_len);
    if (e->kind != EVENT_ANSWERED) return;
    a->is_answered = true;
    a->stopped = e->stopped;
    a->stats = e->stats;
    if (is_plain && a->last) end_text(a);
}

static void describe_stats(const struct asking *a, struct json *j)
{
    const struct answer_stats *s = &a->stats;
    const struct engine_info *info = engine_info(worker_engine(a->reader.worker));
    json_text(j, "model", info->model_name);
    json_text(j, "device", info->device_name);
    if (a->reader.session) json_int(j, "session", a->reader.session);
    json_bool(j, "stopped", a->stopped);
    json_text(j, "ended", answer_end_name(s->end));
    json_uint(j, "prompt_tokens", s->prompt_tokens);
    json_uint(j, "reused_tokens", s->reused_tokens);
    json_uint(j, "answer_tokens", s->answer_tokens);
    json_real(j, "prompt_seconds", s->prompt_seconds);
    json_real(j, "first_token_seconds", s->first_token_seconds);
    json_real(j, "answer_seconds", s->answer_seconds);
}

static void send_json(struct asking *a, const char *question)
{
    struct json j = {.failed = a->answer.failed || a->reader.notes.failed};
    json_open(&j, NULL, '{');
    if (a->options->stream_json) json_text(&j, "type", "answered");
    json_text(&j, "question", question);
    if (a->options->json) json_string(&j, "answer", a->answer.text ? a->answer.text : "", a->answer.len);
    describe_stats(a, &j);
    if (a->options->json) {
        reader_describe_documents(&a->reader, &j);
        json_raw(&j, "notes", '[', &a->reader.notes, ']');
    }
    json_close(&j, '}');
    if (json_send(&j)) a->reader.output_gone = true;
    json_free(&j);
}

static void tell_speed(const struct asking *a)
{
    const struct answer_stats *s = &a->stats;
    if (s->answer_seconds > 0 && s->answer_tokens)
        console_detail(
            "%zu tokens of prompt (%zu reused) in %.2f s, first token after %.2f s, %zu tokens at %.1f tok/s",
            s->prompt_tokens, s->reused_tokens, s->prompt_seconds, s->first_token_seconds, s->answer_tokens,
            (double)s->answer_tokens / s->answer_seconds);
}

static int ask(struct asking *a, const char *question, struct error *error)
{
    struct reader *r = &a->reader;
    if (r->signal) return error_set(error, ERROR_CANCELLED, "Stopped.");
    int rc = worker_ask(r->worker, question, strlen(question), error);
    if (!rc) rc = reader_wait(r, EVENT_ANSWERED, take_event, a, error);
    if (rc) return rc;
    if (a->options->json || a->options->stream_json)
        send_json(a, question);
    else
        tell_speed(a);
    return reader_wait_saved(r, error);
}

/* Each above its answer, where there is nothing else to tell them by; what was told on the way belongs to its own. */
static int ask_each(struct asking *a, struct questions *questions, struct error *error)
{
    const char *question;
    int rc = questions_next(questions, &question, error);
    for (size_t i = 0; !rc && question && !a->reader.output_gone; i++) {
        if (!a->options->json && !a->options->stream_json) {
            write_text(a, i ? "\n> " : "> ", i ? 3 : 2);
            write_text(a, question, strlen(question));
            write_text(a, "\n", 1);
            a->last = 0;
        }
        rc = ask(a, question, error);
        json_free(&a->answer);
        json_free(&a->reader.notes);
        if (!rc) rc = questions_next(questions, &question, error);
    }
    if (!rc && console_signal()) a->reader.signal = console_signal();
    return rc;
}

int cmd_ask(int argc, char **argv)
{
    struct settings settings;
    struct ask_options options = {0};
    struct error error = {0};
    int status;
    if (!command_begin(&settings, &ask_usage, &options, &argc, argv, &status)) return status;
    char *typed = NULL;
    struct json stream = {0};
    struct questions questions = {0};
    struct asking a = {.options = &options};
    int rc = check_options(&options, argc, &error);
    if (!rc && options.question && !strcmp(options.question, "-")) rc = read_question(&typed, &error);
    if (!rc && options.questions) rc = questions_open(&questions, options.questions, &error);
    const char *question = typed ? typed : options.question;
    if (!rc && question && !question[strspn(question, " \t\r\n")])
        rc = error_set(&error, ERROR_USAGE, "The question is empty.");
    struct reader_params params = {
        .paths = argv + 1,
        .n_paths = (size_t)argc - 1,
        .session = (int64_t)options.session,
        .one_shot = !options.continues && !options.session,
        .stream = options.stream_json ? &stream : NULL,
    };
    if (rc)
        rc = console_error(&error);
    else {
        rc = reader_open(&a.reader, &settings, &params, &error);
        if (!rc) rc = question ? ask(&a, question, &error) : ask_each(&a, &questions, &error);
        rc = reader_close(&a.reader, rc, &error);
    }
    json_free(&a.answer);
    json_free(&stream);
    questions_close(&questions);
    free(typed);
    settings_free(&settings);
    return rc;
}
