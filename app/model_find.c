/* SPDX-License-Identifier: MIT
 *
 * Finding a model by name.
 */
#include "app/model_find.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/catalogue.h"
#include "app/models.h"
#include "app/paths.h"

static int is_not_whole(const struct model_file *f, struct error *error)
{
    const struct catalogue_entry *e = catalogue_find_file(f->name);
    return error_set(error, ERROR_MODEL, "%.200s is not whole yet: lectern pull %.40s goes on with it.", f->name,
                     e ? e->name : "with its address");
}

static int has_no_such(const char *typed, struct error *error)
{
    const struct catalogue_entry *e = catalogue_find(typed);
    if (e) return error_set(error, ERROR_MODEL, "%s is not here yet: lectern pull %s fetches it.", e->name, e->name);
    return error_set(
        error, ERROR_MODEL,
        "There is no file \"%.150s\", and no model of that name; lectern models lists those that are here.", typed);
}

/* The only whole model with that piece in its name. */
static int find_piece(const struct model_list *list, const char *typed, const struct model_file **out,
                      struct error *error)
{
    *out = NULL;
    for (size_t i = 0; *typed && i < list->count; i++) {
        const struct model_file *f = &list->items[i];
        if (f->is_part || !strcasestr(f->name, typed)) continue;
        if (*out)
            return error_set(error, ERROR_MODEL, "\"%.80s\" may be %.150s or %.150s: more of the name is needed.",
                             typed, (*out)->name, f->name);
        *out = f;
    }
    return *out ? 0 : has_no_such(typed, error);
}

static int find_in(const char *folder, const char *typed, char **path, struct error *error)
{
    struct model_list list;
    int rc = models_list(folder, &list, error);
    if (rc) return rc;
    const struct model_file *found = models_named(&list, typed);
    if (!found) rc = find_piece(&list, typed, &found, error);
    if (!rc && found->is_part) rc = is_not_whole(found, error);
    if (!rc) rc = paths_join(folder, found->name, path, error);
    model_list_free(&list);
    return rc;
}

int model_find(const char *typed, const char *data_dir, char **path, struct error *error)
{
    char *folder = NULL;
    struct stat status;
    *path = NULL;
    if (!typed) return paths_model(path, error);
    if (strchr(typed, '/') || (!stat(typed, &status) && !S_ISDIR(status.st_mode))) {
        *path = strdup(typed);
        return *path ? 0 : error_set(error, ERROR_FAILED, "Out of memory.");
    }
    int rc = models_folder(data_dir, &folder, error);
    if (!rc) rc = find_in(folder, typed, path, error);
    free(folder);
    return rc;
}
