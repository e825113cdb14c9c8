/* SPDX-License-Identifier: MIT
 *
 * lectern [FILE|DIR]...: the screen over documents, or over the library when none are named.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "app/commands.h"
#include "app/console.h"
#include "app/model_find.h"
#include "app/options.h"
#include "app/paths.h"
#include "app/tui.h"

struct desk_options {
    uint64_t session;
    bool fresh;
};

#define AT(field) .offset = offsetof(struct desk_options, field)
static const struct option desk_table[] = {
    {"session", 's', OPTION_U64, "ID", "0", "open this session", AT(session), .most = INT64_MAX},
    {"new", 0, OPTION_FLAG, NULL, NULL, "begin a new session even where one over these documents exists", AT(fresh)},
    {NULL},
};
#undef AT

static const struct command_usage desk_usage = {
    .name = NULL,
    .arguments = "[FILE|DIR]...       the reading desk: a chat over these documents, or the library\n"
                 "       lectern COMMAND [OPTION]...",
    .about = "An offline reading desk: it reads all of a book or a source tree once, remembers, and answers.",
    .options = desk_table,
};

static int run_desk(const struct settings *s, const struct desk_options *o, int n_paths, char **paths,
                    struct error *error)
{
    char *model = NULL, *data = NULL;
    struct store *store = NULL;
    struct document_list documents = {0};
    int rc = model_find(s->model, s->data_dir, &model, error);
    if (!rc && n_paths) rc = documents_read(&documents, paths, (size_t)n_paths, error);
    if (!rc && !s->ephemeral) rc = paths_data(s->data_dir, &data, error);
    if (!rc && data) rc = store_open(&store, data, error);
    if (!rc) {
        struct tui_params params = {
            .worker = {.engine = settings_engine(s),
                       .sample = settings_sample(s),
                       .most_answer_tokens = s->most_tokens,
                       .system_text = s->system_text,
                       .store = store,
                       .store_max = s->store_max},
            .session = (int64_t)o->session,
            .fresh = o->fresh,
            .documents = n_paths ? &documents : NULL,
            .state_dir = data,
            .color = console_colors(STDOUT_FILENO),
        };
        params.worker.engine.model = model;
        rc = s->plain ? plain_run(&params, error) : tui_run(&params, error);
    }
    store_close(&store);
    documents_free(&documents);
    free(model);
    free(data);
    return rc;
}

/* A lone word that is no file was meant for a command. */
static int check_word(int argc, char **argv, struct error *error)
{
    if (argc != 2 || strpbrk(argv[1], "./") || !access(argv[1], F_OK)) return 0;
    return error_set(error, ERROR_USAGE,
                     "There is no command and no file \"%.100s\"; lectern --help lists the commands.", argv[1]);
}

int cmd_desk(int argc, char **argv)
{
    struct settings settings;
    struct desk_options options = {0};
    struct error error = {0};
    int status;
    if (!command_begin(&settings, &desk_usage, &options, &argc, argv, &status)) return status;
    int rc = check_word(argc, argv, &error);
    if (!rc && !settings.plain && (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO)))
        rc = error_set(&error, ERROR_USAGE,
                       "The reading desk needs a terminal; without one use: lectern ask FILE... -q TEXT.");
    else if (!rc)
        rc = run_desk(&settings, &options, argc - 1, argv + 1, &error);
    if (rc && error.code) console_error(&error);
    settings_free(&settings);
    return rc;
}
