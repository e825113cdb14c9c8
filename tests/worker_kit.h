/* SPDX-License-Identifier: MIT
 *
 * For tests of the worker: a folder with a random model and stores, workers over it, and events as they come.
 */
#ifndef LECTERN_TESTS_WORKER_KIT_H
#define LECTERN_TESTS_WORKER_KIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "app/worker.h"
#include "tests/make_model.h"

#define ANSWER_MOST 4096

static char folder[64], model[96];

static inline void must(int rc, const struct error *error)
{
    if (rc) fail_msg("%d: %s", rc, error->text);
}

static inline int make_folder(void)
{
    struct error error;
    strcpy(folder, "/tmp/lectern-worker-XXXXXX");
    if (!mkdtemp(folder)) return -1;
    snprintf(model, sizeof model, "%s/tiny.gguf", folder);
    return test_model_write(model, &(struct test_model){.seed = 3}, &error);
}

static inline int remove_folder(void **state)
{
    (void)state;
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command);
}

static inline struct store *open_store(const char *name)
{
    char path[128];
    struct store *store = NULL;
    struct error error;
    snprintf(path, sizeof path, "%s/%s", folder, name);
    must(store_open(&store, path, &error), &error);
    return store;
}

static inline int64_t make_session(struct store *store, const char *text)
{
    struct store_document d = {.path = "/p", .title = "t", .text = (char *)(uintptr_t)text, .text_len = strlen(text)};
    int64_t document = 0, session = 0;
    struct error error;
    must(store_document_put(store, &d, &document, &error), &error);
    must(store_session_create(store, "s", &document, 1, &session, &error), &error);
    return session;
}

/* What most tests start with; they change what they are about. */
static inline struct worker_params kit_params(struct store *store)
{
    return (struct worker_params){
        .engine = {.model = model, .device = "cpu", .batch = 64, .threads = 1},
        .sample = {.top_p = 1},
        .most_answer_tokens = 12,
        .store = store,
    };
}

static inline struct worker *start_with(const struct worker_params *params)
{
    struct worker *w = NULL;
    struct error error;
    must(worker_start(&w, params, &error), &error);
    return w;
}

struct seen {
    char text[ANSWER_MOST];
    size_t len;
    struct event last; /* text not kept */
    size_t kinds[EVENT_ERROR + 1];
    char note[512];
};

/* Takes events until one of kind `until`; an error that was not waited for fails the test. */
static inline void wait_for(struct worker *w, enum event_kind until, struct seen *seen)
{
    for (;;) {
        struct event e;
        if (!worker_event(w, &e, 60000)) fail_msg("event %d did not come", (int)until);
        enum event_kind kind = e.kind;
        seen->kinds[kind]++;
        if (kind == EVENT_TEXT) {
            assert_true(seen->len + e.text_len < sizeof seen->text);
            memcpy(seen->text + seen->len, e.text, e.text_len);
            seen->len += e.text_len;
            seen->text[seen->len] = 0;
        }
        if (kind == EVENT_NOTE) snprintf(seen->note, sizeof seen->note, "%s", e.text);
        if (kind == EVENT_ERROR && until != EVENT_ERROR) fail_msg("%s", e.error.text);
        seen->last = e;
        seen->last.text = NULL;
        event_free(&e);
        if (kind == until) return;
    }
}

static inline void open_text(struct worker *w, int64_t session, const char *text, struct seen *seen)
{
    struct error error;
    struct worker_document d = {.name = "t", .text = text, .text_len = strlen(text)};
    must(worker_open(w, session, &d, 1, &error), &error);
    wait_for(w, EVENT_RESUMED, seen);
}

static inline void ask(struct worker *w, const char *question, struct seen *seen)
{
    struct error error;
    *seen = (struct seen){0};
    must(worker_ask(w, question, strlen(question), &error), &error);
    wait_for(w, EVENT_ANSWERED, seen);
}

#endif
