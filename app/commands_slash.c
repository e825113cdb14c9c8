/* SPDX-License-Identifier: MIT
 *
 * The table of / commands (commands_slash.h). A new command is a function and a line.
 */
#include "app/commands_slash.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/clipboard.h"
#include "app/export.h"
#include "app/progress.h"
#include "app/settings_slash.h"

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
say(struct slash_context *context, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    context->say(context->ctx, line);
}

static int needs(const char *argument, const char *what, struct error *error)
{
    return *argument ? 0 : error_set(error, ERROR_USAGE, "Which %s?", what);
}

/* NULL for an argument that was not given */
static const char *optional(const char *argument)
{
    return *argument ? argument : NULL;
}

static int run_add(struct slash_context *context, const char *argument, struct error *error)
{
    const int rc = needs(argument, "file or folder", error);
    return rc ? rc : desk_add(context->desk, argument, error);
}

static int run_docs(struct slash_context *context, const char *argument, struct error *error)
{
    (void)argument, (void)error;
    const struct desk *desk = context->desk;
    if (context->tui) {
        tui_focus(context->tui, VIEW_LIBRARY);
        return 0;
    }
    if (!desk->n_documents) say(context, "No document is on the desk.");
    for (size_t i = 0; i < desk->n_documents; i++) {
        char size[32];
        say(context, "%s, %s", desk->documents[i].name, format_bytes(desk->documents[i].len, size));
    }
    return 0;
}

static int run_sessions(struct slash_context *context, const char *argument, struct error *error)
{
    (void)argument;
    struct desk *desk = context->desk;
    if (context->tui) {
        tui_focus(context->tui, VIEW_LIBRARY);
        return 0;
    }
    const int rc = desk_sessions(desk, error);
    if (rc) return rc;
    if (!desk->sessions.count) say(context, "No sessions are kept.");
    for (size_t i = 0; i < desk->sessions.count; i++) {
        const struct store_session *session = &desk->sessions.items[i];
        say(context, "%lld: %s, %llu questions%s", (long long)session->id, session->name,
            (unsigned long long)session->n_turns / 2, session->id == desk->session ? ", open" : "");
    }
    return 0;
}

static int run_open(struct slash_context *context, const char *argument, struct error *error)
{
    char *end;
    const long long id = strtoll(argument, &end, 10);
    if (!*argument || *end || id <= 0)
        return error_set(error, ERROR_USAGE, "Which session? /sessions shows their numbers.");
    return desk_open(context->desk, id, error);
}

static int run_new(struct slash_context *context, const char *argument, struct error *error)
{
    return desk_new(context->desk, optional(argument), error);
}

static int run_fork(struct slash_context *context, const char *argument, struct error *error)
{
    return desk_fork(context->desk, optional(argument), error);
}

static int run_rename(struct slash_context *context, const char *argument, struct error *error)
{
    const int rc = needs(argument, "name", error);
    return rc ? rc : desk_rename(context->desk, argument, error);
}

static int run_read(struct slash_context *context, const char *argument, struct error *error)
{
    (void)argument;
    if (context->desk->has_read) say(context, "Everything has been read.");
    return context->desk->has_read ? 0 : desk_read(context->desk, error);
}

static int run_reread(struct slash_context *context, const char *argument, struct error *error)
{
    (void)argument;
    return desk_reread(context->desk, error);
}

/* The turn of question n, from 1. */
static int question_at(const struct desk *desk, const char *argument, size_t *turn, struct error *error)
{
    char *end;
    const unsigned long n = strtoul(argument, &end, 10);
    if (end == argument || *end || n < 1 || 2 * n > desk->n_turns)
        return error_set(error, ERROR_USAGE, "There are %zu questions; which one?", desk->n_turns / 2);
    *turn = 2 * (n - 1);
    return 0;
}

static int run_rewind(struct slash_context *context, const char *argument, struct error *error)
{
    struct desk *desk = context->desk;
    size_t turn = 0;
    if (context->tui && !*argument) {
        struct error problem = {0};
        chat_begin_rewind(context->tui, &problem);
        if (problem.code) *error = problem;
        return (int)problem.code;
    }
    int rc = question_at(desk, argument, &turn, error);
    if (rc) return rc;
    if (context->tui) return chat_edit(context->tui, desk->turns[turn].raw, turn, error);
    rc = desk_keep_branch(desk, error);
    if (!rc) rc = desk_rewind(desk, turn, error);
    if (!rc) say(context, "Back before question %s.", argument);
    return rc;
}

static int run_regen(struct slash_context *context, const char *argument, struct error *error)
{
    (void)argument;
    struct desk *desk = context->desk;
    if (desk->n_turns < 2) return error_set(error, ERROR_USAGE, "Nothing was asked yet.");
    if (desk->sample.temperature <= 0)
        say(context, "With temperature 0 the same answer comes again; /set temp 0.7 lets it differ.");
    char *question = strdup(desk->turns[desk->n_turns - 2].raw);
    if (!question) return error_set(error, ERROR_FAILED, "Out of memory while asking again.");
    const int rc = desk_ask_again(desk, desk->n_turns - 2, question, false, error);
    free(question);
    return rc;
}

static int run_goto(struct slash_context *context, const char *argument, struct error *error)
{
    const int rc = needs(argument, "line, share (50%) or document", error);
    return rc ? rc : reader_view_goto(context->tui, argument, error);
}

static int run_search(struct slash_context *context, const char *argument, struct error *error)
{
    const int rc = needs(argument, "text", error);
    return rc ? rc : reader_view_search(context->tui, argument, error);
}

static int run_export(struct slash_context *context, const char *argument, struct error *error)
{
    const struct desk *desk = context->desk;
    char path[512];
    if (desk->state == DESK_EMPTY) return error_set(error, ERROR_USAGE, "No session is open.");
    const size_t len = strlen(argument);
    const bool is_json = !strcmp(argument, "json") || (len > 5 && !strcmp(argument + len - 5, ".json"));
    if (!len || !strcmp(argument, "md") || !strcmp(argument, "json")) {
        char stamp[32];
        const time_t now = time(NULL);
        struct tm local;
        localtime_r(&now, &local);
        strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &local);
        snprintf(path, sizeof path, "lectern-%s.%s", stamp, is_json ? "json" : "md");
    } else {
        snprintf(path, sizeof path, "%s", argument);
    }
    const int rc = export_session(desk, is_json ? EXPORT_JSON : EXPORT_MARKDOWN, path, error);
    if (!rc) say(context, "Written to %s.", path);
    return rc;
}

static int run_copy(struct slash_context *context, const char *argument, struct error *error)
{
    (void)argument;
    const struct desk *desk = context->desk;
    const struct desk_turn *last = desk->n_turns ? &desk->turns[desk->n_turns - 1] : NULL;
    if (!last || last->is_question || !last->raw_len)
        return error_set(error, ERROR_USAGE, "There is no answer to copy.");
    const char *way;
    const int rc = clipboard_copy(last->raw, last->raw_len, &way, error);
    if (!rc) say(context, "The last answer was copied (%s).", way);
    return rc;
}

static int run_stats(struct slash_context *context, const char *argument, struct error *error)
{
    (void)argument;
    const struct desk *desk = context->desk;
    char a[32], b[32], c[32];
    if (desk->is_ready) {
        const struct engine_info *info = engine_info(worker_engine(desk->worker));
        say(context, "Model %s on %s: %s of weights, %s tokens of context.", info->model_name, info->device_name,
            format_bytes(info->weight_bytes, a), format_count(info->context, b));
        say(context, "In the context: %s tokens, %s of rows and %s of state.", format_count(desk_context_used(desk), a),
            format_bytes(desk_context_used(desk) * info->row_bytes, b), format_bytes(info->state_bytes, c));
    }
    const struct desk_turn *last = desk->n_turns ? &desk->turns[desk->n_turns - 1] : NULL;
    if (last && last->has_stats) {
        const struct answer_stats *stats = &last->stats;
        say(context, "Last answer: %s tokens in %s, first after %s.", format_count(stats->answer_tokens, a),
            format_seconds(stats->answer_seconds, b), format_seconds(stats->first_token_seconds, c));
        say(context, "Its prompt: %s tokens, %s of them reused.", format_count(stats->prompt_tokens, a),
            format_count(stats->reused_tokens, b));
    }
    struct store_usage usage;
    const int rc = desk->store ? store_usage(desk->store, &usage, error) : 0;
    if (desk->store && !rc)
        say(context, "Kept on disk: %s; sessions: %llu, documents: %llu.", format_bytes(usage.file_bytes, a),
            (unsigned long long)usage.n_sessions, (unsigned long long)usage.n_documents);
    return rc;
}

static int run_messages(struct slash_context *context, const char *argument, struct error *error)
{
    (void)argument, (void)error;
    context->tui->overlay = VIEW_MESSAGES;
    return 0;
}

static int run_help(struct slash_context *context, const char *argument, struct error *error)
{
    (void)argument, (void)error;
    if (context->tui) {
        context->tui->overlay = VIEW_HELP;
        return 0;
    }
    size_t count;
    const struct slash_command *commands = slash_table(&count);
    for (size_t i = 0; i < count; i++)
        if (!commands[i].needs_screen)
            say(context, "/%s %s: %s", commands[i].name, commands[i].arguments, commands[i].help);
    return 0;
}

static int run_quit(struct slash_context *context, const char *argument, struct error *error)
{
    (void)argument, (void)error;
    context->wants_quit = true;
    return 0;
}

static const struct slash_command table[] = {
    {"add", "FILE|DIR", "lays a document on the desk", false, true, run_add},
    {"copy", "", "copies the last answer", false, false, run_copy},
    {"docs", "", "the documents on the desk", false, false, run_docs},
    {"export", "[md|json|FILE]", "writes the session to a file", false, true, run_export},
    {"fork", "[NAME]", "goes on in a copy of the session", false, false, run_fork},
    {"goto", "LINE|N%|NAME", "shows a place in the reader", true, false, run_goto},
    {"help", "", "keys and commands", false, false, run_help},
    {"messages", "", "what was said on the message line", true, false, run_messages},
    {"new", "[NAME]", "a new session over the same documents", false, false, run_new},
    {"open", "SESSION", "opens a session by its number", false, false, run_open},
    {"quit", "", "leaves", false, false, run_quit},
    {"read", "", "goes on reading after a stop", false, false, run_read},
    {"regen", "", "asks the last question again", false, false, run_regen},
    {"rename", "NAME", "gives the session another name", false, false, run_rename},
    {"reread", "", "reads documents anew whose files changed", false, false, run_reread},
    {"rewind", "[N]", "goes back to question N and edits it", false, false, run_rewind},
    {"search", "TEXT", "searches the documents", true, false, run_search},
    {"sessions", "", "all sessions", false, false, run_sessions},
    {"set", "[NAME VALUE]", "settings: shows or changes them", false, false, settings_run},
    {"stats", "", "model, context, speed, disk", false, false, run_stats},
};

const struct slash_command *slash_table(size_t *count)
{
    *count = sizeof table / sizeof *table;
    return table;
}

bool slash_is_command(const char *input)
{
    return input[0] == '/' && isalpha((unsigned char)input[1]);
}

/* The command of this name, or the only one that begins with it. */
static const struct slash_command *find(const char *name, size_t len, struct error *error)
{
    const struct slash_command *found = NULL;
    size_t matches = 0;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strncmp(table[i].name, name, len)) continue;
        if (!table[i].name[len]) return &table[i];
        found = &table[i];
        matches++;
    }
    if (matches == 1) return found;
    error_set(error, ERROR_USAGE, "%s /%.*s; /help lists the commands.",
              matches ? "Several commands begin with" : "There is no", (int)(len < 40 ? len : 40), name);
    return NULL;
}

int slash_run(struct slash_context *context, const char *input, struct error *error)
{
    const char *name = input + 1;
    const size_t len = strcspn(name, " \t\n");
    const struct slash_command *command = find(name, len, error);
    if (!command) return ERROR_USAGE;
    if (command->needs_screen && !context->tui)
        return error_set(error, ERROR_USAGE, "/%s needs the screen; this is the line mode.", command->name);
    const char *start = name + len + strspn(name + len, " \t\n");
    size_t end = strlen(start);
    while (end && isspace((unsigned char)start[end - 1])) end--;
    char *argument = strndup(start, end);
    if (!argument) return error_set(error, ERROR_FAILED, "Out of memory while reading the command.");
    const int rc = command->run(context, argument, error);
    free(argument);
    return rc;
}
