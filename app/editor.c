/* SPDX-License-Identifier: MIT
 *
 * Running an editor (editor.h).
 */
#include "app/editor.h"

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EDITOR_MOST ((size_t)1 << 20)

extern char **environ;

static const char *editor_name(void)
{
    const char *name = getenv("VISUAL");
    if (!name || !*name) name = getenv("EDITOR");
    return name && *name ? name : "vi";
}

static int write_file(int fd, const char *text, struct error *error)
{
    for (size_t left = strlen(text); left;) {
        const ssize_t n = write(fd, text, left);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0)
            return error_set(error, ERROR_DISK, "The text for the editor cannot be written: %s.", strerror(errno));
        text += n;
        left -= (size_t)n;
    }
    return 0;
}

static int read_file(const char *path, char **out, struct error *error)
{
    FILE *file = fopen(path, "re");
    if (!file) return error_set(error, ERROR_INPUT, "What the editor wrote cannot be read: %s.", strerror(errno));
    char *text = malloc(EDITOR_MOST + 1);
    const size_t n = text ? fread(text, 1, EDITOR_MOST + 1, file) : 0;
    fclose(file);
    if (!text) return error_set(error, ERROR_FAILED, "Out of memory while reading what the editor wrote.");
    if (n > EDITOR_MOST || memchr(text, 0, n)) {
        free(text);
        return error_set(error, ERROR_INPUT, "What the editor wrote is too long or not text.");
    }
    size_t len = n;
    while (len && text[len - 1] == '\n') len--;
    text[len] = '\0';
    *out = text;
    return 0;
}

/* The name may carry arguments, so a shell reads it; the path is never part of what the shell reads. */
static int run(const char *path, struct error *error)
{
    char command[1024];
    if (snprintf(command, sizeof command, "%s \"$1\"", editor_name()) >= (int)sizeof command)
        return error_set(error, ERROR_USAGE, "The name of the editor is too long.");
    char *const arguments[] = {"sh", "-c", command, "lectern", (char *)(uintptr_t)path, NULL};
    posix_spawnattr_t attributes;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGPIPE);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigdefault(&attributes, &set);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
    pid_t child;
    const int rc = posix_spawnp(&child, "sh", NULL, &attributes, arguments, environ);
    posix_spawnattr_destroy(&attributes);
    if (rc) return error_set(error, ERROR_FAILED, "The editor cannot be started: %s.", strerror(rc));
    int status = 0;
    while (waitpid(child, &status, 0) < 0)
        if (errno != EINTR) return error_set(error, ERROR_FAILED, "The editor was lost: %s.", strerror(errno));
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    return error_set(error, ERROR_FAILED, "The editor \"%s\" failed; the input is as it was.", editor_name());
}

int editor_edit(struct terminal *terminal, const char *text, char **out, struct error *error)
{
    char path[512];
    const char *folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/lectern-XXXXXX", folder && *folder && strlen(folder) < 400 ? folder : "/tmp");
    const int fd = mkstemp(path);
    if (fd < 0) return error_set(error, ERROR_DISK, "No file for the editor can be made: %s.", strerror(errno));
    int rc = write_file(fd, text, error);
    close(fd);
    if (!rc) {
        term_leave(terminal);
        rc = run(path, error);
        term_return(terminal);
    }
    if (!rc) rc = read_file(path, out, error);
    unlink(path);
    return rc;
}
