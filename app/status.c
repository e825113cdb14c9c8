/* SPDX-License-Identifier: MIT
 *
 * Header, message line, status line (status.h).
 */
#include "app/status.h"

#include <stdio.h>
#include <string.h>

#include "app/progress.h"

#define NOTE_MILLISECONDS 8000

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

/* A message stays: a note for some seconds, an error until something else is done. */
static const struct desk_message *current_message(struct tui *tui)
{
    if (tui->desk->n_messages != tui->messages_seen) {
        tui->messages_seen = tui->desk->n_messages;
        tui->shows_message = true;
        tui->message_until = tui_now() + NOTE_MILLISECONDS;
    }
    if (!tui->shows_message) return NULL;
    const struct desk_message *message = desk_message_at(tui->desk, 0);
    if (message && message->kind == MESSAGE_NOTE && tui_now() >= tui->message_until) tui->shows_message = false;
    return tui->shows_message ? message : NULL;
}

void status_draw_message(struct tui *tui, const struct area *screen)
{
    const int y = screen->height - 2;
    const struct desk_message *message = current_message(tui);
    if (message) {
        draw_format(screen, y, 1, message->kind == MESSAGE_ERROR ? STYLE_ERROR : STYLE_NOTE, "%s", message->text);
        return;
    }
    char hint[256] = "";
    view_ops_of(tui->overlay != VIEW_NONE ? tui->overlay : tui->focus)->hint(tui, hint, sizeof hint);
    draw_format(screen, y, 1, STYLE_DIM, "%s", hint);
}

/* " · " between parts */
static void add(char *out, size_t cap, const char *part)
{
    const size_t n = strlen(out);
    if (*part) snprintf(out + n, cap - n, "%s%s", n ? " \u00b7 " : "", part);
}

static void add_model(const struct desk *desk, char *out, size_t cap)
{
    char part[300];
    if (!desk->is_ready) {
        if (desk->failed)
            add(out, cap, "no model");
        else
            add(out, cap, "loading");
        return;
    }
    const struct engine_info *info = engine_info(worker_engine(desk->worker));
    snprintf(part, sizeof part, "%s", info->model_name);
    add(out, cap, part);
    add(out, cap, info->device_id);
}

static void add_context(const struct desk *desk, char *out, size_t cap)
{
    const uint64_t all = desk_context(desk), used = desk_context_used(desk);
    if (!all) return;
    char a[32], b[32], part[96];
    snprintf(part, sizeof part, "%s/%s (%.0f %%)", format_count(used, a), format_count(all, b),
             100.0 * (double)used / (double)all);
    add(out, cap, part);
}

void status_draw_line(struct tui *tui, const struct area *screen)
{
    const struct desk *desk = tui->desk;
    char left[512] = "", right[400] = "", speed[48] = "";
    add_model(desk, left, sizeof left);
    add_context(desk, left, sizeof left);
    if (desk->speed > 0) snprintf(speed, sizeof speed, "%.*f tok/s", desk->speed < 10 ? 1 : 0, desk->speed);
    add(left, sizeof left, speed);
    if (desk->name && desk->state != DESK_EMPTY) {
        char name[96];
        snprintf(name, sizeof name, "%.*s", (int)text_fit(desk->name, strlen(desk->name), 28), desk->name);
        add(right, sizeof right, name);
        add(right, sizeof right, !desk->store ? "not kept" : desk->is_saved ? "saved" : "not saved yet");
    }
    draw_row(screen, screen->height - 1, STYLE_STATUS, left, right);
}
