/* SPDX-License-Identifier: MIT
 *
 * The desk: what lies on it (documents), what was said (turns), and what the worker is doing. The screen (tui.h) and
 * the line mode (plain.c) show it; neither speaks to the worker or the store itself. No function here waits for the
 * model.
 *
 * One job runs at a time: reading or answering. A question asked while reading is kept and asked when the reading is
 * done. Opening another session or adding a document while a job runs stops the job first; the change is made when the
 * worker says that it has stopped, so that no late event meets the wrong session.
 */
#ifndef LECTERN_APP_DESK_H
#define LECTERN_APP_DESK_H

#include <time.h>

#include "app/sanitize.h"
#include "app/text.h"
#include "app/tui.h"

struct desk_document {
    int64_t id; /* in the store, 0 = not kept */
    char *name; /* as the model sees it */
    char *path;
    char *text;
    size_t len;
    uint8_t hash[32];
};

struct desk_turn {
    bool is_question;
    char *raw; /* as it was said; NUL-terminated */
    size_t raw_len, raw_capacity;
    struct text_block shown;    /* the same, safe for a terminal */
    struct sanitizer sanitizer; /* between raw and shown */
    struct answer_stats stats;
    bool stopped, has_stats;
};

enum desk_state {
    DESK_EMPTY, /* no session: nothing to ask about */
    DESK_IDLE,
    DESK_READING, /* documents, or the rest of a prompt */
    DESK_ANSWERING,
};

enum message_kind { MESSAGE_NOTE, MESSAGE_ERROR };
struct desk_message {
    enum message_kind kind;
    time_t when;
    char *text; /* safe for a terminal */
};
#define DESK_MESSAGES 500 /* the oldest goes first */

struct desk_progress {
    uint64_t done, total;
    double seconds, rate, eta;
};

struct desk {
    const struct tui_params *params;
    struct store *store; /* borrowed, may be NULL */
    struct worker *worker;
    struct sample_params sample;

    int64_t session; /* 0 = not kept */
    char *name;      /* of the session, safe for a terminal */
    struct desk_document *documents;
    size_t n_documents;
    unsigned documents_version; /* changes whenever a document leaves: what was kept about it is void */
    struct desk_turn *turns;
    size_t n_turns, turn_capacity;

    enum desk_state state;
    bool is_ready; /* the model is loaded */
    bool is_open;  /* the worker has taken session and documents */
    bool has_read; /* the documents have been read to the end */
    bool is_saved; /* all there is, is on disk */
    bool was_resumed;
    bool tells_cost; /* something changed: what reading it takes is said when it is known */
    bool failed;     /* the worker cannot be used: `failure` says why */
    struct error failure;
    struct desk_progress loading, reading;
    double resumed_seconds;
    uint64_t resumed_tokens;
    uint64_t prompt_tokens; /* documents and turns when the session was opened; 0 = not known yet */
    double speed;           /* tok/s of the last answer or reading */
    time_t answer_started;

    char *queued;   /* a question that waits for the reading */
    char *returned; /* a question that failed or was called back, for the input; the view takes it */

    enum { PENDING_NONE, PENDING_SESSION, PENDING_DOCUMENTS } pending;
    int64_t pending_session;
    struct document_list pending_documents;

    struct desk_message messages[DESK_MESSAGES];
    size_t n_messages; /* ever; the last is [(n_messages - 1) % DESK_MESSAGES] */

    struct store_session_list sessions; /* as of the last desk_sessions */
    bool sessions_changed;
};

int desk_create(struct desk **, const struct tui_params *, struct error *);
/* Starts the worker and opens what the parameters name. Failures that leave the library usable become messages. */
int desk_start(struct desk *, struct error *);
void desk_destroy(struct desk **); /* stops the worker: what is whole is saved */

/* Takes the events that wait; true when something changed. */
bool desk_poll(struct desk *);
int desk_fd(const struct desk *); /* readable while events wait; -1 before desk_start */

/* Messages: one sentence each. desk_fail reports *error and clears it. */
#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
void desk_note(struct desk *, const char *format, ...);
void desk_fail(struct desk *, struct error *);
const struct desk_message *desk_message_at(const struct desk *, size_t back); /* 0 = the last; NULL = none */

/* ------------------------------------------------------------------------------------------------- talking */

int desk_ask(struct desk *, const char *question, struct error *);
/* Goes back to before turn `keep` (a question's index) and asks anew; the branch left stays as a session of its own. */
int desk_ask_again(struct desk *, size_t keep, const char *question, bool keep_branch, struct error *);
int desk_rewind(struct desk *, size_t keep, struct error *); /* the same without asking */
int desk_read(struct desk *, struct error *);                /* goes on reading after a stop */
void desk_stop(struct desk *);                               /* keeps what there is */
bool desk_is_busy(const struct desk *);
/* The share of document i that has been read, 0..1. Where one document ends among the tokens is taken from the bytes.
 */
double desk_document_share(const struct desk *, size_t i);
uint64_t desk_context(const struct desk *);      /* tokens that fit; 0 = not known yet */
uint64_t desk_context_used(const struct desk *); /* tokens in the timeline */

/* ------------------------------------------------------------------------------------------------ sessions */

int desk_sessions(struct desk *, struct error *); /* brings desk->sessions up to date */
int desk_open(struct desk *, int64_t session, struct error *);
int desk_open_documents(struct desk *, const struct document_list *, struct error *);
int desk_add(struct desk *, const char *path, struct error *);
int desk_reread(struct desk *, struct error *);                /* the documents as their files are now */
int desk_new(struct desk *, const char *name, struct error *); /* the same documents, no turns; name may be NULL */
int desk_fork(struct desk *, const char *name, struct error *);
int desk_rename(struct desk *, const char *name, struct error *);
int desk_remove(struct desk *, int64_t session, struct error *);
int desk_sampling(struct desk *, const struct sample_params *, struct error *);

/* Inside the desk (desk.c, desk_session.c). */
void desk_clear_turns(struct desk *, size_t keep);
int desk_add_turn(struct desk *, bool is_question, const char *text, size_t len, struct error *);
int desk_resume_pending(struct desk *, struct error *);
int desk_begin(struct desk *, struct error *); /* the worker opens session and documents, and reads */
int desk_keep_branch(struct desk *, struct error *);

#endif
