/* SPDX-License-Identifier: MIT
 *
 * Names of parts.
 */
#include "app/model_parts.h"

#include <string.h>

#define TAIL (sizeof "-00001-of-00002.gguf" - 1)

static bool five_digits(const char *text, unsigned *out)
{
    *out = 0;
    for (int i = 0; i < 5; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
        *out = *out * 10 + (unsigned)(text[i] - '0');
    }
    return true;
}

struct model_parts model_parts_of(const char *file)
{
    struct model_parts one = {.number = 1, .count = 1}, several = one;
    size_t len = strlen(file);
    snprintf(one.stem, sizeof one.stem, "%s", file);
    if (len <= TAIL || len > DOWNLOAD_NAME_MOST) return one;
    const char *tail = file + len - TAIL;
    bool is_part = tail[0] == '-' && five_digits(tail + 1, &several.number) && !strncmp(tail + 6, "-of-", 4) &&
                   five_digits(tail + 10, &several.count) && !strcmp(tail + 15, ".gguf");
    if (!is_part || several.count < 2 || several.count > MODEL_PARTS_MOST || !several.number ||
        several.number > several.count)
        return one;
    memcpy(several.stem, file, len - TAIL);
    return several;
}

void model_parts_name(const struct model_parts *p, unsigned number, char out[DOWNLOAD_NAME_MOST + 1])
{
    if (p->count == 1)
        snprintf(out, DOWNLOAD_NAME_MOST + 1, "%s", p->stem);
    else
        snprintf(out, DOWNLOAD_NAME_MOST + 1, "%.180s-%05u-of-%05u.gguf", p->stem, number, p->count);
}
