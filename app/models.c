/* SPDX-License-Identifier: MIT
 *
 * The folder of models: what is there, by which name, and away with it.
 */
#include "app/models.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/catalogue.h"
#include "app/paths.h"

#define PATH_ROOM (DOWNLOAD_NAME_MOST + 32u)

int models_folder(const char *data_dir, char **out, struct error *error)
{
    char *data = NULL, *folder = NULL;
    *out = NULL;
    int rc = paths_data(data_dir, &data, error);
    if (!rc) rc = paths_join(data, "models", &folder, error);
    if (!rc) rc = paths_data(folder, out, error);
    free(data);
    free(folder);
    return rc;
}

/* ---------------------------------------------------------------------------------------------------- list */

/* Adds what is known of one file of a model. */
static void describe_file(int dir, const char *name, struct model_file *f)
{
    char path[PATH_ROOM], manifest[PATH_ROOM];
    struct manifest m = {.trust = TRUST_NONE};
    struct stat status;
    struct error ignored; /* a damaged manifest is no manifest */
    bool found = false, is_whole = !fstatat(dir, name, &status, 0);
    snprintf(path, sizeof path, "%.200s.part", name);
    snprintf(manifest, sizeof manifest, "%.200s%s.manifest", name, is_whole ? "" : ".part");
    bool is_there = is_whole || !fstatat(dir, path, &status, 0);
    uint64_t bytes = is_there && status.st_size > 0 ? (uint64_t)status.st_size : 0;
    if (manifest_read(&m, dir, manifest, &found, &ignored)) found = false;
    f->n_whole += is_whole;
    f->size += found ? m.size : bytes;
    f->here += is_whole ? bytes : is_there && found ? manifest_bytes_here(&m) : 0;
    if (!found) m.trust = TRUST_NONE;
    /* The least trusted speaks for all. */
    bool is_first = f->n_parts++ == 0;
    if (is_first || m.trust == TRUST_NONE || (f->trust && m.trust > f->trust)) f->trust = m.trust;
    memcpy(f->sha256, m.sha256, sizeof f->sha256);
    manifest_free(&m);
}

static void describe(int dir, const struct model_parts *parts, struct model_file *f)
{
    *f = (struct model_file){.name = ""};
    model_parts_name(parts, 1, f->name);
    for (unsigned i = 1; i <= parts->count; i++) {
        char name[DOWNLOAD_NAME_MOST + 1];
        model_parts_name(parts, i, name);
        describe_file(dir, name, f);
    }
    f->is_part = f->n_whole < f->n_parts;
}

/* The name of the file that an entry of the folder belongs to, when it may be a model's. */
static bool file_name(const char *entry, char name[DOWNLOAD_NAME_MOST + 1])
{
    static const char *const endings[] = {".part.manifest", ".part"};
    size_t len = strlen(entry);
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        size_t n = strlen(endings[i]);
        if (len <= n || strcmp(entry + len - n, endings[i])) continue;
        len -= n;
        break;
    }
    if (len > DOWNLOAD_NAME_MOST) return false;
    memcpy(name, entry, len);
    name[len] = 0;
    return download_name_is_good(name);
}

static bool list_has(const struct model_list *list, const char *name)
{
    for (size_t i = 0; i < list->count; i++)
        if (!strcmp(list->items[i].name, name)) return true;
    return false;
}

static int list_add(struct model_list *list, int dir, const char *entry, struct error *error)
{
    char name[DOWNLOAD_NAME_MOST + 1];
    if (!file_name(entry, name)) return 0;
    struct model_parts parts = model_parts_of(name);
    model_parts_name(&parts, 1, name);
    if (list_has(list, name)) return 0;
    struct model_file *items = realloc(list->items, (list->count + 1) * sizeof *items);
    if (!items) return error_set(error, ERROR_FAILED, "Out of memory.");
    list->items = items;
    describe(dir, &parts, &items[list->count++]);
    return 0;
}

static int by_name(const void *a, const void *b)
{
    const struct model_file *x = a, *y = b;
    return strcmp(x->name, y->name);
}

int models_list(const char *folder, struct model_list *list, struct error *error)
{
    *list = (struct model_list){0};
    DIR *dir = opendir(folder);
    if (!dir) return error_set(error, ERROR_FAILED, "%.300s cannot be opened: %s.", folder, strerror(errno));
    int rc = 0;
    for (const struct dirent *entry; !rc && (entry = readdir(dir));)
        rc = list_add(list, dirfd(dir), entry->d_name, error);
    closedir(dir);
    if (!rc && list->count) qsort(list->items, list->count, sizeof *list->items, by_name);
    if (rc) model_list_free(list);
    return rc;
}

void model_list_free(struct model_list *list)
{
    free(list->items);
    *list = (struct model_list){0};
}

/* --------------------------------------------------------------------------------------------------- names */

/* Is `typed` the model of these parts? "x", "x.gguf", and of several files any one's name. */
static bool is_named(const struct model_parts *parts, const char *typed)
{
    struct model_parts asked = model_parts_of(typed);
    size_t len = strlen(parts->stem);
    if (asked.count > 1) return asked.count == parts->count && !strcmp(asked.stem, parts->stem);
    if (parts->count == 1) len -= strlen(".gguf");
    return !strncmp(typed, parts->stem, len) && (!typed[len] || !strcmp(typed + len, ".gguf"));
}

const struct model_file *models_named(const struct model_list *list, const char *typed)
{
    const struct catalogue_entry *e = catalogue_find(typed);
    if (e) typed = catalogue_file_name(e);
    for (size_t i = 0; i < list->count; i++) {
        struct model_parts parts = model_parts_of(list->items[i].name);
        if (is_named(&parts, typed)) return &list->items[i];
    }
    return NULL;
}

int models_get(const char *folder, const char *typed, struct model_file *out, struct error *error)
{
    struct model_list list;
    int rc = models_list(folder, &list, error);
    if (rc) return rc;
    const struct model_file *found = models_named(&list, typed);
    if (found)
        *out = *found;
    else
        rc = error_set(error, ERROR_USAGE, "There is no model \"%.200s\" here; see lectern models and lectern pull.",
                       typed);
    model_list_free(&list);
    return rc;
}

/* ------------------------------------------------------------------------------------------------ removing */

static int remove_file(int dir, const char *name, int *removed, struct error *error)
{
    static const char *const endings[] = {"", ".part", ".manifest", ".part.manifest", ".part.manifest.new"};
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        char path[PATH_ROOM];
        snprintf(path, sizeof path, "%.200s%s", name, endings[i]);
        if (!unlinkat(dir, path, 0))
            ++*removed;
        else if (errno != ENOENT)
            return error_set(error, ERROR_DISK, "%.220s cannot be removed: %s.", path, strerror(errno));
    }
    return 0;
}

/* All files are locked before the first is removed: one that is being fetched keeps them all. */
static int remove_files(int dir, const struct model_parts *parts, int *locks, struct error *error)
{
    char name[DOWNLOAD_NAME_MOST + 1];
    unsigned locked = 0;
    int removed = 0, rc = 0;
    for (; !rc && locked < parts->count; locked += !rc) {
        model_parts_name(parts, locked + 1, name);
        rc = download_lock(dir, name, &locks[locked], error);
    }
    for (unsigned i = 0; !rc && i < locked; i++) {
        model_parts_name(parts, i + 1, name);
        rc = remove_file(dir, name, &removed, error);
    }
    while (locked--) {
        model_parts_name(parts, locked + 1, name);
        download_unlock(dir, name, locks[locked]);
    }
    return rc || removed ? rc : error_set(error, ERROR_USAGE, "%.200s is not here.", parts->stem);
}

int models_remove(const char *folder, const char *name, struct error *error)
{
    struct model_parts parts = model_parts_of(name);
    int *locks = calloc(parts.count, sizeof *locks);
    if (!locks) return error_set(error, ERROR_FAILED, "Out of memory.");
    int rc, dir = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0)
        rc = error_set(error, ERROR_FAILED, "%.300s cannot be opened: %s.", folder, strerror(errno));
    else
        rc = remove_files(dir, &parts, locks, error);
    if (dir >= 0) close(dir);
    free(locks);
    return rc;
}
