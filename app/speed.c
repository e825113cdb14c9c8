/* SPDX-License-Identifier: MIT
 *
 * Lines of "MODEL DEVICE TOKENS-PER-SECOND"; MODEL is the beginning of the fingerprint in hex.
 */
#include "app/speed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LEAST_TOKENS = 512, MOST_LINES = 64, LINE = 80, NAME = 48 };

struct speeds {
    char lines[MOST_LINES][LINE]; /* the latest first */
    size_t count;
};

static char *path_of(const char *dir, const char *suffix)
{
    size_t size = strlen(dir) + sizeof "/reading-speed" + strlen(suffix);
    char *path = malloc(size);
    if (path) snprintf(path, size, "%s/reading-speed%s", dir, suffix);
    return path;
}

/* "0123456789abcdef vulkan:0 ": how its line begins. */
static void name_line(const struct engine_info *info, char out[NAME])
{
    for (size_t i = 0; i < 8; i++) snprintf(out + 2 * i, NAME - 2 * i, "%02x", info->model_fingerprint[i]);
    snprintf(out + 16, NAME - 16, " %.16s ", info->device_id);
}

static void load(const char *dir, struct speeds *s)
{
    char *path = path_of(dir, "");
    FILE *file = path ? fopen(path, "re") : NULL;
    s->count = 0;
    while (file && s->count < MOST_LINES && fgets(s->lines[s->count], LINE, file))
        if (strchr(s->lines[s->count], '\n')) s->count++;
    if (file) fclose(file);
    free(path);
}

double speed_recall(const char *dir, const struct engine_info *info)
{
    char name[NAME];
    struct speeds s;
    if (!dir) return 0;
    name_line(info, name);
    load(dir, &s);
    for (size_t i = 0; i < s.count; i++) {
        if (strncmp(s.lines[i], name, strlen(name))) continue;
        double rate = strtod(s.lines[i] + strlen(name), NULL);
        return rate > 0 && rate < 1e9 ? rate : 0;
    }
    return 0;
}

/* Whole or not at all: written beside, then put into its place. */
void speed_keep(const char *dir, const struct engine_info *info, size_t tokens, double rate)
{
    char name[NAME];
    struct speeds s;
    if (!dir || tokens < LEAST_TOKENS || !(rate > 0)) return;
    name_line(info, name);
    load(dir, &s);
    char *path = path_of(dir, ""), *beside = path_of(dir, ".new");
    FILE *file = path && beside ? fopen(beside, "we") : NULL;
    if (file) {
        bool good = !fchmod(fileno(file), 0600) && fprintf(file, "%s%.1f\n", name, rate) > 0;
        for (size_t i = 0; i < s.count && i + 1 < MOST_LINES; i++)
            if (strncmp(s.lines[i], name, strlen(name))) good = fputs(s.lines[i], file) >= 0 && good;
        good = !fclose(file) && good;
        if (!good || rename(beside, path)) unlink(beside);
    }
    free(path);
    free(beside);
}
