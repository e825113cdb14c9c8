/* SPDX-License-Identifier: MIT
 *
 * The whole screen over a worker that only plays: the functions of app/worker.h, with fixed texts, numbers and times,
 * so that screens can be compared as text. The screen tests run it.
 *
 *     tui_fake [--plain] [FILE...]
 *
 * FAKE_GATE=DIR: reading halts at 60 % until DIR/read exists, a long answer halfway until DIR/answer does, loading
 * until DIR/load does. FAKE_STORE=DIR: sessions are kept there. FAKE_CRASH=NUMBER: that signal is raised by the first
 * answer. What is answered depends on the question: "long", "wide", "evil", "fail", "crash", else it is repeated.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "app/tui.h"

enum fake_job { FAKE_OPEN, FAKE_READ, FAKE_ASK };

struct fake_entry {
    enum fake_job job;
    char *question;
    struct fake_entry *next;
};

struct fake_event {
    struct event event;
    struct fake_event *next;
};

struct worker {
    struct store *store;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct fake_entry *jobs;
    struct fake_event *events;
    int fd;
    bool stopping;
    atomic_bool cancelled;
    atomic_size_t length, total;
    int64_t session;
    size_t n_turns, read;
};

struct engine {
    struct engine_info info;
};
static const struct engine fake_engine = {
    .info = {.model_name = "fake-1B", .device_name = "Fake", .device_id = "cpu", .context = 8192, .n_vocab = 16},
};

const struct engine_info *engine_info(const struct engine *engine)
{
    return &engine->info;
}
const struct engine *worker_engine(const struct worker *worker)
{
    (void)worker;
    return &fake_engine;
}
size_t worker_length(const struct worker *worker)
{
    return atomic_load(&worker->length);
}
int worker_fd(const struct worker *worker)
{
    return worker->fd;
}

void event_free(struct event *event)
{
    free(event->text);
    *event = (struct event){0};
}

/* ------------------------------------------------------------------------------------------------ events */

static void emit(struct worker *worker, struct event event)
{
    struct fake_event *entry = calloc(1, sizeof *entry);
    if (!entry) abort();
    entry->event = event;
    pthread_mutex_lock(&worker->lock);
    struct fake_event **end = &worker->events;
    while (*end) end = &(*end)->next;
    *end = entry;
    const uint64_t one = 1;
    if (write(worker->fd, &one, sizeof one) < 0) abort();
    pthread_mutex_unlock(&worker->lock);
}

static void emit_text(struct worker *worker, const char *text, size_t len)
{
    char *copy = strndup(text, len);
    if (!copy) abort();
    emit(worker, (struct event){.kind = EVENT_TEXT, .text = copy, .text_len = len});
}

bool worker_event(struct worker *worker, struct event *out, int timeout_ms)
{
    if (timeout_ms) abort(); /* the screen never waits here */
    pthread_mutex_lock(&worker->lock);
    struct fake_event *entry = worker->events;
    if (entry) {
        *out = entry->event;
        worker->events = entry->next;
        free(entry);
    }
    uint64_t count;
    if (!worker->events && read(worker->fd, &count, sizeof count) < 0) count = 0;
    pthread_mutex_unlock(&worker->lock);
    return entry != NULL;
}

/* --------------------------------------------------------------------------------------------------- play */

/* Waits for the file NAME in $FAKE_GATE; false when the job is cancelled. */
static bool pass_gate(struct worker *worker, const char *name)
{
    const char *gate = getenv("FAKE_GATE");
    char path[512];
    if (!gate) return true;
    snprintf(path, sizeof path, "%s/%s", gate, name);
    while (access(path, F_OK)) {
        if (atomic_load(&worker->cancelled) || worker->stopping) return false;
        usleep(5000);
    }
    return true;
}

static bool read_on(struct worker *worker)
{
    const size_t total = atomic_load(&worker->total);
    for (size_t step = 1; step <= 10; step++) {
        const size_t done = total * step / 10;
        if (done <= worker->read) continue;
        if (atomic_load(&worker->cancelled) || worker->stopping) return false;
        worker->read = done;
        atomic_store(&worker->length, done);
        emit(worker, (struct event){.kind = EVENT_READING,
                                    .done = done,
                                    .total = total,
                                    .seconds = (double)done / 1000,
                                    .rate = 1000,
                                    .eta = (double)(total - done) / 100});
        if (step == 6 && !pass_gate(worker, "read")) return false;
    }
    return true;
}

static void play_read(struct worker *worker)
{
    const bool is_whole = read_on(worker);
    emit(worker, (struct event){.kind = EVENT_READ,
                                .done = worker->read,
                                .total = atomic_load(&worker->total),
                                .seconds = 2,
                                .rate = 1000,
                                .stopped = !is_whole});
    if (is_whole) emit(worker, (struct event){.kind = EVENT_SAVED});
}

static void play_open(struct worker *worker)
{
    struct store_turn_list turns = {0};
    if (worker->store && !store_turns(worker->store, worker->session, &turns, NULL)) worker->n_turns = turns.count;
    if (worker->n_turns) worker->read = atomic_load(&worker->total);
    atomic_store(&worker->length, worker->read);
    store_turn_list_free(&turns);
    emit(worker,
         (struct event){
             .kind = EVENT_RESUMED, .done = worker->read, .total = atomic_load(&worker->total), .seconds = 0.25});
}

/* Keeps a turn of each, as the real one does, without a state. */
static void keep(struct worker *worker, const char *question, const char *answer)
{
    if (!worker->store) return;
    struct store_turn turns[2] = {
        {.role = STORE_USER, .text = strdup(question), .text_len = strlen(question)},
        {.role = STORE_ASSISTANT, .text = strdup(answer), .text_len = strlen(answer)},
    };
    struct store_save save = {.session = worker->session, .model_name = "fake-1B", .turns = turns, .n_turns = 2};
    struct error error = {0};
    if (store_queue_save(worker->store, &save, &error) || store_queue_flush(worker->store, &error))
        emit(worker, (struct event){.kind = EVENT_ERROR, .error = error});
    free(turns[0].text);
    free(turns[1].text);
}

static char *answer_to(const char *question)
{
    char *answer = calloc(1, 8192);
    if (!answer) abort();
    if (strstr(question, "long"))
        for (int i = 1; i <= 40; i++) snprintf(answer + strlen(answer), 64, "This is line %d of the answer.\n", i);
    else if (strstr(question, "wide"))
        strcpy(answer,
               "\xe9\xb2\xb8\xe9\xb1\xbc\xe6\x98\xaf\xe5\x93\xba\xe4\xb9\xb3\xe5\x8a\xa8\xe7\x89\xa9\xe3\x80\x82"
               "The whale \xf0\x9f\x90\xb3 spouts, \xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x92\xbb types, "
               "\xf0\x9f\x91\x8d\xf0\x9f\x8f\xbd agrees; na\xc3\xafve e\xcc\x81t\xc3\xa9. "
               "\xe5\xae\x83\xe4\xbb\xac\xe5\x91\xbc\xe5\x90\xb8\xe7\xa9\xba\xe6\xb0\x94\xef\xbc\x8c"
               "\xe4\xb8\x8d\xe6\x98\xaf\xe9\xb1\xbc\xe3\x80\x82");
    else if (strstr(question, "evil"))
        strcpy(answer, "red \x1b[31m title \x1b]0;owned\x07 c1 \xc2\x9b"
                       "2J bidi \xe2\x80\xae"
                       "end");
    else
        snprintf(answer, 8192, "You asked: %.4000s", question);
    return answer;
}

/* Lines of a long answer and words of a short one come one by one. */
static bool stream(struct worker *worker, const char *answer)
{
    int pieces = 0;
    for (const char *at = answer; *at;) {
        if (atomic_load(&worker->cancelled) || worker->stopping) return false;
        size_t len = strcspn(at, strchr(answer, '\n') ? "\n" : " ");
        if (at[len]) len++;
        emit_text(worker, at, len);
        at += len;
        if (++pieces == 20 && strchr(answer, '\n') && !pass_gate(worker, "answer")) return false;
    }
    return true;
}

static void play_ask(struct worker *worker, const char *question)
{
    if (strstr(question, "crash") && getenv("FAKE_CRASH")) raise(atoi(getenv("FAKE_CRASH")));
    if (strstr(question, "fail")) {
        struct event event = {.kind = EVENT_ERROR};
        error_set(&event.error, ERROR_FIT, "The question does not fit \x1b[31minto the context.");
        emit(worker, event);
        return;
    }
    bool is_whole = read_on(worker);
    char *answer = answer_to(question);
    if (is_whole) is_whole = stream(worker, answer);
    atomic_fetch_add(&worker->length, 100);
    worker->n_turns += 2;
    emit(worker, (struct event){.kind = EVENT_ANSWERED,
                                .stopped = !is_whole,
                                .stats = {.prompt_tokens = 1000,
                                          .reused_tokens = 900,
                                          .answer_tokens = 90,
                                          .prompt_seconds = 0.1,
                                          .answer_seconds = 2,
                                          .first_token_seconds = 0.25}});
    keep(worker, question, answer);
    emit(worker, (struct event){.kind = EVENT_SAVED});
    free(answer);
}

static struct fake_entry *next_job(struct worker *worker)
{
    pthread_mutex_lock(&worker->lock);
    while (!worker->jobs && !worker->stopping) pthread_cond_wait(&worker->changed, &worker->lock);
    struct fake_entry *entry = worker->stopping ? NULL : worker->jobs;
    if (entry) {
        worker->jobs = entry->next;
        atomic_store(&worker->cancelled, false);
    }
    pthread_mutex_unlock(&worker->lock);
    return entry;
}

static void *play(void *argument)
{
    struct worker *worker = argument;
    emit(worker, (struct event){.kind = EVENT_LOADING, .done = 30, .total = 100});
    pass_gate(worker, "load");
    emit(worker, (struct event){.kind = EVENT_READY});
    for (struct fake_entry *entry; (entry = next_job(worker));) {
        if (entry->job == FAKE_OPEN) play_open(worker);
        if (entry->job == FAKE_READ) play_read(worker);
        if (entry->job == FAKE_ASK) play_ask(worker, entry->question);
        free(entry->question);
        free(entry);
    }
    return NULL;
}

/* --------------------------------------------------------------------------------------------- worker.h */

int worker_start(struct worker **out, const struct worker_params *params, struct error *error)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (!worker) return error_set(error, ERROR_FAILED, "Out of memory.");
    worker->store = params->store;
    worker->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    pthread_mutex_init(&worker->lock, NULL);
    pthread_cond_init(&worker->changed, NULL);
    if (worker->fd < 0 || pthread_create(&worker->thread, NULL, play, worker)) abort();
    *out = worker;
    return 0;
}

void worker_stop(struct worker **pointer)
{
    struct worker *worker = *pointer;
    pthread_mutex_lock(&worker->lock);
    worker->stopping = true;
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    pthread_join(worker->thread, NULL);
    struct event event;
    while (worker_event(worker, &event, 0)) event_free(&event);
    while (worker->jobs) {
        struct fake_entry *entry = worker->jobs;
        worker->jobs = entry->next;
        free(entry->question);
        free(entry);
    }
    close(worker->fd);
    free(worker);
    *pointer = NULL;
}

static int give(struct worker *worker, enum fake_job job, const char *question)
{
    struct fake_entry *entry = calloc(1, sizeof *entry);
    if (!entry) abort();
    entry->job = job;
    entry->question = question ? strdup(question) : NULL;
    pthread_mutex_lock(&worker->lock);
    struct fake_entry **end = &worker->jobs;
    while (*end) end = &(*end)->next;
    *end = entry;
    pthread_cond_broadcast(&worker->changed);
    pthread_mutex_unlock(&worker->lock);
    return 0;
}

int worker_open(struct worker *worker, int64_t session, const struct worker_document *documents, size_t count,
                struct error *error)
{
    (void)error;
    size_t bytes = 0;
    for (size_t i = 0; i < count; i++) bytes += documents[i].text_len;
    worker->session = session;
    worker->n_turns = worker->read = 0;
    atomic_store(&worker->total, bytes / 4 + 10);
    return give(worker, FAKE_OPEN, NULL);
}

int worker_read(struct worker *worker, struct error *error)
{
    (void)error;
    return give(worker, FAKE_READ, NULL);
}

int worker_ask(struct worker *worker, const char *question, size_t len, struct error *error)
{
    (void)len, (void)error;
    return give(worker, FAKE_ASK, question);
}

int worker_rewind(struct worker *worker, size_t n_turns, struct error *error)
{
    worker->n_turns = n_turns;
    return worker->store ? store_session_truncate(worker->store, worker->session, n_turns, error) : 0;
}

int worker_sampling(struct worker *worker, const struct sample_params *sample, struct error *error)
{
    (void)worker, (void)sample, (void)error;
    return 0;
}

void worker_cancel(struct worker *worker)
{
    atomic_store(&worker->cancelled, true);
}

/* --------------------------------------------------------------------------------------------------- main */

int main(int argc, char **argv)
{
    const bool is_plain = argc > 1 && !strcmp(argv[1], "--plain");
    char **paths = argv + 1 + is_plain;
    const size_t count = (size_t)(argc - 1 - is_plain);
    struct document_list documents = {0};
    struct error error = {0};
    struct tui_params params = {.documents = &documents, .state_dir = getenv("FAKE_STATE"), .color = true};
    int rc = count ? documents_read(&documents, paths, count, &error) : 0;
    if (!rc && getenv("FAKE_STORE")) rc = store_open(&params.worker.store, getenv("FAKE_STORE"), &error);
    if (!rc) rc = (is_plain ? plain_run : tui_run)(&params, &error);
    store_close(&params.worker.store);
    documents_free(&documents);
    if (error.code) fprintf(stderr, "tui_fake: %s\n", error.text);
    return rc;
}
