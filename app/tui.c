/* SPDX-License-Identifier: MIT
 *
 * The loop: keys, worker and signals in; actions to the views; one frame out (view.h).
 */
#include "app/view.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <wchar.h>

#include "app/status.h"

#define FRAME_MILLISECONDS 34   /* at most 30 frames a second */
#define AGAIN_MILLISECONDS 2000 /* how long "press again" waits */
#define WHEEL_ROWS 3

int64_t tui_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

const struct view_ops *view_ops_of(enum view_id view)
{
    static const struct view_ops *const all[VIEW_COUNT] = {
        [VIEW_LIBRARY] = &library_ops, [VIEW_READER] = &reader_ops,     [VIEW_CHAT] = &chat_ops,
        [VIEW_HELP] = &help_ops,       [VIEW_MESSAGES] = &messages_ops,
    };
    return all[view];
}

void tui_focus(struct tui *tui, enum view_id view)
{
    tui->overlay = VIEW_NONE;
    tui->focus = view;
    if (view != VIEW_CHAT) tui->beside = view;
}

void tui_overlay(struct tui *tui, enum view_id view)
{
    tui->overlay = tui->overlay == view ? VIEW_NONE : view;
}

void tui_fail(struct tui *tui, struct error *error)
{
    desk_fail(tui->desk, error);
}
void tui_quit(struct tui *tui)
{
    tui->wants_quit = true;
}

/* ------------------------------------------------------------------------------------------------- layout */

static void place(struct tui *tui, enum view_id view, int x, int width)
{
    tui->is_seen[view] = true;
    tui->areas[view] = (struct area){.terminal = &tui->terminal, .y = 1, .x = x, .height = LINES - 3, .width = width};
}

static void lay_out(struct tui *tui)
{
    memset(tui->is_seen, 0, sizeof tui->is_seen);
    if (tui->overlay != VIEW_NONE) {
        place(tui, tui->overlay, 0, COLS);
    } else if (COLS >= 140) {
        const int library = 30, reader = (COLS - library - 2) / 2;
        place(tui, VIEW_LIBRARY, 0, library);
        place(tui, VIEW_READER, library + 1, reader);
        place(tui, VIEW_CHAT, library + reader + 2, COLS - library - reader - 2);
    } else if (COLS >= 100) {
        const int beside = tui->beside == VIEW_LIBRARY ? 30 : COLS / 2;
        place(tui, tui->beside, 0, beside);
        place(tui, VIEW_CHAT, beside + 1, COLS - beside - 1);
    } else {
        place(tui, tui->focus, 0, COLS);
    }
}

static void draw_dividers(struct tui *tui)
{
    for (int view = 0; view < VIEW_COUNT; view++) {
        struct area area = tui->areas[view];
        if (!tui->is_seen[view] || area.x == 0) continue;
        area.x--;
        area.width++;
        draw_divider(&area, 0);
    }
}

static void draw_too_small(const struct area *screen)
{
    char notice[96];
    snprintf(notice, sizeof notice, "Too small: %dx%d; at least %dx%d.", screen->width, screen->height,
             TUI_LEAST_COLUMNS, TUI_LEAST_ROWS);
    struct text_rows rows = {0};
    if (!text_wrap(&rows, notice, strlen(notice), screen->width, NULL))
        for (size_t i = 0; i < rows.count; i++)
            draw_text(screen, (int)i, 0, STYLE_PLAIN, notice + rows.items[i].start,
                      rows.items[i].end - rows.items[i].start);
    text_rows_free(&rows);
}

static void draw_frame(struct tui *tui)
{
    const struct area screen = {.terminal = &tui->terminal, .height = LINES, .width = COLS};
    tui->terminal.shows_cursor = false;
    erase();
    if (LINES < TUI_LEAST_ROWS || COLS < TUI_LEAST_COLUMNS) {
        draw_too_small(&screen);
    } else {
        lay_out(tui);
        draw_dividers(tui);
        status_draw_header(tui, &screen);
        status_draw_message(tui, &screen);
        status_draw_line(tui, &screen);
        for (int view = 0; view < VIEW_COUNT; view++) /* the focus last: the cursor is its */
            if (tui->is_seen[view] && view != (int)tui->focus)
                view_ops_of((enum view_id)view)->draw(tui, &tui->areas[view]);
        if (tui->is_seen[tui->focus]) view_ops_of(tui->focus)->draw(tui, &tui->areas[tui->focus]);
    }
    curs_set(tui->terminal.shows_cursor);
    wnoutrefresh(stdscr);
    doupdate();
    tui->needs_draw = false;
}

/* ------------------------------------------------------------------------------------------------ actions */

static enum view_id keyboard_view(const struct tui *tui)
{
    return tui->overlay != VIEW_NONE ? tui->overlay : tui->focus;
}

static enum keymap keyboard_keymap(const struct tui *tui)
{
    const struct view_ops *ops = view_ops_of(keyboard_view(tui));
    return ops->keymap_now ? ops->keymap_now(tui) : ops->keymap;
}

static void next_pane(struct tui *tui, int step)
{
    static const enum view_id order[] = {VIEW_LIBRARY, VIEW_READER, VIEW_CHAT};
    int at = 0;
    while (order[at] != tui->focus) at++;
    tui_focus(tui, order[(at + step + 3) % 3]);
}

/* Ctrl-C where no view had a use for it. */
static void interrupt(struct tui *tui)
{
    if (desk_is_busy(tui->desk)) {
        desk_stop(tui->desk);
        return;
    }
    const int64_t now = tui_now();
    if (tui->interrupted_at && now - tui->interrupted_at < AGAIN_MILLISECONDS) {
        tui_quit(tui);
        return;
    }
    tui->interrupted_at = now;
    desk_note(tui->desk, "Press Ctrl-C again to quit.");
}

static void act(struct tui *tui, int action)
{
    if (view_ops_of(keyboard_view(tui))->act(tui, action)) return;
    switch (action) {
    case ACTION_HELP:
        tui_overlay(tui, VIEW_HELP);
        break;
    case ACTION_MESSAGES:
        tui_overlay(tui, VIEW_MESSAGES);
        break;
    case ACTION_LIBRARY:
        tui_focus(tui, VIEW_LIBRARY);
        break;
    case ACTION_READER:
        tui_focus(tui, VIEW_READER);
        break;
    case ACTION_CHAT:
        tui_focus(tui, VIEW_CHAT);
        break;
    case ACTION_COMPLETE: /* nothing to complete */
    case ACTION_NEXT_PANE:
        next_pane(tui, 1);
        break;
    case ACTION_PREVIOUS_PANE:
        next_pane(tui, -1);
        break;
    case ACTION_INTERRUPT:
        interrupt(tui);
        break;
    case ACTION_REDRAW:
        clearok(curscr, TRUE);
        break;
    case ACTION_SUSPEND:
        term_suspend(&tui->terminal);
        break;
    case ACTION_QUIT:
        tui_quit(tui);
        break;
    default:
        break;
    }
}

static bool type_text(struct tui *tui, const char *s, size_t n)
{
    const struct view_ops *ops = view_ops_of(keyboard_view(tui));
    return ops->type && ops->type(tui, s, n);
}

static bool type_key(struct tui *tui, int key)
{
    if ((key & (KEY_FUNCTION | KEY_META)) || key < 32 || key == 127) return false;
    char utf8[8];
    mbstate_t state = {0};
    const size_t n = wcrtomb(utf8, (wchar_t)key, &state);
    return n != (size_t)-1 && type_text(tui, utf8, n);
}

static bool is_inside(const struct area *area, int y, int x)
{
    return y >= area->y && y < area->y + area->height && x >= area->x && x < area->x + area->width;
}

/* The view at a place of the screen. What was last drawn may be older than what is open now. */
static enum view_id view_at(const struct tui *tui, int y, int x)
{
    if (tui->overlay != VIEW_NONE) return is_inside(&tui->areas[tui->overlay], y, x) ? tui->overlay : VIEW_NONE;
    for (enum view_id view = VIEW_LIBRARY; view <= VIEW_CHAT; view++)
        if (tui->is_seen[view] && is_inside(&tui->areas[view], y, x)) return view;
    return VIEW_NONE;
}

static void on_mouse(struct tui *tui)
{
    MEVENT event;
    if (getmouse(&event) != OK) return;
    const enum view_id view = view_at(tui, event.y, event.x);
    if (view == VIEW_NONE) return;
    const struct view_ops *ops = view_ops_of(view);
    if (event.bstate & (BUTTON4_PRESSED | BUTTON5_PRESSED)) {
        const int action = event.bstate & BUTTON4_PRESSED ? ACTION_WHEEL_UP : ACTION_WHEEL_DOWN;
        for (int i = 0; i < WHEEL_ROWS; i++) ops->act(tui, action);
        return;
    }
    if (tui->overlay == VIEW_NONE) tui_focus(tui, view);
    if (ops->click) ops->click(tui, event.y - tui->areas[view].y, event.x - tui->areas[view].x);
}

/* A paste comes between two marks, as it is: its newlines do not send. */
static void on_paste(struct tui *tui)
{
    struct text_block pasted = {0};
    struct error error = {0};
    int rc = 0;
    for (int waits = 0; !rc && waits < 50;) {
        const int key = term_key(&tui->terminal);
        if (key == KEY_FN(KEY_PASTE_END)) break;
        if (!key) {
            waits++;
            struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
            poll(&input, 1, 20);
            continue;
        }
        waits = 0;
        char utf8[8];
        mbstate_t state = {0};
        const size_t n = wcrtomb(utf8, key == '\r' ? L'\n' : (wchar_t)(key & ~KEY_META), &state);
        if (!(key & KEY_FUNCTION) && n != (size_t)-1) rc = text_block_append(&pasted, utf8, n, &error);
    }
    if (rc) tui_fail(tui, &error);
    if (!rc && pasted.len) type_text(tui, pasted.text, pasted.len);
    text_block_free(&pasted);
}

static void on_key(struct tui *tui, int key)
{
    tui->needs_draw = true;
    if (key == KEY_FN(KEY_MOUSE)) {
        on_mouse(tui);
        return;
    }
    if (tui_now() > tui->message_until) tui->shows_message = false;
    if (key == KEY_FN(KEY_PASTE_BEGIN))
        on_paste(tui);
    else if (!type_key(tui, key))
        act(tui, keys_find(keyboard_keymap(tui), key));
}

static void on_signal(struct tui *tui, int number)
{
    tui->needs_draw = true;
    switch (number) {
    case SIGWINCH:
        term_resize();
        break;
    case SIGINT:
        act(tui, ACTION_INTERRUPT);
        break;
    case SIGTSTP:
        term_suspend(&tui->terminal);
        break;
    case SIGCONT:
        term_return(&tui->terminal);
        break;
    default:
        tui->ended_by = number;
        tui->wants_quit = true;
    }
}

/* --------------------------------------------------------------------------------------------------- loop */

/* How long poll may sleep: until the next frame is due, a note leaves, or a clock on the screen moves on. */
static int sleep_time(const struct tui *tui, int64_t drawn_at)
{
    const int64_t now = tui_now();
    if (tui->needs_draw) return drawn_at + FRAME_MILLISECONDS > now ? (int)(drawn_at + FRAME_MILLISECONDS - now) : 0;
    if (desk_is_busy(tui->desk)) return 1000;
    if (tui->shows_message) return tui->message_until > now ? (int)(tui->message_until - now) : -1;
    return -1;
}

static void loop(struct tui *tui)
{
    int64_t drawn_at = 0;
    while (!tui->wants_quit) {
        if (tui->needs_draw && tui_now() - drawn_at >= FRAME_MILLISECONDS) {
            draw_frame(tui);
            drawn_at = tui_now();
        }
        struct pollfd fds[] = {
            {.fd = STDIN_FILENO, .events = POLLIN},
            {.fd = tui->terminal.signal_fd, .events = POLLIN},
            {.fd = desk_fd(tui->desk), .events = POLLIN},
        };
        const int ready = poll(fds, 3, sleep_time(tui, drawn_at));
        if (ready < 0 && errno != EINTR) return;
        if (ready == 0) tui->needs_draw = true;
        for (int number; (number = term_signal(&tui->terminal)) != 0;) on_signal(tui, number);
        for (int key; (key = term_key(&tui->terminal)) != 0 && !tui->wants_quit;) on_key(tui, key);
        if (ready > 0 && fds[0].revents & (POLLHUP | POLLERR | POLLNVAL)) on_signal(tui, SIGHUP);
        if (desk_poll(tui->desk)) tui->needs_draw = true;
    }
}

static int open_views(struct tui *tui, struct error *error)
{
    int rc = 0;
    for (int view = 0; !rc && view < VIEW_COUNT; view++)
        if (view_ops_of((enum view_id)view)->create) rc = view_ops_of((enum view_id)view)->create(tui, error);
    return rc;
}

static void close_views(struct tui *tui)
{
    for (int view = 0; view < VIEW_COUNT; view++)
        if (view_ops_of((enum view_id)view)->destroy) view_ops_of((enum view_id)view)->destroy(tui);
}

static int run(struct tui *tui, struct error *error)
{
    int rc = desk_create(&tui->desk, tui->params, error);
    if (!rc) rc = open_views(tui, error);
    if (!rc) rc = term_open(&tui->terminal, tui->params->color, error);
    if (rc) return rc;
    struct error problem = {0};
    if (history_open(&tui->history, tui->params->state_dir, &problem)) tui_fail(tui, &problem);
    const bool has_work = tui->params->session || (tui->params->documents && tui->params->documents->count);
    tui_focus(tui, has_work ? VIEW_CHAT : VIEW_LIBRARY);
    draw_frame(tui);
    rc = desk_start(tui->desk, error);
    tui->needs_draw = true;
    if (rc) return rc;
    loop(tui);
    if (!tui->desk->failed) return 0;
    *error = tui->desk->failure;
    return (int)error->code;
}

int tui_run(const struct tui_params *params, struct error *error)
{
    struct tui tui = {.params = params, .focus = VIEW_CHAT, .beside = VIEW_LIBRARY, .overlay = VIEW_NONE};
    int rc = run(&tui, error);
    term_close(&tui.terminal);
    if (tui.desk) close_views(&tui);
    desk_destroy(&tui.desk);
    history_free(&tui.history);
    if (tui.ended_by) rc = 128 + tui.ended_by;
    return rc;
}
