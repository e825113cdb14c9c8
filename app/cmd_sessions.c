/* SPDX-License-Identifier: MIT
 *
 * lectern sessions: what the store keeps. Each action is a row of the table at the end.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/actions.h"
#include "app/commands.h"
#include "app/console.h"
#include "app/json.h"
#include "app/options.h"
#include "app/paths.h"
#include "app/progress.h"
#include "app/sanitize.h"
#include "store/store.h"

struct sessions_options {
    bool json, documents;
    uint64_t turns;
    const char *name;
};

#define AT(field) .offset = offsetof(struct sessions_options, field)
static const struct option sessions_table[] = {
    {"json", 0, OPTION_FLAG, NULL, NULL, "list, show, export: as JSON", AT(json)},
    {"documents", 0, OPTION_FLAG, NULL, NULL, "export: with the documents' text", AT(documents)},
    {"turns", 0, OPTION_U64, "N", "0", "fork: keep the first N questions and answers only; 0: all", AT(turns),
     .most = 1u << 30},
    {"name", 0, OPTION_TEXT, "NAME", NULL, "fork: the new session's name", AT(name)},
    {NULL},
};
#undef AT

static const struct command_usage sessions_usage = {
    .name = "sessions",
    .arguments = "[ACTION [ID]...]",
    .about = "list             all sessions, the latest first (the default)\n"
             "show ID          one session: documents and conversation\n"
             "rename ID NAME   give it another name\n"
             "fork ID          a new session with the same beginning\n"
             "rm ID...         remove sessions and what only they used\n"
             "export ID        the conversation as Markdown, or --json, on stdout\n"
             "gc               drop what no session reaches and what is beyond --store-max\n"
             "check            verify every page and checksum\n"
             "repair           drop what check finds bad, keep the rest",
    .options = sessions_table,
};

struct work {
    struct store *store;
    const struct sessions_options *options;
    uint64_t store_max;
    char **arguments; /* after the action */
    int count;
};

/* ------------------------------------------------------------------------------------------------- helpers */

static int parse_id(const char *text, int64_t *id, struct error *error)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < 1)
        return error_set(error, ERROR_USAGE, "\"%.80s\" is not a session's number.", text);
    *id = value;
    return 0;
}

/* The session named by the first argument; sessions must be freed. */
static int get_session(const struct work *w, struct store_session_list *out, struct error *error)
{
    int64_t id = 0;
    int rc = parse_id(w->arguments[0], &id, error);
    if (!rc) rc = store_session_get(w->store, id, out, error);
    if (!rc && !out->count) rc = error_set(error, ERROR_USAGE, "There is no session %lld.", (long long)id);
    return rc;
}

static void print_safe(const char *text, size_t len)
{
    size_t n = 0;
    char *safe = sanitize_text(text, len, &n);
    if (safe) console_write(safe, n);
    free(safe);
}

static void print_name(const char *text)
{
    char safe[600];
    sanitize_line(text ? text : "", safe, sizeof safe);
    console_write(safe, strlen(safe));
}

static const char *format_time(int64_t seconds, char out[32])
{
    time_t at = (time_t)seconds;
    struct tm tm;
    if (!localtime_r(&at, &tm) || !strftime(out, 32, "%Y-%m-%d %H:%M", &tm))
        snprintf(out, 32, "%lld", (long long)seconds);
    return out;
}

static void describe_session(const struct store_session *s, struct json *j)
{
    json_int(j, "id", s->id);
    json_text(j, "name", s->name);
    json_int(j, "created", s->created);
    json_int(j, "used", s->used);
    if (s->parent) json_int(j, "parent", s->parent);
    json_text(j, "model", s->model_name);
    json_uint(j, "documents", s->n_documents);
    json_uint(j, "turns", s->n_turns);
    json_uint(j, "tokens", s->n_tokens);
    json_uint(j, "bytes_own", s->bytes_own);
    json_uint(j, "bytes_shared", s->bytes_shared);
}

/* ------------------------------------------------------------------------------------------- list and show */

static void print_row(const struct store_session *s)
{
    char used[32], tokens[32], own[32], shared[32];
    printf("%5lld  %-16s  %5llu  %10s  %9s  %9s  ", (long long)s->id, format_time(s->used, used),
           (unsigned long long)s->n_turns, format_count(s->n_tokens, tokens), format_bytes(s->bytes_own, own),
           format_bytes(s->bytes_shared, shared));
    print_name(s->name);
    putchar('\n');
}

static void print_usage(struct store *store)
{
    struct store_usage u;
    struct error error;
    char file[32], rows[32], snapshots[32], text[32];
    if (store_usage(store, &u, &error)) return;
    fflush(stdout); /* the table stands before its summary where both go to one place */
    console_say("%llu sessions, %llu documents; on disk %s: rows %s, snapshots %s, text %s",
                (unsigned long long)u.n_sessions, (unsigned long long)u.n_documents, format_bytes(u.file_bytes, file),
                format_bytes(u.rows_bytes, rows), format_bytes(u.snapshot_bytes, snapshots),
                format_bytes(u.document_bytes, text));
}

static int list_sessions(const struct work *w, struct error *error)
{
    struct store_session_list list = {0};
    int rc = store_session_list(w->store, &list, error);
    if (rc) return rc;
    struct json j = {0};
    if (w->options->json)
        json_open(&j, NULL, '[');
    else if (list.count)
        printf("%5s  %-16s  %5s  %10s  %9s  %9s  %s\n", "id", "used", "turns", "tokens", "own", "shared", "name");
    for (size_t i = 0; i < list.count; i++) {
        if (!w->options->json) {
            print_row(&list.items[i]);
            continue;
        }
        json_open(&j, NULL, '{');
        describe_session(&list.items[i], &j);
        json_close(&j, '}');
    }
    if (w->options->json) {
        json_close(&j, ']');
        json_send(&j);
    } else {
        print_usage(w->store);
    }
    json_free(&j);
    store_session_list_free(&list);
    return 0;
}

static const char *role_name(enum store_role role)
{
    return role == STORE_USER ? "user" : role == STORE_ASSISTANT ? "assistant" : "system";
}

/* Documents of a session, each handed to `each`; texts are loaded one at a time. */
static int each_document(const struct work *w, int64_t session, void (*each)(void *, const struct store_document *),
                         void *ctx, struct error *error)
{
    int64_t *ids = NULL;
    size_t count = 0;
    int rc = store_session_documents(w->store, session, &ids, &count, error);
    for (size_t i = 0; !rc && i < count; i++) {
        struct store_document d = {0};
        rc = store_document_get(w->store, ids[i], &d, error);
        if (!rc) each(ctx, &d);
        store_document_free(&d);
    }
    free(ids);
    return rc;
}

struct export
{
    struct json json;
    bool as_json, with_text;
};

static void export_document(void *ctx, const struct store_document *d)
{
    struct export *e = ctx;
    char bytes[32];
    if (e->as_json) {
        json_open(&e->json, NULL, '{');
        json_text(&e->json, "title", d->title);
        json_text(&e->json, "path", d->path);
        json_uint(&e->json, "bytes", d->text_len);
        json_hex(&e->json, "sha256", d->hash, sizeof d->hash);
        if (e->with_text) json_string(&e->json, "text", d->text, d->text_len);
        json_close(&e->json, '}');
        return;
    }
    printf("- ");
    print_name(d->title);
    printf(" (%s)\n", format_bytes(d->text_len, bytes));
    if (!e->with_text) return;
    printf("\n");
    print_safe(d->text, d->text_len);
    printf("\n\n");
}

static void export_turn(struct export *e, const struct store_turn *t)
{
    if (e->as_json) {
        json_open(&e->json, NULL, '{');
        json_text(&e->json, "role", role_name(t->role));
        json_int(&e->json, "created", t->created);
        json_string(&e->json, "text", t->text, t->text_len);
        json_close(&e->json, '}');
        return;
    }
    printf("\n%s\n\n", t->role == STORE_USER ? "## Question" : "## Answer");
    print_safe(t->text, t->text_len);
    putchar('\n');
}

static int write_session(const struct work *w, const struct store_session *s, struct export *e, struct error *error)
{
    struct store_turn_list turns = {0};
    int rc = store_turns(w->store, s->id, &turns, error);
    if (rc) return rc;
    if (e->as_json) {
        json_open(&e->json, NULL, '{');
        describe_session(s, &e->json);
        json_open(&e->json, "files", '[');
    } else {
        printf("# ");
        print_name(s->name);
        printf("\n\n");
    }
    rc = each_document(w, s->id, export_document, e, error);
    if (e->as_json) json_close(&e->json, ']');
    if (e->as_json) json_open(&e->json, "conversation", '[');
    for (size_t i = 0; !rc && i < turns.count; i++) export_turn(e, &turns.items[i]);
    if (e->as_json) json_close(&e->json, ']');
    if (e->as_json) json_close(&e->json, '}');
    if (!rc && e->as_json) json_send(&e->json);
    json_free(&e->json);
    store_turn_list_free(&turns);
    return rc;
}

static int export_session(const struct work *w, struct error *error)
{
    struct store_session_list list = {0};
    struct export e = {.as_json = w->options->json, .with_text = w->options->documents};
    int rc = get_session(w, &list, error);
    if (!rc) rc = write_session(w, list.items, &e, error);
    store_session_list_free(&list);
    return rc;
}

static int show_session(const struct work *w, struct error *error)
{
    struct store_session_list list = {0};
    int rc = get_session(w, &list, error);
    if (!rc && !w->options->json) print_row(list.items);
    struct export e = {.as_json = w->options->json};
    if (!rc) rc = write_session(w, list.items, &e, error);
    store_session_list_free(&list);
    return rc;
}

/* ------------------------------------------------------------------------------------------------- changes */

static int rename_session(const struct work *w, struct error *error)
{
    struct store_session_list list = {0};
    int rc = get_session(w, &list, error);
    if (!rc && !*w->arguments[1]) rc = error_set(error, ERROR_USAGE, "The name is empty.");
    if (!rc) rc = store_session_rename(w->store, list.items[0].id, w->arguments[1], error);
    store_session_list_free(&list);
    return rc;
}

static int fork_session(const struct work *w, struct error *error)
{
    struct store_session_list list = {0};
    int64_t made = 0;
    int rc = get_session(w, &list, error);
    if (rc) return rc;
    const struct store_session *s = list.items;
    char name[256];
    snprintf(name, sizeof name, "%.200s (fork)", s->name ? s->name : "");
    size_t turns = w->options->turns ? (size_t)w->options->turns * 2 : SIZE_MAX;
    rc = store_session_fork(w->store, s->id, turns, w->options->name ? w->options->name : name, &made, error);
    if (!rc) printf("%lld\n", (long long)made);
    store_session_list_free(&list);
    return rc;
}

static int remove_sessions(const struct work *all, struct error *error)
{
    struct work w = *all;
    int rc = 0;
    for (; !rc && w.count; w.count--, w.arguments++) {
        struct store_session_list list = {0};
        rc = get_session(&w, &list, error);
        if (!rc) rc = store_session_remove(w.store, list.items[0].id, error);
        if (!rc) console_say("removed session %lld", (long long)list.items[0].id);
        store_session_list_free(&list);
    }
    return rc;
}

/* First what is beyond the limit: its pages are then given back with the others. */
static int collect_garbage(const struct work *w, struct error *error)
{
    uint64_t evicted = 0, freed = 0;
    size_t lost = 0;
    struct store_usage u;
    char bytes[32], kept[32], most[32];
    int rc = w->store_max ? store_evict(w->store, w->store_max, &evicted, &lost, error) : 0;
    if (!rc) rc = store_gc(w->store, &freed, error);
    if (!rc) rc = store_usage(w->store, &u, error);
    if (rc) return rc;
    if (lost)
        console_say("%zu session%s lost the last state and will be read again when opened", lost, lost == 1 ? "" : "s");
    console_say("freed %s; states take %s, %s%s (--store-max)", format_bytes(evicted + freed, bytes),
                format_bytes(u.rows_bytes + u.snapshot_bytes, kept), w->store_max ? "at most " : "no limit",
                w->store_max ? format_bytes(w->store_max, most) : "");
    return 0;
}

static void print_fault(void *ctx, const char *sentence)
{
    (void)ctx;
    print_name(sentence);
    console_write("\n", 1);
}

static int check_store(const struct work *w, struct error *error)
{
    size_t faults = 0;
    int rc = store_check(w->store, print_fault, NULL, &faults, error);
    if (rc) return rc;
    if (faults)
        return error_set(error, ERROR_STATE, "%zu fault%s found; `lectern sessions repair` drops what is bad.", faults,
                         faults == 1 ? "" : "s");
    console_say("all is well");
    return 0;
}

static int repair_store(const struct work *w, struct error *error)
{
    size_t dropped = 0;
    int rc = store_repair(w->store, print_fault, NULL, &dropped, error);
    if (!rc) console_say("dropped %zu, the rest is good", dropped);
    return rc;
}

static const struct action {
    struct action_form form;
    int (*run)(const struct work *, struct error *);
} actions[] = {
    {{"list", 0, 0}, list_sessions}, {{"show", 1, 1}, show_session},     {{"rename", 2, 2}, rename_session},
    {{"fork", 1, 1}, fork_session},  {{"rm", 1, 1000}, remove_sessions}, {{"export", 1, 1}, export_session},
    {{"gc", 0, 0}, collect_garbage}, {{"check", 0, 0}, check_store},     {{"repair", 0, 0}, repair_store},
};

static int run_action(const struct settings *settings, const struct sessions_options *options, int argc, char **argv,
                      struct error *error)
{
    const struct action_table table = {"sessions", actions, sizeof actions / sizeof *actions, sizeof *actions};
    const struct action *action = action_find(&table, argc, argv, error);
    if (!action) return ERROR_USAGE;
    struct work work = {
        .options = options, .store_max = settings->store_max, .arguments = argv + 2, .count = argc > 2 ? argc - 2 : 0};
    char *dir = NULL;
    int rc = paths_data(settings->data_dir, &dir, error);
    if (!rc) rc = store_open(&work.store, dir, error);
    if (!rc) rc = action->run(&work, error);
    store_close(&work.store);
    free(dir);
    return rc;
}

int cmd_sessions(int argc, char **argv)
{
    struct settings settings;
    struct sessions_options options = {0};
    struct error error = {0};
    int status;
    if (!command_begin(&settings, &sessions_usage, &options, &argc, argv, &status)) return status;
    int rc = run_action(&settings, &options, argc, argv, &error);
    fflush(stdout);
    if (rc) console_error(&error);
    settings_free(&settings);
    return console_finish(rc);
}
