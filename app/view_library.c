/* SPDX-License-Identifier: MIT
 *
 * The library: the documents on the desk, and all sessions. Enter opens what is selected.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "app/progress.h"
#include "app/view.h"

struct library_view {
    size_t selected; /* among what can be selected: documents, then sessions */
    size_t top;      /* first row shown */
    int height;
    size_t removing; /* the session row that was asked to go once; SIZE_MAX = none */
};

static size_t row_count(const struct tui *tui)
{
    return tui->desk->n_documents + tui->desk->sessions.count;
}

/* Rows on the screen: a title, the documents, a blank, a title, the sessions (two rows each). */
static size_t row_of(const struct tui *tui, size_t item)
{
    const size_t documents = tui->desk->n_documents;
    if (item < documents) return 1 + item;
    return 1 + (documents ? documents : 1) + 2 + 2 * (item - documents);
}

static void ago(int64_t when, char *out, size_t cap)
{
    const int64_t seconds = (int64_t)time(NULL) - when;
    if (seconds < 60)
        snprintf(out, cap, "now");
    else if (seconds < 3600)
        snprintf(out, cap, "%d min ago", (int)(seconds / 60));
    else if (seconds < 86400)
        snprintf(out, cap, "%d h ago", (int)(seconds / 3600));
    else
        snprintf(out, cap, "%d d ago", (int)(seconds / 86400));
}

static void draw_document(struct tui *tui, const struct area *area, int y, size_t i)
{
    const struct desk_document *document = &tui->desk->documents[i];
    const double share = desk_document_share(tui->desk, i);
    char right[48], size[32];
    if (tui->desk->state == DESK_READING && share < 1)
        snprintf(right, sizeof right, "%.0f %%", 100 * share);
    else
        snprintf(right, sizeof right, "%s", format_bytes(document->len, size));
    const bool is_selected = tui->focus == VIEW_LIBRARY && tui->library->selected == i;
    draw_row(area, y, is_selected ? STYLE_SELECTED : STYLE_PLAIN, document->name, right);
}

static void draw_session(struct tui *tui, const struct area *area, int y, size_t i)
{
    const struct store_session *session = &tui->desk->sessions.items[i];
    const bool is_open = session->id == tui->desk->session && tui->desk->state != DESK_EMPTY;
    const bool is_selected = tui->focus == VIEW_LIBRARY && tui->library->selected == tui->desk->n_documents + i;
    char name[300], when[32], tokens[32];
    snprintf(name, sizeof name, "%s%.250s", is_open ? "\u25cf " : "", session->name);
    ago(session->used, when, sizeof when);
    draw_row(area, y, is_selected ? STYLE_SELECTED : is_open ? STYLE_STRONG : STYLE_PLAIN, name, when);
    draw_format(area, y + 1, 3, STYLE_DIM, "%llu question%s \u00b7 %s tokens", (unsigned long long)session->n_turns / 2,
                session->n_turns / 2 == 1 ? "" : "s", format_count(session->n_tokens, tokens));
}

static void library_draw(struct tui *tui, const struct area *area)
{
    struct library_view *view = tui->library;
    struct desk *desk = tui->desk;
    struct error error = {0};
    if (desk_sessions(desk, &error)) {
        desk->sessions_changed = false; /* asked again when something changes */
        tui_fail(tui, &error);
    }
    view->height = area->height;
    if (view->selected >= row_count(tui)) view->selected = row_count(tui) ? row_count(tui) - 1 : 0;
    const size_t row = row_of(tui, view->selected);
    if (row < view->top + 1) view->top = view->selected == 0 ? 0 : row - 1;
    if (row + 2 > view->top + (size_t)area->height) view->top = row + 2 - (size_t)area->height;

    const int shift = (int)view->top;
    draw_format(area, 0 - shift, 1, STYLE_STRONG, "Documents");
    if (!desk->n_documents) draw_format(area, 1 - shift, 1, STYLE_DIM, "none: /add FILE in the chat (F4)");
    for (size_t i = 0; i < desk->n_documents; i++) {
        const int y = (int)row_of(tui, i) - shift;
        if (y >= 0 && y < area->height) draw_document(tui, area, y, i);
    }
    const int title = (int)row_of(tui, desk->n_documents) - 1 - shift;
    draw_format(area, title, 1, STYLE_STRONG, "Sessions");
    if (!desk->sessions.count) draw_format(area, title + 1, 1, STYLE_DIM, desk->store ? "none yet" : "not kept");
    for (size_t i = 0; i < desk->sessions.count; i++) {
        const int y = (int)row_of(tui, desk->n_documents + i) - shift;
        if (y >= 0 && y < area->height) draw_session(tui, area, y, i);
    }
}

static void open_selected(struct tui *tui)
{
    struct desk *desk = tui->desk;
    const size_t selected = tui->library->selected;
    if (selected >= row_count(tui)) return;
    if (selected < desk->n_documents) {
        reader_view_open(tui, selected);
        tui_focus(tui, VIEW_READER);
        return;
    }
    struct error error = {0};
    const int64_t session = desk->sessions.items[selected - desk->n_documents].id;
    if (session != desk->session || desk->state == DESK_EMPTY) {
        if (desk_open(desk, session, &error)) {
            tui_fail(tui, &error);
            return;
        }
    }
    tui_focus(tui, VIEW_CHAT);
}

static void remove_selected(struct tui *tui)
{
    struct library_view *view = tui->library;
    struct desk *desk = tui->desk;
    if (view->selected < desk->n_documents || view->selected >= row_count(tui)) return;
    const struct store_session *session = &desk->sessions.items[view->selected - desk->n_documents];
    if (view->removing != view->selected) {
        view->removing = view->selected;
        desk_note(desk, "Press again to remove the session \"%s\" for good.", session->name);
        return;
    }
    struct error error = {0};
    view->removing = SIZE_MAX;
    if (desk_remove(desk, session->id, &error)) tui_fail(tui, &error);
}

static void step(struct library_view *view, size_t rows, long by)
{
    const long last = rows ? (long)rows - 1 : 0;
    long at = (long)view->selected + by;
    if (at < 0) at = 0;
    view->selected = (size_t)(at > last ? last : at);
}

static bool library_act(struct tui *tui, int action)
{
    struct library_view *view = tui->library;
    const size_t rows = row_count(tui);
    const long page = view->height > 4 ? view->height / 2 - 1 : 1;
    if (action != ACTION_REMOVE) view->removing = SIZE_MAX;
    switch (action) {
    case ACTION_UP:
    case ACTION_WHEEL_UP:
        step(view, rows, -1);
        return true;
    case ACTION_DOWN:
    case ACTION_WHEEL_DOWN:
        step(view, rows, 1);
        return true;
    case ACTION_PAGE_UP:
        step(view, rows, -page);
        return true;
    case ACTION_PAGE_DOWN:
        step(view, rows, page);
        return true;
    case ACTION_TOP:
        step(view, rows, -(long)rows);
        return true;
    case ACTION_BOTTOM:
        step(view, rows, (long)rows);
        return true;
    case ACTION_SELECT:
        open_selected(tui);
        return true;
    case ACTION_REMOVE:
        remove_selected(tui);
        return true;
    default:
        return false;
    }
}

static void library_click(struct tui *tui, int y, int x)
{
    (void)x;
    const size_t row = (size_t)y + tui->library->top;
    for (size_t i = 0; i < row_count(tui); i++) {
        const size_t first = row_of(tui, i);
        if (row != first && !(i >= tui->desk->n_documents && row == first + 1)) continue;
        tui->library->selected = i;
        open_selected(tui);
        return;
    }
}

static void library_hint(struct tui *tui, char *out, size_t cap)
{
    (void)tui;
    snprintf(out, cap, "Enter opens \u00b7 d removes a session \u00b7 Tab next pane \u00b7 ? keys");
}

static int library_create(struct tui *tui, struct error *error)
{
    tui->library = calloc(1, sizeof *tui->library);
    if (!tui->library) return error_set(error, ERROR_FAILED, "Out of memory while opening the screen.");
    tui->library->removing = SIZE_MAX;
    return 0;
}

static void library_destroy(struct tui *tui)
{
    free(tui->library);
    tui->library = NULL;
}

const struct view_ops library_ops = {
    .title = "Library",
    .keymap = KEYMAP_LIBRARY,
    .create = library_create,
    .destroy = library_destroy,
    .draw = library_draw,
    .act = library_act,
    .click = library_click,
    .hint = library_hint,
};
