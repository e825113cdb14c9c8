/* SPDX-License-Identifier: MIT
 *
 * A growing list of token ids (engine.h: token_list).
 */
#include "engine/token_list.h"

#include <stdlib.h>
#include <string.h>

int token_list_reserve(struct token_list *list, size_t more, struct error *error)
{
    if (more <= list->capacity - list->count) return 0;
    size_t most = SIZE_MAX / sizeof *list->ids;
    if (more > most - list->count) return error_set(error, ERROR_FAILED, "Too many tokens.");
    size_t capacity = list->capacity < most / 2 ? list->capacity * 2 : most;
    if (capacity < list->count + more) capacity = list->count + more;
    if (capacity < 64) capacity = 64;
    uint32_t *ids = realloc(list->ids, capacity * sizeof *ids);
    if (!ids) return error_set(error, ERROR_FAILED, "Out of memory for %zu tokens.", capacity);
    list->ids = ids;
    list->capacity = capacity;
    return 0;
}

int token_list_push(struct token_list *list, uint32_t id, struct error *error)
{
    int rc = token_list_reserve(list, 1, error);
    if (rc) return rc;
    list->ids[list->count++] = id;
    return 0;
}

int token_list_append(struct token_list *list, const uint32_t *ids, size_t count, struct error *error)
{
    if (count == 0) return 0;
    int rc = token_list_reserve(list, count, error);
    if (rc) return rc;
    memcpy(list->ids + list->count, ids, count * sizeof *ids);
    list->count += count;
    return 0;
}

void token_list_free(struct token_list *list)
{
    free(list->ids);
    *list = (struct token_list){0};
}
