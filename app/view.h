/* SPDX-License-Identifier: MIT
 *
 * How the screen is made up. A view is one file, view_NAME.c, with one struct view_ops; tui.c lays the views out,
 * brings them keys as actions (keys.h) and text, and draws everything anew at most thirty times a second (ncurses sends
 * only what differs).
 *
 *   row 0        what can be seen, and the keys that lead there
 *   panes        at 140 columns and more: library, reader, chat; at 100: chat and one of the others; below: one
 *   row h-2      the last message, or what the keys do here
 *   row h-1      status: model, device, context, speed, session, saved
 *
 * Help and the messages lie over the panes until they are closed.
 */
#ifndef LECTERN_APP_VIEW_H
#define LECTERN_APP_VIEW_H

#include "app/desk.h"
#include "app/draw.h"
#include "app/history.h"
#include "app/keys.h"

#define TUI_LEAST_ROWS 10
#define TUI_LEAST_COLUMNS 40

enum view_id { VIEW_LIBRARY, VIEW_READER, VIEW_CHAT, VIEW_HELP, VIEW_MESSAGES, VIEW_COUNT };
#define VIEW_NONE VIEW_COUNT

struct tui {
    const struct tui_params *params;
    struct desk *desk;
    struct terminal terminal;
    struct history history;

    enum view_id focus;   /* the pane that has the keyboard */
    enum view_id beside;  /* the pane shown beside the chat when there is room for two */
    enum view_id overlay; /* VIEW_HELP or VIEW_MESSAGES over the panes, else VIEW_NONE */
    bool is_seen[VIEW_COUNT];
    struct area areas[VIEW_COUNT]; /* of the views that are seen */

    bool needs_draw, wants_quit, shows_message;
    size_t messages_seen;   /* how many the message line has shown */
    int64_t message_until;  /* a note leaves the line then, an error with the next key after */
    int64_t interrupted_at; /* when Ctrl-C was last pressed with nothing to stop */
    int ended_by;           /* the signal, 0 = none */

    struct chat_view *chat;
    struct reader_view *reader;
    struct library_view *library;
    struct pager_view *pager;
};

struct view_ops {
    const char *title;
    enum keymap keymap;
    enum keymap (*keymap_now)(const struct tui *); /* where it is not always the same; may be NULL */
    int (*create)(struct tui *, struct error *);
    void (*destroy)(struct tui *);                       /* accepts what create never made */
    void (*draw)(struct tui *, const struct area *);     /* the area is blank */
    bool (*act)(struct tui *, int action);               /* false: not for this view */
    bool (*type)(struct tui *, const char *s, size_t n); /* text keyed or pasted, UTF-8; false: it goes by the keymap */
    void (*click)(struct tui *, int y, int x);           /* may be NULL */
    void (*title_now)(struct tui *, char *out, size_t cap); /* what stands beside the title; may be NULL */
    void (*hint)(struct tui *, char *out, size_t cap);      /* what the keys do here, one line */
};
extern const struct view_ops library_ops, reader_ops, chat_ops, help_ops, messages_ops;
const struct view_ops *view_ops_of(enum view_id);

/* tui.c */
void tui_focus(struct tui *, enum view_id);
void tui_overlay(struct tui *, enum view_id);
void tui_fail(struct tui *, struct error *);
void tui_quit(struct tui *);
int64_t tui_now(void); /* monotonic milliseconds */

/* view_reader.c */
void reader_view_open(struct tui *, size_t document);
/* "120", "50%", a document's name or the start of it. */
int reader_view_goto(struct tui *, const char *where, struct error *);
int reader_view_search(struct tui *, const char *pattern, struct error *);

/* view_chat.c, chat_input.c */
void chat_begin_rewind(struct tui *, struct error *);
/* Text for the input, which is to be asked from turn `keep` on (SIZE_MAX: at the end). */
int chat_edit(struct tui *, const char *text, size_t keep, struct error *);

#endif
