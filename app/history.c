/* SPDX-License-Identifier: MIT
 *
 * The file of questions (history.h).
 */
#include "app/history.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/sanitize.h"
#include "app/text.h"

void history_free(struct history *history)
{
    for (size_t i = 0; i < history->count; i++) free(history->items[i]);
    free(history->items);
    free(history->path);
    *history = (struct history){0};
}

static int out_of_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory while keeping the history.");
}

/* Takes text over. */
static int push(struct history *history, char *text, struct error *error)
{
    if (text && history->count == history->capacity) {
        const size_t capacity = history->capacity ? 2 * history->capacity : 64;
        char **items = realloc(history->items, capacity * sizeof *items);
        if (!items) {
            free(text);
            text = NULL;
        } else {
            history->items = items;
            history->capacity = capacity;
        }
    }
    if (!text) return out_of_memory(error);
    history->items[history->count++] = text;
    return 0;
}

/* One line of the file, in place, to the question it stands for. */
static void unescape(char *line)
{
    char *out = line;
    for (const char *in = line; *in; in++) {
        if (*in == '\\' && (in[1] == 'n' || in[1] == '\\'))
            *out++ = *++in == 'n' ? '\n' : '\\';
        else
            *out++ = *in;
    }
    *out = '\0';
}

/* malloc; ends with a newline */
static char *escape(const char *text, size_t *len)
{
    char *line = malloc(2 * strlen(text) + 2), *out = line;
    if (!line) return NULL;
    for (; *text; text++) {
        if (*text == '\n' || *text == '\\') {
            *out++ = '\\';
            *out++ = *text == '\n' ? 'n' : '\\';
        } else {
            *out++ = *text;
        }
    }
    *out++ = '\n';
    *len = (size_t)(out - line);
    return line;
}

static int load(struct history *history, FILE *file, struct error *error)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    int rc = 0;
    while (!rc && (n = getline(&line, &capacity, file)) >= 0) {
        if (n > 0 && line[n - 1] == '\n') line[--n] = '\0';
        if (n == 0) continue;
        unescape(line);
        size_t len;
        rc = push(history, sanitize_text(line, strlen(line), &len), error);
    }
    free(line);
    return rc;
}

static int write_line(int fd, const char *text, struct error *error)
{
    size_t len;
    char *line = escape(text, &len);
    if (!line) return out_of_memory(error);
    const ssize_t written = write(fd, line, len);
    free(line);
    if (written == (ssize_t)len) return 0;
    return error_set(error, ERROR_DISK, "The question could not be added to the history: %s.",
                     written < 0 ? strerror(errno) : "the disk is full");
}

/* Keeps the last HISTORY_MOST, in memory and, when the file is twice as long, on disk. */
static int trim(struct history *history, struct error *error)
{
    if (history->count <= HISTORY_MOST) return 0;
    const size_t drop = history->count - HISTORY_MOST;
    const bool rewrite = history->count >= (size_t)2 * HISTORY_MOST;
    for (size_t i = 0; i < drop; i++) free(history->items[i]);
    memmove(history->items, history->items + drop, HISTORY_MOST * sizeof *history->items);
    history->count = HISTORY_MOST;
    if (!rewrite) return 0;

    char temporary[4096];
    if (snprintf(temporary, sizeof temporary, "%s.%ld", history->path, (long)getpid()) >= (int)sizeof temporary)
        return error_set(error, ERROR_FAILED, "The history's path is too long.");
    const int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0) return error_set(error, ERROR_DISK, "The history could not be rewritten: %s.", strerror(errno));
    int rc = 0;
    for (size_t i = 0; !rc && i < history->count; i++) rc = write_line(fd, history->items[i], error);
    if (!rc && fsync(fd)) rc = error_set(error, ERROR_DISK, "The history could not be written: %s.", strerror(errno));
    close(fd);
    if (!rc && rename(temporary, history->path))
        rc = error_set(error, ERROR_DISK, "The history could not be replaced: %s.", strerror(errno));
    if (rc) unlink(temporary);
    return rc;
}

int history_open(struct history *history, const char *dir, struct error *error)
{
    *history = (struct history){0};
    if (!dir) return 0;
    if (mkdir(dir, 0700) && errno != EEXIST)
        return error_set(error, ERROR_DISK, "The folder %s for the history cannot be made: %s.", dir, strerror(errno));
    const size_t size = strlen(dir) + sizeof "/history";
    history->path = malloc(size);
    if (!history->path) return out_of_memory(error);
    snprintf(history->path, size, "%s/history", dir);

    FILE *file = fopen(history->path, "re");
    if (!file)
        return errno == ENOENT ? 0
                               : error_set(error, ERROR_INPUT, "The history %s cannot be read: %s.", history->path,
                                           strerror(errno));
    int rc = load(history, file, error);
    fclose(file);
    return rc ? rc : trim(history, error);
}

int history_add(struct history *history, const char *text, struct error *error)
{
    if (!*text) return 0;
    if (history->count && !strcmp(history->items[history->count - 1], text)) return 0;
    int rc = push(history, strdup(text), error);
    if (rc || !history->path) return rc;
    const int fd = open(history->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0) return error_set(error, ERROR_DISK, "The history cannot be written: %s.", strerror(errno));
    rc = write_line(fd, text, error);
    close(fd);
    return rc;
}

size_t history_search(const struct history *history, size_t before, const char *pattern)
{
    for (size_t i = before < history->count ? before : history->count; i-- > 0;) {
        size_t end;
        if (text_find(history->items[i], strlen(history->items[i]), 0, pattern, &end) != SIZE_MAX) return i;
    }
    return SIZE_MAX;
}
