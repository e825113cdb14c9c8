/* SPDX-License-Identifier: MIT
 *
 * lectern.ini and the environment. The file: `name = value` lines with the names of the global options, # or ;
 * comments, [section] lines for the reader's eye only; a value may stand in double quotes. Unknown names are errors, so
 * that a misspelt line is noticed.
 */
#include "app/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONFIG_MOST_BYTES 65536

/* *text stays NULL when there is no such file. */
static int read_text(const char *path, char **text, struct error *error)
{
    FILE *file = fopen(path, "rb");
    if (!file && (errno == ENOENT || errno == ENOTDIR)) return 0;
    if (!file) return error_set(error, ERROR_USAGE, "%.300s cannot be read: %s.", path, strerror(errno));
    char *bytes = malloc(CONFIG_MOST_BYTES + 1);
    size_t n = bytes ? fread(bytes, 1, CONFIG_MOST_BYTES + 1, file) : 0;
    bool failed = ferror(file) != 0;
    fclose(file);
    if (bytes && !failed && n <= CONFIG_MOST_BYTES && !memchr(bytes, 0, n)) {
        bytes[n] = 0;
        *text = bytes;
        return 0;
    }
    bool lacks_memory = !bytes;
    free(bytes);
    if (lacks_memory) return error_set(error, ERROR_FAILED, "Out of memory.");
    return error_set(error, ERROR_USAGE, "%.300s is not a configuration file.", path);
}

static char *trim(char *text)
{
    while (isspace((unsigned char)*text)) text++;
    size_t len = strlen(text);
    while (len && isspace((unsigned char)text[len - 1])) len--;
    text[len] = 0;
    return text;
}

static const struct option *find_name(const struct option *items, const char *name)
{
    for (; items->name; items++)
        if (!strcmp(items->name, name)) return items;
    return NULL;
}

static int read_line(const struct option_group *group, char *line, const char *origin, struct error *error)
{
    line = trim(line);
    if (!*line || *line == '#' || *line == ';' || *line == '[') return 0;
    char *equals = strchr(line, '=');
    if (!equals) return error_set(error, ERROR_USAGE, "%s: \"%.80s\" is not of the form name = value.", origin, line);
    *equals = 0;
    const char *name = trim(line);
    char *value = trim(equals + 1);
    size_t len = strlen(value);
    if (len >= 2 && value[0] == '"' && value[len - 1] == '"') {
        value[len - 1] = 0;
        value++;
    }
    const struct option *o = find_name(group->items, name);
    if (!o || !strcmp(name, "help") || !strcmp(name, "version"))
        return error_set(error, ERROR_USAGE, "%s: there is no option \"%.80s\".", origin, name);
    return option_set(o, group->values, value, origin, error);
}

int config_file(const struct option_group *group, const char *path, char **ini_text, struct error *error)
{
    int rc = read_text(path, ini_text, error);
    unsigned number = 0;
    for (char *line = *ini_text; !rc && line; number++) {
        char *end = strchr(line, '\n');
        if (end) *end = 0;
        char origin[400];
        snprintf(origin, sizeof origin, "%.300s line %u", path, number + 1);
        rc = read_line(group, line, origin, error);
        line = end ? end + 1 : NULL;
    }
    return rc;
}

int config_environment(const struct option_group *group, struct error *error)
{
    for (const struct option *o = group->items; o->name; o++) {
        if (!strcmp(o->name, "help") || !strcmp(o->name, "version")) continue;
        char name[64] = "LECTERN_";
        size_t at = strlen(name);
        for (const char *c = o->name; *c && at + 1 < sizeof name; c++)
            name[at++] = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
        name[at] = 0;
        const char *value = getenv(name);
        int rc = value && *value ? option_set(o, group->values, value, name, error) : 0;
        if (rc) return rc;
    }
    return 0;
}
