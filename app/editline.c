/* SPDX-License-Identifier: MIT
 *
 * Editing operations (editline.h).
 */
#include "app/editline.h"

#include <stdlib.h>
#include <string.h>

#include "app/sanitize.h"

const char *editline_text(const struct editline *line)
{
    return line->text ? line->text : "";
}

void editline_free(struct editline *line)
{
    for (size_t i = 0; i < line->n_undo; i++) free(line->undo[i].text);
    free(line->killed);
    free(line->text);
    *line = (struct editline){0};
}

static int out_of_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory while editing.");
}

/* Remembers the present text as an undo step. */
static int remember(struct editline *line, struct error *error)
{
    char *copy = malloc(line->len + 1);
    if (!copy) return out_of_memory(error);
    memcpy(copy, editline_text(line), line->len + 1);
    if (line->n_undo == EDITLINE_UNDO) {
        free(line->undo[0].text);
        memmove(line->undo, line->undo + 1, (EDITLINE_UNDO - 1) * sizeof line->undo[0]);
        line->n_undo--;
    }
    line->undo[line->n_undo++] = (struct edit_state){.text = copy, .len = line->len, .cursor = line->cursor};
    return 0;
}

static void undo(struct editline *line)
{
    if (!line->n_undo) return;
    const struct edit_state state = line->undo[--line->n_undo];
    free(line->text);
    line->text = state.text;
    line->len = state.len;
    line->capacity = state.len + 1;
    line->cursor = state.cursor;
}

/* [from, to) becomes s. The one place where the text changes. */
static int splice(struct editline *line, size_t from, size_t to, const char *s, size_t len, struct error *error)
{
    const size_t rest = line->len - to, total = from + len + rest;
    if (total > EDITLINE_MOST)
        return error_set(error, ERROR_INPUT, "That is too long for the input (%zu bytes; at most %zu).", total,
                         EDITLINE_MOST);
    if (total + 1 > line->capacity) {
        size_t capacity = line->capacity ? line->capacity : 64;
        while (capacity < total + 1) capacity *= 2;
        char *text = realloc(line->text, capacity);
        if (!text) return out_of_memory(error);
        line->text = text;
        line->capacity = capacity;
    }
    memmove(line->text + from + len, line->text + to, rest);
    if (len) memcpy(line->text + from, s, len);
    line->len = total;
    line->text[total] = '\0';
    line->cursor = from + len;
    return 0;
}

int editline_replace(struct editline *line, size_t from, const char *s, size_t len, struct error *error)
{
    size_t safe_len;
    char *safe = sanitize_text(s, len, &safe_len);
    if (!safe) return out_of_memory(error);
    int rc = 0;
    if (!line->is_typing || from != line->cursor || len > 8) rc = remember(line, error);
    if (!rc) rc = splice(line, from, line->cursor, safe, safe_len, error);
    line->is_typing = from == line->cursor || len <= 8;
    free(safe);
    return rc;
}

int editline_insert(struct editline *line, const char *s, size_t len, struct error *error)
{
    return editline_replace(line, line->cursor, s, len, error);
}

int editline_set(struct editline *line, const char *s, size_t len, struct error *error)
{
    line->cursor = line->len;
    line->is_typing = false;
    const int rc = editline_replace(line, 0, s, len, error);
    line->is_typing = false;
    return rc;
}

static size_t line_start(const struct editline *line)
{
    size_t at = line->cursor;
    while (at > 0 && line->text[at - 1] != '\n') at--;
    return at;
}

static size_t line_end(const struct editline *line)
{
    size_t at = line->cursor;
    while (at < line->len && line->text[at] != '\n') at++;
    return at;
}

static size_t blank_back(const struct editline *line)
{
    size_t at = line->cursor;
    const char *text = line->text;
    while (at > 0 && (text[at - 1] == ' ' || text[at - 1] == '\n' || text[at - 1] == '\t')) at--;
    while (at > 0 && text[at - 1] != ' ' && text[at - 1] != '\n' && text[at - 1] != '\t') at--;
    return at;
}

/* Where the cursor would go, or the other end of what is removed. */
static size_t target(const struct editline *line, enum edit_op op)
{
    const char *text = editline_text(line);
    switch (op) {
    case EDIT_LEFT:
    case EDIT_BACKSPACE:
        return text_prev(text, line->len, line->cursor);
    case EDIT_RIGHT:
    case EDIT_DELETE:
        return text_next(text, line->len, line->cursor);
    case EDIT_WORD_LEFT:
    case EDIT_KILL_WORD_BACK:
        return text_word_start(text, line->len, line->cursor);
    case EDIT_WORD_RIGHT:
    case EDIT_KILL_WORD:
        return text_word_end(text, line->len, line->cursor);
    case EDIT_LINE_START:
    case EDIT_KILL_START:
        return line_start(line);
    case EDIT_LINE_END:
        return line_end(line);
    case EDIT_KILL_END:
        return line_end(line) == line->cursor ? text_next(text, line->len, line->cursor) : line_end(line);
    case EDIT_KILL_BLANK_BACK:
        return blank_back(line);
    case EDIT_YANK:
    case EDIT_TRANSPOSE:
    case EDIT_UNDO:
        break;
    }
    return line->cursor;
}

/* Removes what lies between the cursor and `to`; keep: it can be yanked. */
static int cut(struct editline *line, size_t to, bool keep, struct error *error)
{
    const size_t from = to < line->cursor ? to : line->cursor;
    const size_t end = to < line->cursor ? line->cursor : to;
    if (from == end) return 0;
    int rc = remember(line, error);
    if (rc) return rc;
    if (keep) {
        char *copy = malloc(end - from);
        if (!copy) return out_of_memory(error);
        memcpy(copy, line->text + from, end - from);
        free(line->killed);
        line->killed = copy;
        line->killed_len = end - from;
    }
    return splice(line, from, end, "", 0, error);
}

/* Swaps the graphemes around the cursor; at the end of a line the two before it. */
static int transpose(struct editline *line, struct error *error)
{
    const char *text = editline_text(line);
    size_t middle = line->cursor;
    if (middle == line_end(line)) middle = text_prev(text, line->len, middle);
    const size_t from = text_prev(text, line->len, middle), to = text_next(text, line->len, middle);
    if (from == middle || to == middle || middle <= line_start(line)) return 0;
    char *swapped = malloc(to - from);
    if (!swapped) return out_of_memory(error);
    memcpy(swapped, text + middle, to - middle);
    memcpy(swapped + (to - middle), text + from, middle - from);
    int rc = remember(line, error);
    if (!rc) rc = splice(line, from, to, swapped, to - from, error);
    free(swapped);
    return rc;
}

int editline_do(struct editline *line, enum edit_op op, struct error *error)
{
    const size_t to = target(line, op);
    line->is_typing = false;
    switch (op) {
    case EDIT_BACKSPACE:
    case EDIT_DELETE:
        return cut(line, to, false, error);
    case EDIT_KILL_END:
    case EDIT_KILL_START:
    case EDIT_KILL_BLANK_BACK:
    case EDIT_KILL_WORD_BACK:
    case EDIT_KILL_WORD:
        return cut(line, to, true, error);
    case EDIT_YANK: {
        const int rc = line->killed_len ? remember(line, error) : 0;
        return rc || !line->killed_len
                   ? rc
                   : splice(line, line->cursor, line->cursor, line->killed, line->killed_len, error);
    }
    case EDIT_TRANSPOSE:
        return transpose(line, error);
    case EDIT_UNDO:
        undo(line);
        return 0;
    default:
        line->cursor = to;
        return 0;
    }
}

bool editline_move_row(struct editline *line, int direction, int width)
{
    struct text_rows rows = {0};
    if (!line->len || text_wrap(&rows, line->text, line->len, width, NULL)) {
        text_rows_free(&rows);
        return false;
    }
    const size_t row = text_row_at(&rows, line->cursor);
    const bool is_there = direction < 0 ? row > 0 : row + 1 < rows.count;
    if (is_there) {
        const size_t start = rows.items[row].start;
        const int x = text_columns(line->text + start, line->cursor - start, 0);
        const struct text_row next = rows.items[direction < 0 ? row - 1 : row + 1];
        line->cursor = next.start + text_fit(line->text + next.start, next.end - next.start, x);
        line->is_typing = false;
    }
    text_rows_free(&rows);
    return is_there;
}
