/* SPDX-License-Identifier: MIT
 *
 * Taking and giving back the terminal (term.h).
 */
#include "app/term.h"

#include <errno.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "app/keys.h"

#define PASTE_ON "\033[?2004h"
#define PASTE_OFF "\033[?2004l"
#define MOUSE_OFF "\033[?1006l\033[?1003l\033[?1002l\033[?1000l"

/* What signal handlers need, and nothing else. */
static struct {
    int pipe[2];
    volatile sig_atomic_t is_open, is_ending;
    struct termios before;
    char reset[512]; /* bytes that undo what we did to the terminal */
    size_t reset_len;
} at_signal = {.pipe = {-1, -1}};

static const int told[] = {SIGWINCH, SIGTERM, SIGHUP, SIGINT, SIGQUIT, SIGTSTP, SIGCONT};
static const int fatal[] = {SIGSEGV, SIGABRT, SIGBUS, SIGFPE, SIGILL};

/* Async-signal-safe. */
static void reset_terminal(void)
{
    if (!at_signal.is_open) return;
    at_signal.is_open = 0;
    ssize_t rc = write(STDOUT_FILENO, at_signal.reset, at_signal.reset_len);
    (void)rc; /* nothing can be done about it here */
    tcsetattr(STDIN_FILENO, TCSANOW, &at_signal.before);
}

static void on_fatal(int number)
{
    reset_terminal();
    signal(number, SIG_DFL);
    raise(number);
}

static void on_told(int number)
{
    const int kept = errno;
    if (number == SIGTERM || number == SIGHUP) {
        if (at_signal.is_ending) on_fatal(number); /* asked twice: the loop does not come round */
        at_signal.is_ending = 1;
    }
    const unsigned char byte = (unsigned char)number;
    ssize_t rc = write(at_signal.pipe[1], &byte, 1);
    (void)rc; /* a full pipe holds enough to wake the loop */
    errno = kept;
}

static void set_handlers(void)
{
    struct sigaction action = {.sa_handler = on_told, .sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) sigaction(told[i], &action, NULL);
    action.sa_handler = on_fatal;
    action.sa_flags = (int)SA_RESETHAND;
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) sigaction(fatal[i], &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* SIGINT stays without effect: what follows is saving, and one Ctrl-C too many must not cost it. */
static void clear_handlers(void)
{
    for (size_t i = 0; i < sizeof told / sizeof *told; i++) signal(told[i], told[i] == SIGINT ? SIG_IGN : SIG_DFL);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++) signal(fatal[i], SIG_DFL);
}

static void add_reset(const char *bytes)
{
    if (!bytes || bytes == (char *)-1) return;
    const size_t n = strlen(bytes);
    if (at_signal.reset_len + n > sizeof at_signal.reset) return;
    memcpy(at_signal.reset + at_signal.reset_len, bytes, n);
    at_signal.reset_len += n;
}

static void prepare_reset(void)
{
    static const char *const capabilities[] = {"sgr0", "cnorm", "rmkx", "rmcup"};
    at_signal.reset_len = 0;
    add_reset(MOUSE_OFF PASTE_OFF);
    for (size_t i = 0; i < sizeof capabilities / sizeof *capabilities; i++)
        add_reset(tigetstr((char *)(uintptr_t)capabilities[i]));
}

static int open_pipe(struct error *error)
{
    if (pipe2(at_signal.pipe, O_NONBLOCK | O_CLOEXEC))
        return error_set(error, ERROR_FAILED, "No pipe for signals: %s.", strerror(errno));
    return 0;
}

static void close_pipe(void)
{
    for (int i = 0; i < 2; i++) {
        if (at_signal.pipe[i] >= 0) close(at_signal.pipe[i]);
        at_signal.pipe[i] = -1;
    }
}

/* -------------------------------------------------------------------------------------------------- looks */

enum { PAIR_CYAN = 1, PAIR_GREEN, PAIR_YELLOW, PAIR_RED, PAIR_COUNT };

static void begin_colors(struct terminal *term)
{
    term->color = term->color && has_colors() && start_color() == OK && use_default_colors() == OK;
    if (!term->color) return;
    static const short colors[PAIR_COUNT] = {0, COLOR_CYAN, COLOR_GREEN, COLOR_YELLOW, COLOR_RED};
    for (short i = 1; i < PAIR_COUNT; i++) init_pair(i, colors[i], -1);
}

struct style_look term_look(const struct terminal *term, enum style style)
{
    static const struct style_look looks[STYLE_COUNT] = {
        [STYLE_PLAIN] = {A_NORMAL, 0},
        [STYLE_DIM] = {A_DIM, 0},
        [STYLE_STRONG] = {A_BOLD, 0},
        [STYLE_TITLE] = {A_UNDERLINE, 0},
        [STYLE_FOCUS] = {A_BOLD | A_REVERSE, 0},
        [STYLE_STATUS] = {A_REVERSE, 0},
        [STYLE_QUESTION] = {A_BOLD, PAIR_CYAN},
        [STYLE_GOOD] = {A_NORMAL, PAIR_GREEN},
        [STYLE_NOTE] = {A_NORMAL, PAIR_YELLOW},
        [STYLE_ERROR] = {A_BOLD, PAIR_RED},
        [STYLE_SELECTED] = {A_REVERSE, 0},
        [STYLE_MATCH] = {A_REVERSE, PAIR_YELLOW},
    };
    struct style_look look = looks[style];
    if (!term->color) look.pair = 0;
    return look;
}

/* ------------------------------------------------------------------------------------------- open and close */

static int check_terminal(struct error *error)
{
    const char *name = getenv("TERM");
    if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
        return error_set(error, ERROR_USAGE,
                         "The screen needs a terminal on stdin and stdout; use --plain, or lectern ask.");
    if (!name || !*name || !strcmp(name, "dumb"))
        return error_set(error, ERROR_USAGE, "This terminal (TERM=%s) cannot show the screen; use --plain.",
                         name && *name ? "dumb" : "");
    setlocale(LC_CTYPE, "");
    if (strcmp(nl_langinfo(CODESET), "UTF-8") && !setlocale(LC_CTYPE, "C.UTF-8"))
        return error_set(error, ERROR_USAGE, "The screen needs a UTF-8 locale, and there is none; use --plain.");
    return 0;
}

static void bind_keys(void)
{
    static const struct {
        const char *sequence;
        int code;
    } keys[] = {
        {"\033[1;5D", KEY_CTRL_LEFT},    {"\033[1;5C", KEY_CTRL_RIGHT},      {"\033[1;3D", KEY_CTRL_LEFT},
        {"\033[1;3C", KEY_CTRL_RIGHT},   {"\033[1;5H", KEY_CTRL_HOME},       {"\033[1;5F", KEY_CTRL_END},
        {"\033[13;2u", KEY_SHIFT_ENTER}, {"\033[27;2;13~", KEY_SHIFT_ENTER}, {"\033[200~", KEY_PASTE_BEGIN},
        {"\033[201~", KEY_PASTE_END},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) define_key(keys[i].sequence, keys[i].code);
}

static void send(const char *bytes)
{
    fputs(bytes, stdout);
    fflush(stdout);
}

int term_open(struct terminal *term, bool color, struct error *error)
{
    *term = (struct terminal){.color = color, .mouse = true};
    int rc = check_terminal(error);
    if (rc) return rc;
    if (tcgetattr(STDIN_FILENO, &at_signal.before))
        return error_set(error, ERROR_FAILED, "The terminal's settings cannot be read: %s.", strerror(errno));
    rc = open_pipe(error);
    if (rc) return rc;
    term->signal_fd = at_signal.pipe[0];
    term->screen = newterm(NULL, stdout, stdin);
    if (!term->screen) {
        close_pipe();
        return error_set(error, ERROR_USAGE, "This terminal (TERM) is not known here; use --plain.");
    }
    prepare_reset();
    at_signal.is_ending = 0;
    at_signal.is_open = 1;
    set_handlers();
    raw();
    noecho();
    nonl();
    set_escdelay(getenv("ESCDELAY") ? ESCDELAY : 50);
    term->keyboard = newpad(1, 1);
    if (!term->keyboard) {
        term_close(term);
        return error_set(error, ERROR_FAILED, "Out of memory while opening the screen.");
    }
    keypad(term->keyboard, TRUE);
    nodelay(term->keyboard, TRUE);
    bind_keys();
    begin_colors(term);
    mouseinterval(0);
    term_mouse(term, true);
    send(PASTE_ON);
    return 0;
}

void term_close(struct terminal *term)
{
    if (!term->screen) return;
    term_leave(term);
    at_signal.is_open = 0;
    clear_handlers();
    if (term->keyboard) delwin(term->keyboard);
    delscreen(term->screen);
    close_pipe();
    *term = (struct terminal){.signal_fd = -1};
}

void term_leave(struct terminal *term)
{
    (void)term;
    send(PASTE_OFF);
    endwin();
}

void term_return(struct terminal *term)
{
    term_resize();
    reset_prog_mode();
    clearok(curscr, TRUE);
    term_mouse(term, term->mouse);
    send(PASTE_ON);
}

void term_suspend(struct terminal *term)
{
    term_leave(term);
    signal(SIGTSTP, SIG_DFL);
    raise(SIGTSTP);
    set_handlers();
    term_return(term);
}

void term_resize(void)
{
    struct winsize size;
    if (!ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row && size.ws_col) resizeterm(size.ws_row, size.ws_col);
}

void term_mouse(struct terminal *term, bool on)
{
    term->mouse = on;
    mousemask(on ? BUTTON1_PRESSED | BUTTON1_CLICKED | BUTTON4_PRESSED | BUTTON5_PRESSED : 0, NULL);
}

/* --------------------------------------------------------------------------------------------------- keys */

static int read_key(struct terminal *term)
{
    wint_t c;
    const int kind = wget_wch(term->keyboard, &c);
    if (kind == KEY_CODE_YES) return KEY_FN((int)c);
    return kind == OK ? (int)c : -1;
}

int term_key(struct terminal *term)
{
    int key = read_key(term);
    while (key == KEY_FN(KEY_RESIZE)) key = read_key(term);
    if (key < 0) return 0;
    if (key != KEY_ESCAPE) return key;
    const int next = read_key(term); /* Alt is sent as Esc and the key at once */
    if (next < 0) return KEY_ESCAPE;
    if (next == KEY_ESCAPE) {
        unget_wch(KEY_ESCAPE);
        return KEY_ESCAPE;
    }
    return KEY_ALT(next);
}

int term_signal(struct terminal *term)
{
    unsigned char byte;
    return read(term->signal_fd, &byte, 1) == 1 ? byte : 0;
}
