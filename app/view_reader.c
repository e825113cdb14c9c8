/* SPDX-License-Identifier: MIT
 *
 * The reader: a document's text, wrapped. The place is a byte of the text, so it survives every resize; only the
 * logical lines on the screen are ever wrapped, so a text of any length opens at once.
 */
#include <stdlib.h>
#include <string.h>

#include "app/editline.h"
#include "app/progress.h"
#include "app/view.h"

struct reader_view {
    size_t document;
    unsigned version; /* desk->documents_version that document and top are for */
    size_t top;       /* byte where the first row starts */
    int width, height;

    struct text_rows rows; /* of the logical line [line_start, line_end) */
    size_t line_start, line_end;
    bool has_line;

    bool is_searching;
    struct editline input;
    char *pattern;                 /* last searched, NULL = none */
    size_t match_start, match_end; /* equal = none */
};

/* The document shown, or NULL. */
static const struct desk_document *current(struct tui *tui)
{
    struct reader_view *view = tui->reader;
    const struct desk *desk = tui->desk;
    if (view->version != desk->documents_version || view->document >= desk->n_documents) {
        view->version = desk->documents_version;
        view->document = 0;
        view->top = view->match_start = view->match_end = 0;
        view->has_line = false;
    }
    return desk->n_documents ? &desk->documents[view->document] : NULL;
}

/* Wraps the logical line that holds `at`. */
static bool load_line(struct reader_view *view, const struct desk_document *document, size_t at)
{
    if (view->has_line && at >= view->line_start && at <= view->line_end) return true;
    const char *before = at ? memrchr(document->text, '\n', at) : NULL;
    const char *after = at < document->len ? memchr(document->text + at, '\n', document->len - at) : NULL;
    view->line_start = before ? (size_t)(before - document->text) + 1 : 0;
    view->line_end = after ? (size_t)(after - document->text) : document->len;
    view->rows.count = 0;
    view->has_line = !text_wrap_line(&view->rows, document->text + view->line_start, view->line_end - view->line_start,
                                     view->line_start, view->width, NULL);
    return view->has_line;
}

/* The row start after or before the row that holds *at; false at the ends. */
static bool next_row(struct reader_view *view, const struct desk_document *document, size_t *at)
{
    if (!load_line(view, document, *at)) return false;
    const size_t row = text_row_at(&view->rows, *at);
    if (row + 1 < view->rows.count)
        *at = view->rows.items[row + 1].start;
    else if (view->line_end < document->len)
        *at = view->line_end + 1;
    else
        return false;
    return true;
}

static bool previous_row(struct reader_view *view, const struct desk_document *document, size_t *at)
{
    if (!load_line(view, document, *at)) return false;
    size_t row = text_row_at(&view->rows, *at);
    if (row == 0) {
        if (view->line_start == 0) return false;
        if (!load_line(view, document, view->line_start - 1)) return false;
        row = view->rows.count;
    }
    *at = view->rows.items[row - 1].start;
    return true;
}

static void to_row_start(struct reader_view *view, const struct desk_document *document, size_t at)
{
    if (!load_line(view, document, at)) return;
    view->top = view->rows.items[text_row_at(&view->rows, at)].start;
}

/* Moves the top by rows; down no further than the last page. */
static void move_top(struct reader_view *view, const struct desk_document *document, long by)
{
    for (; by < 0 && previous_row(view, document, &view->top); by++) continue;
    size_t bottom = view->top;
    for (int y = 1; y < view->height; y++)
        if (!next_row(view, document, &bottom)) return;
    for (; by > 0 && next_row(view, document, &bottom); by--) next_row(view, document, &view->top);
}

/* Shows `at` a third down the pane. */
static void show(struct reader_view *view, const struct desk_document *document, size_t at)
{
    to_row_start(view, document, at);
    move_top(view, document, -(view->height / 3));
}

static size_t line_number(const struct desk_document *document, size_t at)
{
    size_t line = 1;
    const char *s = document->text, *end = s + at;
    while (s < end && (s = memchr(s, '\n', (size_t)(end - s)))) {
        line++;
        s++;
    }
    return line;
}

/* ------------------------------------------------------------------------------------------------- drawing */

static void draw_match(const struct reader_view *view, const struct area *area, int y, const char *text,
                       struct text_row row)
{
    const size_t from = view->match_start > row.start ? view->match_start : row.start;
    const size_t to = view->match_end < row.end ? view->match_end : row.end;
    if (from >= to) return;
    const int x = text_columns(text + row.start, from - row.start, 0);
    draw_mark(area, y, 1 + x, text_columns(text + from, to - from, x), STYLE_MATCH);
}

static void draw_search(struct reader_view *view, const struct area *area)
{
    const int y = area->height - 1;
    draw_row(area, y, STYLE_PLAIN, "", NULL);
    int x = draw_format(area, y, 0, STYLE_STRONG, "/");
    x = draw_text(area, y, x, STYLE_PLAIN, editline_text(&view->input), view->input.len);
    draw_cursor(area, y, 1 + text_columns(editline_text(&view->input), view->input.cursor, 0));
}

static void reader_draw(struct tui *tui, const struct area *area)
{
    struct reader_view *view = tui->reader;
    const struct desk_document *document = current(tui);
    if (!document) {
        draw_format(area, 0, 1, STYLE_DIM, "No document is on the desk.");
        return;
    }
    if (view->width != area->width - 2) {
        view->width = area->width - 2;
        view->has_line = false;
        to_row_start(view, document, view->top);
    }
    view->height = area->height;
    size_t at = view->top;
    for (int y = 0; y < area->height; y++) {
        if (!load_line(view, document, at)) return;
        const struct text_row row = view->rows.items[text_row_at(&view->rows, at)];
        draw_text(area, y, 1, STYLE_PLAIN, document->text + row.start, row.end - row.start);
        draw_match(view, area, y, document->text, row);
        if (!next_row(view, document, &at)) break;
    }
    if (view->is_searching) draw_search(view, area);
}

static void reader_title(struct tui *tui, char *out, size_t cap)
{
    const struct desk_document *document = current(tui);
    if (!document) return;
    const size_t top = tui->reader->top;
    const double share = document->len ? 100.0 * (double)top / (double)document->len : 0;
    const int name = (int)text_fit(document->name, strlen(document->name), 30);
    snprintf(out, cap, "%.*s line %zu (%.0f %%)", name, document->name, line_number(document, top), share);
}

static void reader_hint(struct tui *tui, char *out, size_t cap)
{
    if (tui->reader->is_searching)
        snprintf(out, cap, "Enter searches \u00b7 Esc cancels");
    else
        snprintf(out, cap, "/ search \u00b7 n N matches \u00b7 [ ] documents \u00b7 Tab next pane \u00b7 ? keys");
}

/* ------------------------------------------------------------------------------------------------ searching */

static void take_match(struct reader_view *view, const struct desk *desk, size_t document, size_t start, size_t end)
{
    if (document != view->document) view->has_line = false;
    view->document = document;
    view->match_start = start;
    view->match_end = end;
    show(view, &desk->documents[document], start);
}

/* From the present match on, through the other documents, and round to where it began. */
static bool search_forward(struct reader_view *view, const struct desk *desk)
{
    for (size_t k = 0; k <= desk->n_documents; k++) {
        const size_t i = (view->document + k) % desk->n_documents;
        const struct desk_document *document = &desk->documents[i];
        const bool has_match = view->match_end > view->match_start;
        const size_t from = k ? 0 : has_match ? view->match_end : view->top;
        size_t end;
        const size_t start = text_find(document->text, document->len, from, view->pattern, &end);
        if (start == SIZE_MAX) continue;
        take_match(view, desk, i, start, end);
        return true;
    }
    return false;
}

static bool search_backward(struct reader_view *view, const struct desk *desk)
{
    for (size_t k = 0; k <= desk->n_documents; k++) {
        const size_t i = (view->document + desk->n_documents * 2 - k) % desk->n_documents;
        const struct desk_document *document = &desk->documents[i];
        const size_t limit = k ? document->len : view->match_end > view->match_start ? view->match_start : view->top;
        size_t found = SIZE_MAX, found_end = 0, end;
        for (size_t at = text_find(document->text, limit, 0, view->pattern, &end); at != SIZE_MAX;
             at = text_find(document->text, limit, end, view->pattern, &end)) {
            found = at;
            found_end = end;
        }
        if (found == SIZE_MAX) continue;
        take_match(view, desk, i, found, found_end);
        return true;
    }
    return false;
}

static void search(struct tui *tui, bool forward)
{
    struct reader_view *view = tui->reader;
    if (!current(tui)) return;
    if (!view->pattern) {
        desk_note(tui->desk, "Nothing was searched yet: / searches.");
        return;
    }
    if (!(forward ? search_forward : search_backward)(view, tui->desk))
        desk_note(tui->desk, "\"%s\" is not in the documents.", view->pattern);
}

int reader_view_search(struct tui *tui, const char *pattern, struct error *error)
{
    struct reader_view *view = tui->reader;
    char *copy = strdup(pattern);
    if (!copy) return error_set(error, ERROR_FAILED, "Out of memory while searching.");
    free(view->pattern);
    view->pattern = copy;
    current(tui);
    view->match_start = view->match_end = 0;
    search(tui, true);
    tui_focus(tui, VIEW_READER);
    return 0;
}

/* ---------------------------------------------------------------------------------------------------- moving */

void reader_view_open(struct tui *tui, size_t document)
{
    struct reader_view *view = tui->reader;
    if (!current(tui) || document >= tui->desk->n_documents || document == view->document) return;
    view->document = document;
    view->top = view->match_start = view->match_end = 0;
    view->has_line = false;
}

static size_t line_offset(const struct desk_document *document, size_t line)
{
    size_t at = 0;
    for (; line > 1; line--) {
        const char *newline = memchr(document->text + at, '\n', document->len - at);
        if (!newline) break;
        at = (size_t)(newline - document->text) + 1;
    }
    return at;
}

/* A byte in the middle of a character belongs to the character. */
static size_t character_start(const struct desk_document *document, size_t at)
{
    while (at > 0 && ((unsigned char)document->text[at] & 0xc0) == 0x80) at--;
    return at;
}

int reader_view_goto(struct tui *tui, const char *where, struct error *error)
{
    struct reader_view *view = tui->reader;
    const struct desk_document *document = current(tui);
    if (!document) return error_set(error, ERROR_USAGE, "No document is on the desk.");
    char *end;
    const unsigned long number = strtoul(where, &end, 10);
    if (end != where && !strcmp(end, "%") && number <= 100) {
        show(view, document, character_start(document, document->len * number / 100));
    } else if (end != where && !*end) {
        show(view, document, line_offset(document, number));
    } else {
        size_t i = 0, match;
        while (i < tui->desk->n_documents &&
               text_find(tui->desk->documents[i].name, strlen(tui->desk->documents[i].name), 0, where, &match) ==
                   SIZE_MAX)
            i++;
        if (i == tui->desk->n_documents)
            return error_set(error, ERROR_USAGE, "\"%s\" is no line, no share such as 50%%, and no document.", where);
        reader_view_open(tui, i);
    }
    tui_focus(tui, VIEW_READER);
    return 0;
}

static bool search_act(struct tui *tui, int action)
{
    struct reader_view *view = tui->reader;
    struct error error = {0};
    switch (action) {
    case ACTION_SELECT:
        view->is_searching = false;
        if (view->input.len && reader_view_search(tui, view->input.text, &error)) tui_fail(tui, &error);
        return true;
    case ACTION_CANCEL:
    case ACTION_INTERRUPT:
        view->is_searching = false;
        return true;
    case ACTION_REDRAW:
    case ACTION_SUSPEND:
        return false;
    default:
        if (action >= ACTION_EDIT && editline_do(&view->input, (enum edit_op)(action - ACTION_EDIT), &error))
            tui_fail(tui, &error);
        return true;
    }
}

static void begin_search(struct tui *tui)
{
    struct error error = {0};
    if (editline_set(&tui->reader->input, "", 0, &error)) tui_fail(tui, &error);
    tui->reader->is_searching = true;
}

static bool reader_act(struct tui *tui, int action)
{
    struct reader_view *view = tui->reader;
    if (view->is_searching) return search_act(tui, action);
    const struct desk_document *document = current(tui);
    if (!document) return false;
    const long page = view->height > 2 ? view->height - 1 : 1;
    const size_t n = tui->desk->n_documents;
    switch (action) {
    case ACTION_UP:
    case ACTION_WHEEL_UP:
        move_top(view, document, -1);
        return true;
    case ACTION_DOWN:
    case ACTION_WHEEL_DOWN:
        move_top(view, document, 1);
        return true;
    case ACTION_PAGE_UP:
        move_top(view, document, -page);
        return true;
    case ACTION_PAGE_DOWN:
        move_top(view, document, page);
        return true;
    case ACTION_TOP:
        view->top = 0;
        return true;
    case ACTION_BOTTOM:
        to_row_start(view, document, document->len);
        move_top(view, document, -page);
        return true;
    case ACTION_SEARCH:
        begin_search(tui);
        return true;
    case ACTION_SEARCH_NEXT:
        search(tui, true);
        return true;
    case ACTION_SEARCH_PREVIOUS:
        search(tui, false);
        return true;
    case ACTION_NEXT_DOCUMENT:
        reader_view_open(tui, (view->document + 1) % n);
        return true;
    case ACTION_PREVIOUS_DOCUMENT:
        reader_view_open(tui, (view->document + n - 1) % n);
        return true;
    default:
        return false;
    }
}

static bool reader_type(struct tui *tui, const char *s, size_t n)
{
    struct error error = {0};
    if (!tui->reader->is_searching) return false;
    if (editline_insert(&tui->reader->input, s, n, &error)) tui_fail(tui, &error);
    return true;
}

static enum keymap reader_keymap(const struct tui *tui)
{
    return tui->reader->is_searching ? KEYMAP_CHAT : KEYMAP_READER;
}

static int reader_create(struct tui *tui, struct error *error)
{
    tui->reader = calloc(1, sizeof *tui->reader);
    if (!tui->reader) return error_set(error, ERROR_FAILED, "Out of memory while opening the screen.");
    tui->reader->width = TUI_LEAST_COLUMNS; /* until it is drawn */
    return 0;
}

static void reader_destroy(struct tui *tui)
{
    if (!tui->reader) return;
    text_rows_free(&tui->reader->rows);
    editline_free(&tui->reader->input);
    free(tui->reader->pattern);
    free(tui->reader);
    tui->reader = NULL;
}

const struct view_ops reader_ops = {
    .title = "Reader",
    .keymap = KEYMAP_READER,
    .keymap_now = reader_keymap,
    .create = reader_create,
    .destroy = reader_destroy,
    .draw = reader_draw,
    .act = reader_act,
    .type = reader_type,
    .title_now = reader_title,
    .hint = reader_hint,
};
