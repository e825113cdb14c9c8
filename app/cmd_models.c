/* SPDX-License-Identifier: MIT
 *
 * lectern models: what pull and import brought here. Each action is a row of the table at the end.
 */
#include <stdlib.h>
#include <string.h>

#include "app/actions.h"
#include "app/commands.h"
#include "app/console.h"
#include "app/json.h"
#include "app/models.h"
#include "app/options.h"
#include "app/progress.h"
#include "app/transfer_console.h"

struct models_options {
    bool json;
};

static const struct option models_table[] = {
    {"json", 0, OPTION_FLAG, NULL, NULL, "list: as JSON", .offset = offsetof(struct models_options, json)},
    {NULL},
};

static const struct command_usage models_usage = {
    .name = "models",
    .arguments = "[ACTION [NAME]...]",
    .about =
        "list             the models here, and parts of models (the default)\n"
        "rm NAME...       remove models, or their parts\n"
        "verify [NAME]... read them again and compare every hash; without a name: all\n"
        "import FILE      copy a GGUF file of yours in; of a model in parts all of them\n"
        "A NAME is a name in the list, \".gguf\" left out or not, or one that `lectern pull` shows; -m takes it too.",
    .options = models_table,
};

struct work {
    const char *folder;
    bool json;
    char **arguments; /* after the action */
    int count;
};

static void list_json(const struct model_list *list, const char *folder)
{
    struct json j = {0};
    json_open(&j, NULL, '[');
    for (size_t i = 0; i < list->count; i++) {
        const struct model_file *f = &list->items[i];
        json_open(&j, NULL, '{');
        json_text(&j, "name", f->name);
        json_text(&j, "folder", folder);
        json_bool(&j, "whole", !f->is_part);
        json_uint(&j, "files", f->n_parts);
        json_uint(&j, "bytes", f->size);
        json_uint(&j, "bytes_here", f->here);
        if (f->trust && f->n_parts == 1) json_hex(&j, "sha256", f->sha256, sizeof f->sha256);
        json_text(&j, "sha256_from", manifest_trust_name(f->trust));
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_send(&j);
    json_free(&j);
}

static int list_models(const struct work *w, struct error *error)
{
    struct model_list list;
    int rc = models_list(w->folder, &list, error);
    if (rc) return rc;
    for (size_t i = 0; !w->json && i < list.count; i++) {
        const struct model_file *f = &list.items[i];
        char size[32], state[64] = "whole";
        if (f->is_part)
            snprintf(state, sizeof state, "%.0f %%", 100.0 * (double)f->here / (double)(f->size + !f->size));
        printf("%10s  %-6s  %-9s  %s", format_bytes(f->size, size), state,
               f->trust ? manifest_trust_name(f->trust) : "unhashed", f->name);
        if (f->n_parts > 1) printf(" (%u files)", f->n_parts);
        putchar('\n');
    }
    if (w->json) list_json(&list, w->folder);
    if (!w->json) console_say("%zu model%s in %s", list.count, list.count == 1 ? "" : "s", w->folder);
    model_list_free(&list);
    return 0;
}

static int remove_models(const struct work *w, struct error *error)
{
    int rc = 0;
    for (int i = 0; !rc && i < w->count; i++) {
        struct model_file f;
        rc = models_get(w->folder, w->arguments[i], &f, error);
        if (!rc) rc = models_remove(w->folder, f.name, error);
        if (!rc) console_say("removed %s", f.name);
    }
    return rc;
}

/* *bad counts the damaged ones. */
static int verify_file(const struct work *w, const char *name, size_t *bad, struct error *error)
{
    struct transfer_console console;
    struct models_verdict verdict;
    char hex[65];
    int rc = transfer_console_begin(&console, error);
    if (!rc) rc = models_verify(w->folder, name, &console.hooks, &verdict, error);
    progress_clear();
    if (rc) return rc;
    bool good = verdict.is_whole_right && !verdict.bad;
    *bad += !good;
    hash_to_hex(verdict.sha256, hex);
    if (good)
        printf("%s: %s, SHA-256 %s\n", name, verdict.was_known ? "right" : "no hash was known, noted now", hex);
    else if (verdict.bad)
        printf("%s: damaged, %zu of %zu chunks\n", name, verdict.bad, verdict.n_chunks);
    else
        printf("%s: wrong, SHA-256 %s\n", name, hex);
    return 0;
}

static int verify_model(const struct work *w, const struct model_file *f, size_t *bad, struct error *error)
{
    struct model_parts parts = model_parts_of(f->name);
    int rc = f->is_part ? error_set(error, ERROR_MODEL, "%s is not whole yet.", f->name) : 0;
    for (unsigned i = 1; !rc && i <= parts.count; i++) {
        char name[DOWNLOAD_NAME_MOST + 1];
        model_parts_name(&parts, i, name);
        rc = verify_file(w, name, bad, error);
    }
    return rc;
}

static int verify_all(const struct work *w, size_t *bad, struct error *error)
{
    struct model_list list;
    int rc = models_list(w->folder, &list, error);
    for (size_t i = 0; !rc && i < list.count; i++)
        if (!list.items[i].is_part) rc = verify_model(w, &list.items[i], bad, error);
    if (!rc) model_list_free(&list);
    return rc;
}

static int verify_models(const struct work *w, struct error *error)
{
    size_t bad = 0;
    int rc = w->count ? 0 : verify_all(w, &bad, error);
    for (int i = 0; !rc && i < w->count; i++) {
        struct model_file f;
        rc = models_get(w->folder, w->arguments[i], &f, error);
        if (!rc) rc = verify_model(w, &f, &bad, error);
    }
    if (rc || !bad) return rc;
    return error_set(error, ERROR_MODEL, "%zu damaged; `lectern pull --repair` fetches the damaged chunks again.", bad);
}

static int import_model(const struct work *w, struct error *error)
{
    struct transfer_console console;
    char name[DOWNLOAD_NAME_MOST + 1];
    int rc = transfer_console_begin(&console, error);
    if (!rc) rc = models_import(w->folder, w->arguments[0], &console.hooks, name, error);
    progress_clear();
    if (!rc) printf("%s/%s\n", w->folder, name);
    return rc;
}

static const struct action {
    struct action_form form;
    int (*run)(const struct work *, struct error *);
} actions[] = {
    {{"list", 0, 0}, list_models},
    {{"rm", 1, 1000}, remove_models},
    {{"verify", 0, 1000}, verify_models},
    {{"import", 1, 1}, import_model},
};

static int run_action(const struct settings *settings, bool json, int argc, char **argv, struct error *error)
{
    const struct action_table table = {"models", actions, sizeof actions / sizeof *actions, sizeof *actions};
    const struct action *action = action_find(&table, argc, argv, error);
    if (!action) return ERROR_USAGE;
    struct work work = {.json = json, .arguments = argv + 2, .count = argc > 2 ? argc - 2 : 0};
    char *folder = NULL;
    int rc = models_folder(settings->data_dir, &folder, error);
    work.folder = folder;
    if (!rc) rc = action->run(&work, error);
    free(folder);
    return rc;
}

int cmd_models(int argc, char **argv)
{
    struct settings settings;
    struct models_options options = {0};
    struct error error = {0};
    int status;
    if (!command_begin(&settings, &models_usage, &options, &argc, argv, &status)) return status;
    int rc = run_action(&settings, options.json, argc, argv, &error);
    fflush(stdout);
    rc = transfer_console_end(rc, &error);
    settings_free(&settings);
    return rc;
}
