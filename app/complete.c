/* SPDX-License-Identifier: MIT
 *
 * Completion (complete.h).
 */
#include "app/complete.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/commands_slash.h"
#include "app/sanitize.h"

void completion_clear(struct completion *completion)
{
    for (size_t i = 0; i < completion->count; i++) free(completion->items[i]);
    free(completion->items);
    *completion = (struct completion){.selected = SIZE_MAX};
}

static int out_of_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory while completing.");
}

/* Takes item over. */
static int add(struct completion *completion, char *item, struct error *error)
{
    if (!completion->items) completion->items = calloc(COMPLETION_MOST, sizeof *completion->items);
    if (!item || !completion->items) {
        free(item);
        return out_of_memory(error);
    }
    completion->items[completion->count++] = item;
    return 0;
}

static int add_commands(struct completion *completion, const char *word, size_t len, struct error *error)
{
    size_t count;
    const struct slash_command *commands = slash_table(&count);
    int rc = 0;
    completion->is_command = true;
    for (size_t i = 0; !rc && i < count; i++) {
        char item[64];
        snprintf(item, sizeof item, "/%s", commands[i].name);
        if (strlen(item) >= len && !strncmp(item, word, len)) rc = add(completion, strdup(item), error);
    }
    return rc;
}

/* Can the name be typed and shown as it is? */
static bool is_plain_name(const char *name)
{
    char safe[3 * 256 + 16];
    if (strlen(name) > 255) return false;
    sanitize_line(name, safe, sizeof safe);
    return !strcmp(name, safe);
}

static bool is_folder(const char *path)
{
    struct stat status;
    return !stat(path, &status) && S_ISDIR(status.st_mode);
}

static int compare(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The entries of word's folder that begin as word does; each comes with `mark` ("@") before it. */
static int add_paths(struct completion *completion, const char *mark, const char *word, struct error *error)
{
    char path[4096], item[4096 + 2];
    const char *slash = strrchr(word, '/');
    const int folder = slash ? (int)(slash - word) + 1 : 0;
    const char *start = word + folder;
    if (snprintf(path, sizeof path, "%.*s", folder, word) >= (int)sizeof path) return 0;
    DIR *dir = opendir(folder ? path : ".");
    if (!dir) return 0; /* no such folder: nothing to offer */
    int rc = 0;
    const struct dirent *entry;
    while (!rc && completion->count < COMPLETION_MOST && (entry = readdir(dir))) {
        const char *name = entry->d_name;
        if (strncmp(name, start, strlen(start)) || (name[0] == '.' && start[0] != '.')) continue;
        if (!strcmp(name, ".") || !strcmp(name, "..") || !is_plain_name(name)) continue;
        if (snprintf(path, sizeof path, "%.*s%s", folder, word, name) >= (int)sizeof path) continue;
        snprintf(item, sizeof item, "%s%s%s", mark, path, is_folder(path) ? "/" : "");
        rc = add(completion, strdup(item), error);
    }
    closedir(dir);
    if (completion->count) qsort(completion->items, completion->count, sizeof *completion->items, compare);
    return rc;
}

/* Where the path of a command that takes one begins; 0 = this is none. */
static size_t path_argument(const char *text, size_t cursor)
{
    size_t count;
    const struct slash_command *commands = slash_table(&count);
    for (size_t i = 0; i < count; i++) {
        const size_t len = strlen(commands[i].name);
        if (commands[i].takes_path && cursor > len + 1 && !strncmp(text + 1, commands[i].name, len) &&
            text[len + 1] == ' ')
            return len + 2;
    }
    return 0;
}

int completion_update(struct completion *completion, const struct editline *line, struct error *error)
{
    completion_clear(completion);
    const char *text = editline_text(line);
    size_t word = line->cursor;
    while (word > 0 && text[word - 1] != ' ' && text[word - 1] != '\n') word--;
    const size_t argument = text[0] == '/' ? path_argument(text, line->cursor) : 0;
    const bool is_file = text[word] == '@' && word < line->cursor;
    if (!argument && !is_file && (text[0] != '/' || word != 0 || !line->cursor)) return 0;
    if (argument) word = argument;

    char *typed = strndup(text + word, line->cursor - word);
    if (!typed) return out_of_memory(error);
    completion->from = word;
    int rc;
    if (argument)
        rc = add_paths(completion, "", typed, error);
    else if (is_file)
        rc = add_paths(completion, "@", typed + 1, error);
    else
        rc = add_commands(completion, typed, strlen(typed), error);
    if (completion->count == 1 && !strcmp(completion->items[0], typed)) completion_clear(completion);
    free(typed);
    return rc;
}

/* Bytes that all items have in common, at a character's boundary. */
static size_t common(const struct completion *completion)
{
    size_t len = strlen(completion->items[0]);
    for (size_t i = 1; i < completion->count; i++) {
        size_t n = 0;
        while (n < len && completion->items[i][n] == completion->items[0][n]) n++;
        len = n;
    }
    while (len > 0 && ((unsigned char)completion->items[0][len] & 0xc0) == 0x80) len--;
    return len;
}

int completion_take(struct completion *completion, struct editline *line, struct error *error)
{
    if (!completion->count) return 0;
    const char *item = completion->items[completion->selected < completion->count ? completion->selected : 0];
    const size_t len = strlen(item);
    int rc = editline_replace(line, completion->from, item, len, error);
    if (!rc && item[len - 1] != '/') rc = editline_insert(line, " ", 1, error);
    return rc ? rc : completion_update(completion, line, error);
}

int completion_tab(struct completion *completion, struct editline *line, struct error *error)
{
    if (!completion->count) return 0;
    const size_t len = common(completion);
    if (completion->count == 1 || completion->selected != SIZE_MAX || completion->from + len <= line->cursor)
        return completion_take(completion, line, error);
    const int rc = editline_replace(line, completion->from, completion->items[0], len, error);
    return rc ? rc : completion_update(completion, line, error);
}
