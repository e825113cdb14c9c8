/* SPDX-License-Identifier: MIT
 *
 * The chat: what lies on the desk, what was said, and what goes on now. Rows are made anew for each frame from wrapped
 * blocks, which is cheap; the place is kept as an item and a byte of it, so neither a resize nor new text moves it.
 */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "app/chat_view.h"
#include "app/progress.h"

#define DOCUMENTS_SHOWN 6
#define ORDER_AFTER (SIZE_MAX / 2) /* rows after an item's text */

/* --------------------------------------------------------------------------------------------------- rows */

static void row_add(struct chat_view *chat, struct chat_row row)
{
    if (chat->n_rows == chat->row_capacity) {
        const size_t capacity = chat->row_capacity ? 2 * chat->row_capacity : 256;
        struct chat_row *rows = realloc(chat->rows, capacity * sizeof *rows);
        if (!rows) return; /* the frame shows less; the next one tries again */
        chat->rows = rows;
        chat->row_capacity = capacity;
    }
    chat->rows[chat->n_rows++] = row;
}

#if defined(__GNUC__)
__attribute__((format(printf, 5, 6)))
#endif
/* A line made for this frame, wrapped. */
static void
say(struct chat_view *chat, size_t item, size_t order, enum style style, const char *format, ...)
{
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    struct text_rows rows = {0};
    const size_t start = chat->scratch.len;
    if (text_wrap(&rows, line, strlen(line), chat->width, NULL) ||
        text_block_append(&chat->scratch, line, strlen(line), NULL))
        rows.count = 0;
    for (size_t i = 0; i < rows.count; i++)
        row_add(chat, (struct chat_row){.style = style,
                                        .in_scratch = true,
                                        .item = item,
                                        .order = order,
                                        .start = start + rows.items[i].start,
                                        .len = rows.items[i].end - rows.items[i].start});
    text_rows_free(&rows);
}

static void rows_of_welcome(struct chat_view *chat, const struct desk *desk)
{
    say(chat, 0, 0, STYLE_STRONG, "lectern");
    say(chat, 0, 1, STYLE_PLAIN, "Lay a document on the desk, and ask about it:");
    say(chat, 0, 2, STYLE_PLAIN, "  /add FILE   a text, or a folder of them");
    if (desk->store) say(chat, 0, 3, STYLE_PLAIN, "  F2          the library: sessions to go on with");
    say(chat, 0, 4, STYLE_PLAIN, "  F1          all keys and commands");
    say(chat, 0, 5, STYLE_PLAIN, " ");
}

/* "3 documents · 1.2 MiB · 45,210 tokens (34 % of the context)" */
static void row_of_totals(struct chat_view *chat, const struct desk *desk)
{
    uint64_t bytes = 0, tokens = desk->prompt_tokens;
    for (size_t i = 0; i < desk->n_documents; i++) bytes += desk->documents[i].len;
    char size[32], count[32], share[64] = "";
    const bool is_known = tokens != 0;
    if (!is_known) tokens = bytes / 4;
    if (desk_context(desk))
        snprintf(share, sizeof share, " (%.0f %% of the context)", 100.0 * (double)tokens / (double)desk_context(desk));
    say(chat, 0, 0, STYLE_STRONG, "%zu document%s \u00b7 %s \u00b7 %s%s tokens%s", desk->n_documents,
        desk->n_documents == 1 ? "" : "s", format_bytes(bytes, size), is_known ? "" : "about ",
        format_count(tokens, count), share);
}

/* The documents; of many, those around the one being read. */
static void rows_of_documents(struct chat_view *chat, const struct desk *desk)
{
    const size_t n = desk->n_documents;
    size_t first = 0;
    while (first + DOCUMENTS_SHOWN < n && !desk->has_read && desk_document_share(desk, first + 1) >= 1) first++;
    const size_t end = first + DOCUMENTS_SHOWN < n ? first + DOCUMENTS_SHOWN : n;
    row_of_totals(chat, desk);
    for (size_t i = first; i < end; i++)
        row_add(chat, (struct chat_row){.kind = ROW_DOCUMENT, .item = 0, .order = 1 + i - first, .start = i});
    if (end - first < n) say(chat, 0, 10, STYLE_DIM, "  and %zu more (F2)", n - (end - first));
    if (desk->was_resumed) {
        char count[32], seconds[32];
        say(chat, 0, 11, STYLE_DIM, "Resumed %s tokens in %s.", format_count(desk->resumed_tokens, count),
            format_seconds(desk->resumed_seconds, seconds));
    }
    say(chat, 0, 12, STYLE_PLAIN, " ");
}

static const char *why_ended(const struct desk_turn *turn)
{
    static const char *const words[] = {
        [ANSWER_WHOLE] = "",
        [ANSWER_STOPPED] = "Stopped. ",
        [ANSWER_MOST_TOKENS] = "Cut: --max-tokens. ",
        [ANSWER_CONTEXT_FULL] = "Cut: context full. ",
        [ANSWER_REPEATED] = "Cut: it loops. ",
    };
    return words[turn->stopped ? ANSWER_STOPPED : turn->stats.end];
}

static void row_of_stats(struct chat_view *chat, const struct desk_turn *turn, size_t item)
{
    const struct answer_stats *stats = &turn->stats;
    char a[32], b[32], c[32];
    if (turn->has_stats)
        say(chat, item, ORDER_AFTER, STYLE_DIM, "%s%s tokens in %s \u00b7 first token after %s", why_ended(turn),
            format_count(stats->answer_tokens, a), format_seconds(stats->answer_seconds, b),
            format_seconds(stats->first_token_seconds, c));
}

static void rows_of_turn(struct chat_view *chat, struct desk_turn *turn, size_t item)
{
    const int indent = turn->is_question ? 2 : 0;
    if (text_block_wrap(&turn->shown, chat->width - indent, NULL)) return;
    const struct text_rows *rows = &turn->shown.rows;
    for (size_t i = 0; turn->shown.len && i < rows->count; i++)
        row_add(chat, (struct chat_row){.style = turn->is_question ? STYLE_QUESTION : STYLE_PLAIN,
                                        .indent = indent,
                                        .is_quoted = turn->is_question && i == 0,
                                        .item = item,
                                        .order = rows->items[i].start,
                                        .start = rows->items[i].start,
                                        .len = rows->items[i].end - rows->items[i].start});
    if (!turn->is_question) row_of_stats(chat, turn, item);
    say(chat, item, ORDER_AFTER + 1, STYLE_PLAIN, " ");
}

/* "42 s", "3 min 05 s" */
static const char *time_left(double seconds, char out[32])
{
    if (seconds >= 60) return format_seconds(seconds, out);
    snprintf(out, 32, "%.0f s", seconds);
    return out;
}

static void rows_of_progress(struct chat_view *chat, size_t item, const char *what,
                             const struct desk_progress *progress)
{
    char line[200], seconds[32];
    const double share = progress->total ? (double)progress->done / (double)progress->total : 0;
    size_t n = (size_t)snprintf(line, sizeof line, "%s  %.0f %%", what, 100 * share);
    if (progress->rate > 0) n += (size_t)snprintf(line + n, sizeof line - n, " \u00b7 %.0f tok/s", progress->rate);
    if (progress->rate > 0 && progress->eta >= 0)
        snprintf(line + n, sizeof line - n, " \u00b7 %s left", time_left(progress->eta, seconds));
    say(chat, item, 0, STYLE_GOOD, "%s", line);
    row_add(chat, (struct chat_row){.kind = ROW_BAR, .item = item, .order = 1, .share = share});
}

/* What goes on now. */
static void rows_of_present(struct chat_view *chat, const struct desk *desk, size_t item)
{
    const bool is_answering = desk->state == DESK_ANSWERING;
    const bool has_text = is_answering && desk->n_turns && desk->turns[desk->n_turns - 1].shown.len;
    if (!desk->is_ready && !desk->failed && desk->worker)
        rows_of_progress(chat, item, "Loading the model", &desk->loading);
    else if (desk->state == DESK_READING && desk->reading.total)
        rows_of_progress(chat, item, "Reading", &desk->reading);
    else if (desk->state == DESK_READING)
        say(chat, item, 0, STYLE_GOOD, "Looking for what was read before \u2026");
    else if (is_answering && !has_text && desk->reading.total && desk->reading.done < desk->reading.total)
        rows_of_progress(chat, item, "Reading the question", &desk->reading);
    else if (is_answering && !has_text)
        say(chat, item, 0, STYLE_GOOD, "\u2026");
    if (desk->queued) say(chat, item, 2, STYLE_DIM, "Waits for the reading: %.900s", desk->queued);
}

static void make_rows(struct tui *tui)
{
    struct chat_view *chat = tui->chat;
    struct desk *desk = tui->desk;
    chat->n_rows = 0;
    chat->scratch.len = 0;
    if (desk->n_documents)
        rows_of_documents(chat, desk);
    else if (!desk->worker)
        say(chat, 0, 0, STYLE_GOOD, "Opening \u2026");
    else
        rows_of_welcome(chat, desk);
    for (size_t i = 0; i < desk->n_turns; i++) {
        const bool is_pending = i + 1 == desk->n_turns && !desk->turns[i].is_question && !desk->turns[i].shown.len &&
                                desk->state == DESK_ANSWERING;
        if (!is_pending) rows_of_turn(chat, &desk->turns[i], 1 + i);
    }
    rows_of_present(chat, desk, 1 + desk->n_turns);
}

/* ---------------------------------------------------------------------------------------------- scrolling */

static size_t last_top(const struct chat_view *chat)
{
    return chat->n_rows > (size_t)chat->height ? chat->n_rows - (size_t)chat->height : 0;
}

static void set_anchor(struct chat_view *chat)
{
    if (chat->top >= chat->n_rows) return;
    chat->anchor_item = chat->rows[chat->top].item;
    chat->anchor_order = chat->rows[chat->top].order;
}

/* Finds the top again among rows made anew: the last one at or before the anchor. */
static void find_top(struct chat_view *chat)
{
    const size_t last = last_top(chat);
    if (chat->follows) {
        chat->top = last;
        return;
    }
    size_t top = 0;
    for (size_t i = 0; i < chat->n_rows; i++) {
        const struct chat_row *row = &chat->rows[i];
        const bool is_past =
            row->item > chat->anchor_item || (row->item == chat->anchor_item && row->order > chat->anchor_order);
        if (is_past) break;
        top = i;
    }
    chat->top = top < last ? top : last;
}

void chat_scroll(struct chat_view *chat, long rows)
{
    const long last = (long)last_top(chat);
    long top = (long)chat->top + rows;
    if (top < 0) top = 0;
    if (top > last) top = last;
    chat->top = (size_t)top;
    chat->follows = top == last;
    set_anchor(chat);
}

void chat_scroll_to_end(struct chat_view *chat)
{
    chat->follows = true;
}

/* ------------------------------------------------------------------------------------------------ drawing */

static void draw_document(const struct tui *tui, const struct area *area, int y, size_t i)
{
    const struct desk *desk = tui->desk;
    const double share = desk_document_share(desk, i);
    char right[48], size[32];
    const bool is_reading = !desk->has_read && desk->reading.total;
    snprintf(right, sizeof right, "%s  %s", format_bytes(desk->documents[i].len, size),
             share >= 1   ? "read"
             : is_reading ? ""
                          : "not read");
    if (is_reading && share < 1) snprintf(right + strlen(right), sizeof right - strlen(right), "%3.0f %%", 100 * share);
    struct area inner = *area;
    inner.x += 2;
    inner.width -= 2;
    draw_row(&inner, y, STYLE_PLAIN, desk->documents[i].name, right);
}

static void draw_row_of(struct tui *tui, const struct area *area, int y, const struct chat_row *row)
{
    const struct chat_view *chat = tui->chat;
    if (row->kind == ROW_DOCUMENT) {
        draw_document(tui, area, y, row->start);
        return;
    }
    if (row->kind == ROW_BAR) {
        draw_bar(area, y, 1, chat->width < 40 ? chat->width : 40, row->share);
        return;
    }
    const char *text = row->in_scratch ? chat->scratch.text : tui->desk->turns[row->item - 1].shown.text;
    if (row->is_quoted) draw_text(area, y, 1, row->style, ">", 1);
    draw_text(area, y, 1 + row->indent, row->style, text + row->start, row->len);
}

static void draw_rule_above_input(struct tui *tui, const struct area *pane, int y)
{
    struct chat_view *chat = tui->chat;
    char mark[96] = "";
    if (chat->top < last_top(chat))
        snprintf(mark, sizeof mark, "\u2193 more below (Ctrl-End)");
    else if (chat->mode == CHAT_INPUT && chat->keep != SIZE_MAX)
        snprintf(mark, sizeof mark, "editing question %zu: Enter asks it anew, Esc leaves it", chat->keep / 2 + 1);
    draw_rule(pane, y, tui->focus == VIEW_CHAT ? STYLE_PLAIN : STYLE_DIM, mark);
}

static void chat_draw(struct tui *tui, const struct area *pane)
{
    struct chat_view *chat = tui->chat;
    chat_take_returned(tui);
    const int input = chat_input_rows(chat, pane);
    chat->height = pane->height - input - 1;
    chat->width = pane->width - 2;
    make_rows(tui);
    find_top(chat);
    for (int y = 0; y < chat->height && chat->top + (size_t)y < chat->n_rows; y++)
        draw_row_of(tui, pane, y, &chat->rows[chat->top + (size_t)y]);
    if (!chat->follows) set_anchor(chat);
    draw_rule_above_input(tui, pane, chat->height);
    chat_draw_input(tui, pane, input);
}

static int chat_create(struct tui *tui, struct error *error)
{
    tui->chat = calloc(1, sizeof *tui->chat);
    if (!tui->chat) return error_set(error, ERROR_FAILED, "Out of memory while opening the screen.");
    tui->chat->follows = true;
    tui->chat->keep = tui->chat->history_at = tui->chat->found = SIZE_MAX;
    tui->chat->completion.selected = SIZE_MAX;
    return 0;
}

static void chat_destroy(struct tui *tui)
{
    struct chat_view *chat = tui->chat;
    if (!chat) return;
    free(chat->rows);
    free(chat->draft);
    text_block_free(&chat->scratch);
    editline_free(&chat->input);
    editline_free(&chat->search);
    completion_clear(&chat->completion);
    free(chat);
    tui->chat = NULL;
}

static void chat_title(struct tui *tui, char *out, size_t cap)
{
    const struct desk *desk = tui->desk;
    if (desk->state == DESK_READING && desk->reading.total)
        snprintf(out, cap, "reading %.0f %%", 100.0 * (double)desk->reading.done / (double)desk->reading.total);
    else if (desk->state == DESK_ANSWERING)
        snprintf(out, cap, "answering");
}

const struct view_ops chat_ops = {
    .title = "Chat",
    .keymap = KEYMAP_CHAT,
    .create = chat_create,
    .destroy = chat_destroy,
    .draw = chat_draw,
    .act = chat_act,
    .type = chat_type,
    .title_now = chat_title,
    .hint = chat_hint,
};
