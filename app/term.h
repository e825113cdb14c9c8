/* SPDX-License-Identifier: MIT
 *
 * The terminal: taken and given back. While it is open, signals arrive as bytes on a pipe; on a crash (SIGSEGV, SIGABRT
 * and their kind) the terminal is reset with async-signal-safe calls alone and the signal raised again. At most one
 * struct terminal is open in a process: signal handlers have but one place to look.
 */
#ifndef LECTERN_APP_TERM_H
#define LECTERN_APP_TERM_H

#include <ncurses.h>
#include <stdbool.h>

#include "quant/error.h"

struct terminal {
    SCREEN *screen;
    WINDOW *keyboard; /* a pad: reading keys from it never draws */
    bool color, mouse;
    bool shows_cursor; /* this frame */
    int signal_fd;     /* readable: term_signal has one */
};

/* What a piece of the screen is, rather than how it looks. */
enum style {
    STYLE_PLAIN,
    STYLE_DIM,
    STYLE_STRONG,
    STYLE_TITLE, /* of a pane */
    STYLE_FOCUS, /* of the pane that has the keyboard */
    STYLE_STATUS,
    STYLE_QUESTION,
    STYLE_GOOD,
    STYLE_NOTE,
    STYLE_ERROR,
    STYLE_SELECTED,
    STYLE_MATCH,
    STYLE_COUNT,
};
struct style_look {
    attr_t attributes;
    short pair;
};
struct style_look term_look(const struct terminal *, enum style);

/* Refuses (ERROR_USAGE) what is no terminal, is dumb, unknown, or cannot show UTF-8. */
int term_open(struct terminal *, bool color, struct error *);
void term_close(struct terminal *); /* signals are the default's again, but SIGINT is ignored: saving follows */

/* Gives the terminal to another program (an editor, a shell after Ctrl-Z) and takes it again. */
void term_leave(struct terminal *);
void term_return(struct terminal *);
void term_suspend(struct terminal *); /* leaves, stops the process, and is back when it continues */
void term_resize(void);               /* after SIGWINCH: learns the new size */
void term_mouse(struct terminal *, bool on);

/* The next key as keys.h codes it; 0 when there is none; KEY_FN(KEY_MOUSE): see getmouse. */
int term_key(struct terminal *);
/* The next signal that came, 0 = none. */
int term_signal(struct terminal *);

#endif
