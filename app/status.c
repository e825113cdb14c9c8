/* SPDX-License-Identifier: MIT
 *
 * Header, message line, status line (status.h).
 */
#include "app/status.h"

#include <stdio.h>
#include <string.h>

#include "app/progress.h"

#define NOTE_MILLISECONDS 8000  /* a note is shown */
#define ERROR_MILLISECONDS 1000 /* an error is shown at least; then the next key takes it away */

static const enum view_id tabs[] = {VIEW_LIBRARY, VIEW_READER, VIEW_CHAT};

static int tab_action(enum view_id view)
{
    return view == VIEW_LIBRARY ? ACTION_LIBRARY : view == VIEW_READER ? ACTION_READER : ACTION_CHAT;
}

/* One pane at a time: all of them, the present one marked. */
static void draw_tabs(struct tui *tui, const struct area *screen)
{
    char key[24];
    int x = 1;
    for (size_t i = 0; i < sizeof tabs / sizeof *tabs; i++) {
        const enum style style = tabs[i] == tui->focus ? STYLE_FOCUS : STYLE_DIM;
        x = draw_format(screen, 0, x, style, " %s %s ", keys_name_of(KEYMAP_ANY, tab_action(tabs[i]), key),
                        view_ops_of(tabs[i])->title);
        x += 1;
    }
    char now[256] = "";
    const struct view_ops *ops = view_ops_of(tui->focus);
    if (ops->title_now) ops->title_now(tui, now, sizeof now);
    const int columns = text_columns(now, strlen(now), 0);
    if (x + columns + 2 < screen->width) draw_format(screen, 0, screen->width - columns - 1, STYLE_DIM, "%s", now);
}

static void draw_titles(struct tui *tui, const struct area *screen)
{
    char key[24], left[320], now[256];
    for (size_t i = 0; i < sizeof tabs / sizeof *tabs; i++) {
        if (!tui->is_seen[tabs[i]]) continue;
        const struct view_ops *ops = view_ops_of(tabs[i]);
        now[0] = '\0';
        if (ops->title_now) ops->title_now(tui, now, sizeof now);
        struct area title = tui->areas[tabs[i]];
        title.y = screen->y;
        title.height = 1;
        snprintf(left, sizeof left, "%s %s", keys_name_of(KEYMAP_ANY, tab_action(tabs[i]), key), ops->title);
        draw_row(&title, 0, tabs[i] == tui->focus ? STYLE_FOCUS : STYLE_TITLE, left, now);
    }
}

void status_draw_header(struct tui *tui, const struct area *screen)
{
    int seen = 0;
    for (size_t i = 0; i < sizeof tabs / sizeof *tabs; i++) seen += tui->is_seen[tabs[i]];
    if (tui->overlay != VIEW_NONE)
        draw_row(screen, 0, STYLE_FOCUS, view_ops_of(tui->overlay)->title, "q or Esc closes");
    else if (seen > 1)
        draw_titles(tui, screen);
    else
        draw_tabs(tui, screen);
}

static const struct desk_message *current_message(struct tui *tui)
{
    const struct desk_message *message = desk_message_at(tui->desk, 0);
    if (message && tui->desk->n_messages != tui->messages_seen) {
        tui->messages_seen = tui->desk->n_messages;
        tui->shows_message = true;
        tui->message_until = tui_now() + (message->kind == MESSAGE_NOTE ? NOTE_MILLISECONDS : ERROR_MILLISECONDS);
    }
    if (!tui->shows_message) return NULL;
    if (message->kind == MESSAGE_NOTE && tui_now() >= tui->message_until) tui->shows_message = false;
    return tui->shows_message ? message : NULL;
}

void status_draw_message(struct tui *tui, const struct area *screen)
{
    const int y = screen->height - 2;
    const struct desk_message *message = current_message(tui);
    char key[24];
    if (message) {
        const enum style style = message->kind == MESSAGE_ERROR ? STYLE_ERROR : STYLE_NOTE;
        const size_t len = strlen(message->text);
        const bool fits = text_columns(message->text, len, 0) <= screen->width - 2;
        const size_t shown = fits ? len : text_fit(message->text, len, screen->width - 9);
        const int x = draw_text(screen, y, 1, style, message->text, shown);
        if (!fits) draw_format(screen, y, x, style, "\u2026 (%s)", keys_name_of(KEYMAP_ANY, ACTION_MESSAGES, key));
        return;
    }
    char hint[256] = "";
    view_ops_of(tui->overlay != VIEW_NONE ? tui->overlay : tui->focus)->hint(tui, hint, sizeof hint);
    draw_format(screen, y, 1, STYLE_DIM, "%s", hint);
}

/* Adds a part if the whole of it finds room. */
static bool add(char *out, size_t cap, int room, const char *part)
{
    const size_t n = strlen(out);
    const int columns = text_columns(out, n, 0) + (n ? 3 : 0) + text_columns(part, strlen(part), 0);
    if (!*part || columns > room) return false;
    snprintf(out + n, cap - n, "%s%s", n ? " \u00b7 " : "", part);
    return true;
}

static void add_model(const struct desk *desk, char *out, size_t cap, int room)
{
    if (!desk->is_ready) {
        add(out, cap, room, desk->failed ? "no model" : "loading");
        return;
    }
    const struct engine_info *info = engine_info(worker_engine(desk->worker));
    add(out, cap, room, info->model_name);
    add(out, cap, room, info->device_id);
}

static void add_context(const struct desk *desk, char *out, size_t cap, int room)
{
    const uint64_t all = desk_context(desk), used = desk_context_used(desk);
    if (!all) return;
    char a[32], b[32], part[96];
    const double percent = 100.0 * (double)used / (double)all;
    snprintf(part, sizeof part, "%s/%s (%.0f %%)", format_count(used, a), format_count(all, b), percent);
    if (add(out, cap, room, part)) return;
    snprintf(part, sizeof part, "%.0f %%", percent);
    add(out, cap, room, part);
}

/* The session and whether it is on disk; the name gives way. */
static void add_session(const struct desk *desk, char *out, size_t cap, int room)
{
    if (!desk->name || desk->state == DESK_EMPTY) return;
    char name[96];
    snprintf(name, sizeof name, "%.*s", (int)text_fit(desk->name, strlen(desk->name), room > 56 ? 28 : room / 3),
             desk->name);
    add(out, cap, room, name);
    add(out, cap, room, !desk->store ? "not kept" : desk->is_saved ? "saved" : "not saved yet");
}

void status_draw_line(struct tui *tui, const struct area *screen)
{
    const struct desk *desk = tui->desk;
    char left[512] = "", right[400] = "", speed[48] = "";
    add_session(desk, right, sizeof right, screen->width - 2);
    const int room = screen->width - text_columns(right, strlen(right), 0) - 4;
    add_model(desk, left, sizeof left, room);
    add_context(desk, left, sizeof left, room);
    if (desk->speed > 0) snprintf(speed, sizeof speed, "%.*f tok/s", desk->speed < 10 ? 1 : 0, desk->speed);
    add(left, sizeof left, room, speed);
    draw_row(screen, screen->height - 1, STYLE_STATUS, left, right);
}
