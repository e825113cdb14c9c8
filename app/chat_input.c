/* SPDX-License-Identifier: MIT
 *
 * The chat's input: typing, completion, history, going back to an earlier question (chat_view.h).
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "app/chat_view.h"
#include "app/commands_slash.h"
#include "app/editor.h"

#define ESCAPE_MILLISECONDS 1000 /* between the two of Esc Esc */
#define POPUP_ROWS 8

static void report(struct tui *tui, int rc, struct error *error)
{
    if (rc) tui_fail(tui, error);
}

static void set_input(struct tui *tui, const char *text)
{
    struct error error = {0};
    report(tui, editline_set(&tui->chat->input, text, strlen(text), &error), &error);
    completion_clear(&tui->chat->completion);
}

static void refresh_completion(struct tui *tui)
{
    struct error error = {0};
    report(tui, completion_update(&tui->chat->completion, &tui->chat->input, &error), &error);
}

void chat_take_returned(struct tui *tui)
{
    char *question = tui->desk->returned;
    if (!question) return;
    tui->desk->returned = NULL;
    if (!tui->chat->input.len) set_input(tui, question);
    free(question);
}

/* ------------------------------------------------------------------------------------------------ drawing */

int chat_input_rows(struct chat_view *chat, const struct area *pane)
{
    chat->input_width = pane->width - 4;
    if (chat->mode == CHAT_HISTORY) return 2;
    struct text_rows rows = {0};
    int count = 1;
    if (!text_wrap(&rows, editline_text(&chat->input), chat->input.len, chat->input_width, NULL))
        count = (int)rows.count;
    text_rows_free(&rows);
    const int most = pane->height / 3 < 1 ? 1 : pane->height / 3;
    return count > most ? most : count;
}

static void draw_popup_row(const struct area *pane, int y, int columns, bool is_selected, const char *text)
{
    struct area box = *pane;
    box.x += 1;
    box.width = columns < pane->width - 2 ? columns : pane->width - 2;
    draw_row(&box, y, is_selected ? STYLE_SELECTED : STYLE_PLAIN, text, NULL);
}

static void draw_completion(struct chat_view *chat, const struct area *pane, int bottom)
{
    const struct completion *completion = &chat->completion;
    size_t rows = completion->count < POPUP_ROWS ? completion->count : POPUP_ROWS;
    if ((int)rows > bottom) rows = (size_t)bottom;
    if (!rows) return;
    const size_t selected = completion->selected < completion->count ? completion->selected : 0;
    const size_t first = selected >= rows ? selected - rows + 1 : 0;
    size_t count;
    const struct slash_command *commands = slash_table(&count);
    for (size_t i = 0; i < rows; i++) {
        const char *item = completion->items[first + i];
        char line[256];
        snprintf(line, sizeof line, "%.200s", item);
        for (size_t k = 0; completion->is_command && k < count; k++)
            if (!strcmp(commands[k].name, item + 1))
                snprintf(line, sizeof line, "%-10s %-22s %s", item, commands[k].arguments, commands[k].help);
        draw_popup_row(pane, bottom - (int)(rows - i), completion->is_command ? 78 : 48,
                       first + i == completion->selected, line);
    }
}

/* Earlier questions, the chosen one marked. */
static void draw_questions(struct tui *tui, const struct area *pane, int bottom)
{
    const struct desk *desk = tui->desk;
    const int rows = bottom - 1 < POPUP_ROWS ? bottom - 1 : POPUP_ROWS;
    const size_t chosen = tui->chat->chosen;
    int y = bottom;
    size_t last = chosen + 2 * (size_t)(rows > 2 ? rows / 2 : 1);
    if (last >= desk->n_turns) last = desk->n_turns - 1;
    for (size_t i = last + 1; i-- > 0 && y > bottom - rows;) {
        if (!desk->turns[i].is_question) continue;
        char line[256];
        snprintf(line, sizeof line, "%zu  %.230s", i / 2 + 1, desk->turns[i].shown.text);
        line[strcspn(line, "\n")] = '\0';
        draw_popup_row(pane, --y, pane->width - 2, i == chosen, line);
    }
    if (y > 0) draw_popup_row(pane, y - 1, pane->width - 2, false, "Go back to which question?");
}

static void draw_history(struct tui *tui, const struct area *pane, int y)
{
    struct chat_view *chat = tui->chat;
    const char *pattern = editline_text(&chat->search);
    int x = draw_format(pane, y, 1, STYLE_STRONG, "search: ");
    draw_text(pane, y, x, STYLE_PLAIN, pattern, chat->search.len);
    if (chat->found != SIZE_MAX)
        draw_format(pane, y + 1, 3, STYLE_PLAIN, "%s", tui->history.items[chat->found]);
    else if (chat->search.len)
        draw_format(pane, y + 1, 3, STYLE_DIM, "no such question");
    if (tui->focus == VIEW_CHAT && tui->overlay == VIEW_NONE)
        draw_cursor(pane, y, x + text_columns(pattern, chat->search.cursor, 0));
}

void chat_draw_input(struct tui *tui, const struct area *pane, int rows)
{
    struct chat_view *chat = tui->chat;
    const int y = pane->height - rows;
    if (chat->mode == CHAT_HISTORY) {
        draw_history(tui, pane, y);
        return;
    }
    struct text_rows wrapped = {0};
    const char *text = editline_text(&chat->input);
    if (text_wrap(&wrapped, text, chat->input.len, chat->input_width, NULL)) {
        text_rows_free(&wrapped);
        return;
    }
    const size_t at = text_row_at(&wrapped, chat->input.cursor);
    const size_t first = at + 1 > (size_t)rows ? at + 1 - (size_t)rows : 0;
    for (int i = 0; i < rows && first + (size_t)i < wrapped.count; i++) {
        const struct text_row row = wrapped.items[first + (size_t)i];
        if (first + (size_t)i == 0) draw_text(pane, y + i, 1, STYLE_STRONG, ">", 1);
        draw_text(pane, y + i, 3, STYLE_PLAIN, text + row.start, row.end - row.start);
    }
    if (chat->mode == CHAT_REWIND)
        draw_questions(tui, pane, y - 1);
    else if (tui->focus == VIEW_CHAT)
        draw_completion(chat, pane, y - 1);
    if (tui->focus == VIEW_CHAT && tui->overlay == VIEW_NONE) {
        const size_t start = wrapped.items[at].start;
        draw_cursor(pane, y + (int)(at - first), 3 + text_columns(text + start, chat->input.cursor - start, 0));
    }
    text_rows_free(&wrapped);
}

void chat_hint(struct tui *tui, char *out, size_t cap)
{
    const struct chat_view *chat = tui->chat;
    const struct desk *desk = tui->desk;
    const char *hint = "Enter sends \u00b7 Alt-Enter new line \u00b7 / commands \u00b7 F1 keys";
    if (chat->mode == CHAT_HISTORY)
        hint = "Enter takes it \u00b7 Ctrl-R the one before \u00b7 Esc cancels";
    else if (chat->mode == CHAT_REWIND)
        hint = "Up Down choose \u00b7 Enter edits the question \u00b7 Esc cancels";
    else if (chat->completion.count)
        hint = "Tab completes \u00b7 Up Down choose \u00b7 Esc closes";
    else if (desk_is_busy(desk))
        hint = "Ctrl-C stops and keeps the part \u00b7 F1 keys";
    snprintf(out, cap, "%s", hint);
}

/* ------------------------------------------------------------------------------------------------- sending */

static void say_note(void *ctx, const char *sentence)
{
    desk_note(((struct tui *)ctx)->desk, "%s", sentence);
}

static int run_command(struct tui *tui, const char *text, struct error *error)
{
    struct slash_context context = {.desk = tui->desk, .tui = tui, .say = say_note, .ctx = tui};
    const size_t before = tui->desk->n_messages;
    const int rc = slash_run(&context, text, error);
    if (!rc && tui->desk->n_messages > before + 1) tui->overlay = VIEW_MESSAGES;
    if (context.wants_quit) tui_quit(tui);
    return rc;
}

/* "@path" words that are files are laid on the desk; the question keeps the names without the mark. */
static int take_files(struct tui *tui, char *question, struct error *error)
{
    for (char *at = question; (at = strchr(at, '@'));) {
        if (at != question && at[-1] != ' ' && at[-1] != '\n') {
            at++;
            continue;
        }
        const size_t len = strcspn(at + 1, " \n");
        char *path = strndup(at + 1, len);
        if (!path) return error_set(error, ERROR_FAILED, "Out of memory while reading the question.");
        struct stat status;
        const bool is_there = len && !stat(path, &status);
        const int rc = is_there ? desk_add(tui->desk, path, error) : 0;
        free(path);
        if (rc) return rc;
        if (is_there) memmove(at, at + 1, strlen(at));
        at += is_there ? len : len + 1;
    }
    return 0;
}

static int ask(struct tui *tui, const char *text, struct error *error)
{
    char *question = strdup(text);
    if (!question) return error_set(error, ERROR_FAILED, "Out of memory while asking.");
    const size_t keep = tui->chat->keep;
    int rc = take_files(tui, question, error);
    if (!rc && keep != SIZE_MAX)
        rc = desk_ask_again(tui->desk, keep, question, true, error);
    else if (!rc)
        rc = desk_ask(tui->desk, question, error);
    free(question);
    if (!rc) tui->chat->keep = SIZE_MAX;
    return rc;
}

static void submit(struct tui *tui)
{
    struct chat_view *chat = tui->chat;
    const char *text = editline_text(&chat->input);
    if (text[strspn(text, " \n\t")] == '\0') return;
    char *copy = strdup(text);
    struct error error = {0};
    if (!copy) return;
    set_input(tui, "");
    const int rc = slash_is_command(copy) ? run_command(tui, copy, &error) : ask(tui, copy, &error);
    if (rc) {
        tui_fail(tui, &error);
        set_input(tui, copy);
    } else {
        report(tui, history_add(&tui->history, copy, &error), &error);
    }
    chat->history_at = SIZE_MAX;
    chat_scroll_to_end(chat);
    free(copy);
}

static void enter(struct tui *tui)
{
    struct chat_view *chat = tui->chat;
    struct error error = {0};
    const size_t cursor = chat->input.cursor;
    if (chat->completion.count && chat->completion.selected != SIZE_MAX) {
        report(tui, completion_take(&chat->completion, &chat->input, &error), &error);
    } else if (cursor && chat->input.text[cursor - 1] == '\\') {
        report(tui, editline_replace(&chat->input, cursor - 1, "\n", 1, &error), &error);
    } else {
        submit(tui);
    }
}

static void edit_outside(struct tui *tui)
{
    struct error error = {0};
    char *text = NULL;
    if (editor_edit(&tui->terminal, editline_text(&tui->chat->input), &text, &error))
        tui_fail(tui, &error);
    else
        set_input(tui, text);
    free(text);
}

/* ------------------------------------------------------------------------------------------------- history */

static void history_step(struct tui *tui, int step)
{
    struct chat_view *chat = tui->chat;
    const size_t count = tui->history.count;
    if (step < 0) {
        const size_t at = chat->history_at == SIZE_MAX ? count : chat->history_at;
        if (at == 0) return;
        if (chat->history_at == SIZE_MAX) {
            free(chat->draft);
            chat->draft = strdup(editline_text(&chat->input));
        }
        chat->history_at = at - 1;
    } else {
        if (chat->history_at == SIZE_MAX) return;
        chat->history_at = chat->history_at + 1 < count ? chat->history_at + 1 : SIZE_MAX;
    }
    const char *draft = chat->draft ? chat->draft : "";
    set_input(tui, chat->history_at == SIZE_MAX ? draft : tui->history.items[chat->history_at]);
}

static bool history_act(struct tui *tui, int action)
{
    struct chat_view *chat = tui->chat;
    struct error error = {0};
    if (action == ACTION_HISTORY_SEARCH) {
        const size_t older = history_search(&tui->history, chat->found, editline_text(&chat->search));
        if (older != SIZE_MAX) chat->found = older;
    } else if (action == ACTION_SELECT) {
        chat->mode = CHAT_INPUT;
        if (chat->found != SIZE_MAX) set_input(tui, tui->history.items[chat->found]);
    } else if (action == ACTION_CANCEL || action == ACTION_INTERRUPT) {
        chat->mode = CHAT_INPUT;
    } else if (action >= ACTION_EDIT) {
        report(tui, editline_do(&chat->search, (enum edit_op)(action - ACTION_EDIT), &error), &error);
        chat->found = history_search(&tui->history, SIZE_MAX, editline_text(&chat->search));
    } else {
        return action != ACTION_REDRAW && action != ACTION_SUSPEND;
    }
    return true;
}

/* -------------------------------------------------------------------------------------------------- rewind */

int chat_edit(struct tui *tui, const char *text, size_t keep, struct error *error)
{
    struct chat_view *chat = tui->chat;
    chat->mode = CHAT_INPUT;
    chat->keep = keep;
    completion_clear(&chat->completion);
    return editline_set(&chat->input, text, strlen(text), error);
}

void chat_begin_rewind(struct tui *tui, struct error *error)
{
    struct chat_view *chat = tui->chat;
    if (desk_is_busy(tui->desk)) {
        error_set(error, ERROR_USAGE, "Stop the running job first (Ctrl-C).");
    } else if (tui->desk->n_turns < 2) {
        error_set(error, ERROR_USAGE, "Nothing was asked yet.");
    } else {
        chat->mode = CHAT_REWIND;
        chat->chosen = tui->desk->n_turns - 2;
    }
}

static bool rewind_act(struct tui *tui, int action)
{
    struct chat_view *chat = tui->chat;
    struct error error = {0};
    if (chat->chosen >= tui->desk->n_turns) { /* another session was opened meanwhile */
        chat->mode = CHAT_INPUT;
        return false;
    }
    if (action == ACTION_UP && chat->chosen >= 2) chat->chosen -= 2;
    if (action == ACTION_DOWN && chat->chosen + 2 < tui->desk->n_turns) chat->chosen += 2;
    if (action == ACTION_CANCEL || action == ACTION_INTERRUPT) chat->mode = CHAT_INPUT;
    if (action == ACTION_SELECT)
        report(tui, chat_edit(tui, tui->desk->turns[chat->chosen].raw, chat->chosen, &error), &error);
    return action != ACTION_REDRAW && action != ACTION_SUSPEND;
}

/* ------------------------------------------------------------------------------------------------- actions */

static void cancel(struct tui *tui)
{
    struct chat_view *chat = tui->chat;
    struct error error = {0};
    const int64_t now = tui_now();
    if (chat->completion.count) {
        completion_clear(&chat->completion);
    } else if (chat->keep != SIZE_MAX) {
        chat->keep = SIZE_MAX;
        set_input(tui, "");
    } else if (tui->desk->state == DESK_ANSWERING) {
        desk_stop(tui->desk);
    } else if (chat->escaped_at && now - chat->escaped_at < ESCAPE_MILLISECONDS) {
        chat->escaped_at = 0;
        chat_begin_rewind(tui, &error);
        report(tui, error.code, &error);
    } else {
        chat->escaped_at = now;
    }
}

static bool interrupt(struct tui *tui)
{
    struct chat_view *chat = tui->chat;
    if (desk_is_busy(tui->desk) || (!chat->input.len && chat->keep == SIZE_MAX)) return false;
    chat->keep = SIZE_MAX;
    chat->history_at = SIZE_MAX;
    set_input(tui, "");
    return true;
}

static void move_choice(struct completion *completion, int step)
{
    const size_t count = completion->count;
    if (completion->selected == SIZE_MAX)
        completion->selected = step > 0 ? 0 : count - 1;
    else
        completion->selected = (completion->selected + count + (size_t)(step + (int)count)) % count;
}

static void vertical(struct tui *tui, int step)
{
    struct chat_view *chat = tui->chat;
    if (chat->completion.count && chat->history_at == SIZE_MAX)
        move_choice(&chat->completion, step);
    else if (!editline_move_row(&chat->input, step, chat->input_width))
        history_step(tui, step);
}

static bool complete(struct tui *tui)
{
    struct chat_view *chat = tui->chat;
    struct error error = {0};
    if (!chat->input.len) return false;
    if (!chat->completion.count) refresh_completion(tui);
    report(tui, completion_tab(&chat->completion, &chat->input, &error), &error);
    return true;
}

static bool edit(struct tui *tui, enum edit_op op)
{
    struct chat_view *chat = tui->chat;
    struct error error = {0};
    if (!chat->input.len && op == EDIT_LINE_START) chat_scroll(chat, -(long)chat->n_rows);
    if (!chat->input.len && op == EDIT_LINE_END) chat_scroll_to_end(chat);
    report(tui, editline_do(&chat->input, op, &error), &error);
    refresh_completion(tui);
    return true;
}

bool chat_act(struct tui *tui, int action)
{
    struct chat_view *chat = tui->chat;
    struct error error = {0};
    const long page = chat->height > 2 ? chat->height - 1 : 1;
    if (chat->mode == CHAT_HISTORY) return history_act(tui, action);
    if (chat->mode == CHAT_REWIND) return rewind_act(tui, action);
    if (action >= ACTION_EDIT) return edit(tui, (enum edit_op)(action - ACTION_EDIT));
    switch (action) {
    case ACTION_SELECT:
        enter(tui);
        return true;
    case ACTION_NEWLINE:
        report(tui, editline_insert(&chat->input, "\n", 1, &error), &error);
        return true;
    case ACTION_COMPLETE:
        return complete(tui);
    case ACTION_UP:
        vertical(tui, -1);
        return true;
    case ACTION_DOWN:
        vertical(tui, 1);
        return true;
    case ACTION_PAGE_UP:
        chat_scroll(chat, -page);
        return true;
    case ACTION_PAGE_DOWN:
        chat_scroll(chat, page);
        return true;
    case ACTION_WHEEL_UP:
        chat_scroll(chat, -1);
        return true;
    case ACTION_WHEEL_DOWN:
        chat_scroll(chat, 1);
        return true;
    case ACTION_TOP:
        chat_scroll(chat, -(long)chat->n_rows);
        return true;
    case ACTION_BOTTOM:
        chat_scroll_to_end(chat);
        return true;
    case ACTION_HISTORY_SEARCH:
        chat->mode = CHAT_HISTORY;
        chat->found = SIZE_MAX;
        report(tui, editline_set(&chat->search, "", 0, &error), &error);
        return true;
    case ACTION_EDITOR:
        edit_outside(tui);
        return true;
    case ACTION_CANCEL:
        cancel(tui);
        return true;
    case ACTION_INTERRUPT:
        return interrupt(tui);
    case ACTION_DELETE_OR_QUIT:
        if (!chat->input.len) tui_quit(tui);
        return edit(tui, EDIT_DELETE);
    default:
        return false;
    }
}

bool chat_type(struct tui *tui, const char *s, size_t n)
{
    struct chat_view *chat = tui->chat;
    struct error error = {0};
    if (chat->mode == CHAT_REWIND) return true;
    if (chat->mode == CHAT_HISTORY) {
        report(tui, editline_insert(&chat->search, s, n, &error), &error);
        chat->found = history_search(&tui->history, SIZE_MAX, editline_text(&chat->search));
        return true;
    }
    if (!chat->input.len && n == 1 && s[0] == '?') {
        tui_overlay(tui, VIEW_HELP);
        return true;
    }
    report(tui, editline_insert(&chat->input, s, n, &error), &error);
    chat->history_at = SIZE_MAX;
    refresh_completion(tui);
    return true;
}
