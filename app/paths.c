/* SPDX-License-Identifier: MIT
 *
 * XDG base directories (absolute paths only, as the specification asks) and the search for the built-in model.
 */
#include "app/paths.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODEL_FILE "lectern-mini.gguf"

int paths_join(const char *dir, const char *name, char **out, struct error *error)
{
    size_t size = strlen(dir) + strlen(name) + 2;
    *out = malloc(size);
    if (!*out) return error_set(error, ERROR_FAILED, "Out of memory.");
    snprintf(*out, size, "%s/%s", dir, name);
    return 0;
}

static int xdg_path(const char *variable, const char *below_home, const char *name, char **out, struct error *error)
{
    const char *dir = getenv(variable);
    if (dir && dir[0] == '/') return paths_join(dir, name, out, error);
    const char *home = getenv("HOME");
    if (!home || home[0] != '/')
        return error_set(error, ERROR_USAGE, "Neither HOME nor %s is set: give --data-dir.", variable);
    char *base;
    int rc = paths_join(home, below_home, &base, error);
    if (rc) return rc;
    rc = paths_join(base, name, out, error);
    free(base);
    return rc;
}

int paths_config(char **out, struct error *error)
{
    struct error ignored;
    if (!xdg_path("XDG_CONFIG_HOME", ".config", "lectern/lectern.ini", out, &ignored)) return 0;
    return paths_join("", "etc/lectern.ini", out, error); /* no home at all */
}

int paths_cache(char **out, struct error *error)
{
    int rc = xdg_path("XDG_CACHE_HOME", ".cache", "lectern", out, error);
    if (rc != ERROR_USAGE) return rc;
    *out = NULL;
    return 0;
}

/* mkdir -p; parents with the usual mode, the last with 0700. */
static int make_folder(char *path, struct error *error)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        int failed = mkdir(path, 0777) && errno != EEXIST ? errno : 0;
        *slash = '/';
        if (failed) return error_set(error, ERROR_FAILED, "%.300s cannot be made: %s.", path, strerror(failed));
    }
    struct stat status;
    if (mkdir(path, 0700) && errno != EEXIST)
        return error_set(error, errno == ENOSPC ? ERROR_DISK : ERROR_FAILED, "%.300s cannot be made: %s.", path,
                         strerror(errno));
    if (stat(path, &status) || !S_ISDIR(status.st_mode))
        return error_set(error, ERROR_FAILED, "%.300s is not a folder.", path);
    return 0;
}

int paths_data(const char *given, char **out, struct error *error)
{
    *out = NULL;
    int rc = 0;
    if (!given)
        rc = xdg_path("XDG_DATA_HOME", ".local/share", "lectern", out, error);
    else if (!(*out = strdup(given)))
        rc = error_set(error, ERROR_FAILED, "Out of memory.");
    if (!rc && !**out) rc = error_set(error, ERROR_USAGE, "--data-dir is empty.");
    if (!rc) rc = make_folder(*out, error);
    if (rc) {
        free(*out);
        *out = NULL;
    }
    return rc;
}

/* PREFIX/share/lectern/models beside PREFIX/bin/lectern. */
static char *installed_model(void)
{
    char program[4096];
    ssize_t n = readlink("/proc/self/exe", program, sizeof program - 1);
    if (n <= 0) return NULL;
    program[n] = 0;
    for (int up = 0; up < 2; up++) {
        char *slash = strrchr(program, '/');
        if (!slash) return NULL;
        *slash = 0;
    }
    char *path = NULL;
    return paths_join(program, "share/lectern/models/" MODEL_FILE, &path, NULL) ? NULL : path;
}

int paths_model(char **out, struct error *error)
{
    *out = installed_model();
    if (*out && !access(*out, R_OK)) return 0;
    free(*out);
    *out = strdup(LECTERN_MODEL_DIR "/" MODEL_FILE);
    if (!*out) return error_set(error, ERROR_FAILED, "Out of memory.");
    if (!access(*out, R_OK)) return 0;
    free(*out);
    *out = NULL;
    return error_set(error, ERROR_MODEL, "There is no built-in model here (%s): give one with -m FILE.", MODEL_FILE);
}
