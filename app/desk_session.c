/* SPDX-License-Identifier: MIT
 *
 * The desk's sessions: opening, adding, branching; the store's side of desk.h.
 */
#include "app/desk.h"

#include <stdlib.h>
#include <string.h>

#include "app/sanitize.h"
#include "app/session.h"

static int out_of_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory while opening a session.");
}

static void document_clear(struct desk_document *document)
{
    free(document->name);
    free(document->path);
    free(document->text);
    *document = (struct desk_document){0};
}

static void documents_clear(struct desk *desk)
{
    for (size_t i = 0; i < desk->n_documents; i++) document_clear(&desk->documents[i]);
    free(desk->documents);
    desk->documents = NULL;
    desk->n_documents = 0;
    desk->documents_version++;
}

int desk_create(struct desk **out, const struct tui_params *params, struct error *error)
{
    struct desk *desk = calloc(1, sizeof *desk);
    if (!desk) return out_of_memory(error);
    desk->params = params;
    desk->store = params->worker.store;
    desk->sample = params->worker.sample;
    desk->sessions_changed = true;
    *out = desk;
    return 0;
}

void desk_destroy(struct desk **pointer)
{
    struct desk *desk = *pointer;
    if (!desk) return;
    if (desk->worker) worker_stop(&desk->worker);
    desk_clear_turns(desk, 0);
    free(desk->turns);
    documents_clear(desk);
    documents_free(&desk->pending_documents);
    if (desk->store) store_session_list_free(&desk->sessions);
    for (size_t i = 0; i < DESK_MESSAGES; i++) free(desk->messages[i].text);
    free(desk->queued);
    free(desk->returned);
    free(desk->name);
    free(desk);
    *pointer = NULL;
}

static int set_name(struct desk *desk, const char *name, struct error *error)
{
    const size_t room = SANITIZE_ROOM(strlen(name)) + 1;
    char *safe = malloc(room);
    if (!safe) return out_of_memory(error);
    sanitize_line(name, safe, room);
    free(desk->name);
    desk->name = safe;
    return 0;
}

/* "moby.txt", "moby.txt + 2 more" */
static void default_name(const struct desk *desk, char *out, size_t cap)
{
    const char *name = desk->n_documents ? desk->documents[0].name : "empty";
    const char *slash = strrchr(name, '/');
    if (slash && slash[1] && desk->n_documents == 1) name = slash + 1;
    if (desk->n_documents > 1)
        snprintf(out, cap, "%.200s + %zu more", name, desk->n_documents - 1);
    else
        snprintf(out, cap, "%.200s", name);
}

/* -------------------------------------------------------------------------------------------- documents */

/* Adds a copy of what was read, put into the store when there is one. */
static int document_append(struct desk *desk, const struct document *from, struct error *error)
{
    struct desk_document *documents = realloc(desk->documents, (desk->n_documents + 1) * sizeof *documents);
    if (!documents) return out_of_memory(error);
    desk->documents = documents;
    struct desk_document copy = {
        .name = strdup(from->name),
        .path = strdup(from->path),
        .text = malloc(from->text_len + 1),
        .len = from->text_len,
    };
    if (!copy.name || !copy.path || !copy.text) {
        document_clear(&copy);
        return out_of_memory(error);
    }
    memcpy(copy.text, from->text, from->text_len);
    copy.text[copy.len] = '\0';
    memcpy(copy.hash, from->hash, sizeof copy.hash);
    if (desk->store) {
        struct store_document put = {.path = copy.path,
                                     .title = copy.name,
                                     .text = copy.text,
                                     .text_len = copy.len,
                                     .places = from->places,
                                     .places_len = from->places_len,
                                     .mtime = from->mtime,
                                     .size = from->size};
        memcpy(put.hash, from->hash, sizeof put.hash);
        const int rc = store_document_put(desk->store, &put, &copy.id, error);
        if (rc) {
            document_clear(&copy);
            return rc;
        }
    }
    desk->documents[desk->n_documents++] = copy;
    return 0;
}

static int document_fetch(struct desk *desk, int64_t id, struct error *error)
{
    struct store_document stored;
    int rc = store_document_get(desk->store, id, &stored, error);
    if (rc) return rc;
    struct desk_document *documents = realloc(desk->documents, (desk->n_documents + 1) * sizeof *documents);
    if (!documents) {
        store_document_free(&stored);
        return out_of_memory(error);
    }
    desk->documents = documents;
    struct desk_document *document = &documents[desk->n_documents++];
    *document = (struct desk_document){
        .id = id, .len = stored.text_len, .text = stored.text, .path = stored.path, .name = stored.title};
    memcpy(document->hash, stored.hash, sizeof stored.hash);
    stored.text = stored.path = stored.title = NULL; /* taken over */
    store_document_free(&stored);
    return 0;
}

/* --------------------------------------------------------------------------------------------- opening */

int desk_begin(struct desk *desk, struct error *error)
{
    struct worker_document *list = calloc(desk->n_documents + 1, sizeof *list);
    if (!list) return out_of_memory(error);
    for (size_t i = 0; i < desk->n_documents; i++)
        list[i] = (struct worker_document){desk->documents[i].name, desk->documents[i].text, desk->documents[i].len};
    int rc = worker_open(desk->worker, desk->session, list, desk->n_documents, error);
    free(list);
    if (!rc) rc = worker_read(desk->worker, error);
    if (rc) return rc;
    desk->state = DESK_READING;
    desk->has_read = false;
    desk->is_open = false;
    desk->is_saved = false;
    desk->was_resumed = false;
    desk->resumed_tokens = 0;
    desk->prompt_tokens = 0;
    desk->reading = (struct desk_progress){0};
    desk->sessions_changed = true;
    return 0;
}

/* A session of the store with its documents and turns. */
static int load_session(struct desk *desk, int64_t session, struct error *error)
{
    struct store_session_list info = {0};
    struct store_turn_list turns = {0};
    int64_t *ids = NULL;
    size_t count = 0;
    int rc = store_session_get(desk->store, session, &info, error);
    if (!rc) rc = store_session_documents(desk->store, session, &ids, &count, error);
    if (!rc) rc = store_turns(desk->store, session, &turns, error);
    if (!rc) {
        documents_clear(desk);
        desk_clear_turns(desk, 0);
        desk->session = session;
        rc = set_name(desk, info.items[0].name, error);
    }
    for (size_t i = 0; !rc && i < count; i++) rc = document_fetch(desk, ids[i], error);
    for (size_t i = 0; !rc && i < turns.count; i++) {
        const struct store_turn *turn = &turns.items[i];
        if (turn->role != STORE_SYSTEM)
            rc = desk_add_turn(desk, turn->role == STORE_USER, turn->text, turn->text_len, error);
    }
    free(ids);
    store_turn_list_free(&turns);
    store_session_list_free(&info);
    return rc;
}

static int create_session(struct desk *desk, const char *name, struct error *error)
{
    char made[256];
    if (!name) {
        default_name(desk, made, sizeof made);
        name = made;
    }
    int64_t *ids = calloc(desk->n_documents + 1, sizeof *ids);
    if (!ids) return out_of_memory(error);
    for (size_t i = 0; i < desk->n_documents; i++) ids[i] = desk->documents[i].id;
    int rc = store_session_create(desk->store, name, ids, desk->n_documents, &desk->session, error);
    free(ids);
    return rc ? rc : set_name(desk, name, error);
}

static void note_change(void *ctx, const char *sentence)
{
    desk_note(ctx, "%s", sentence);
}

/* What changed since the documents were read, where they were. */
static int tell_changes(struct desk *desk, const struct document_list *list, struct error *error)
{
    const struct change_report report = {.tell = note_change, .ctx = desk};
    size_t count;
    const int rc = session_tell_changes(desk->store, list, &report, &count, error);
    desk->tells_cost = count > 0;
    return rc;
}

/* The session over exactly the documents that lie here, an old one or a new one. */
static int find_session(struct desk *desk, const struct document_list *list, bool fresh, struct error *error)
{
    int64_t found = 0;
    if (!fresh) {
        uint8_t(*hashes)[32] = calloc(desk->n_documents + 1, sizeof *hashes);
        if (!hashes) return out_of_memory(error);
        for (size_t i = 0; i < desk->n_documents; i++) memcpy(hashes[i], desk->documents[i].hash, 32);
        const int rc = store_session_find(desk->store, (const uint8_t(*)[32])hashes, desk->n_documents, &found, error);
        free(hashes);
        if (rc) return rc;
    }
    if (found) return load_session(desk, found, error);
    const int rc = fresh ? 0 : tell_changes(desk, list, error);
    return rc ? rc : create_session(desk, NULL, error);
}

static int open_documents(struct desk *desk, const struct document_list *list, bool fresh, struct error *error)
{
    documents_clear(desk);
    desk_clear_turns(desk, 0);
    desk->session = 0;
    int rc = 0;
    for (size_t i = 0; !rc && i < list->count; i++) rc = document_append(desk, &list->items[i], error);
    if (!rc && desk->store) rc = find_session(desk, list, fresh, error);
    if (!rc && !desk->store) {
        char name[256];
        default_name(desk, name, sizeof name);
        rc = set_name(desk, name, error);
    }
    return rc ? rc : desk_begin(desk, error);
}

int desk_open_documents(struct desk *desk, const struct document_list *list, struct error *error)
{
    return open_documents(desk, list, desk->params->fresh, error);
}

/* What was met and not read: each for the messages page, then how many. */
static void tell_skipped(struct desk *desk, const struct document_list *list)
{
    const size_t most = DESK_MESSAGES / 2;
    for (size_t i = 0; i < list->n_skipped && i < most; i++)
        desk_note(desk, "Skipped %.300s: %s.", list->skipped[i].name, list->skipped[i].reason);
    if (list->n_skipped > 1) desk_note(desk, "%zu files were skipped; F5 or /messages tells why.", list->n_skipped);
}

int desk_start(struct desk *desk, struct error *error)
{
    const struct tui_params *params = desk->params;
    int rc = worker_start(&desk->worker, &params->worker, error);
    if (rc) return rc;
    struct error problem = {0};
    if (params->documents) tell_skipped(desk, params->documents);
    if (params->session)
        rc = desk_open(desk, params->session, &problem);
    else if (params->documents && params->documents->count)
        rc = desk_open_documents(desk, params->documents, &problem);
    if (rc) {
        desk->state = DESK_EMPTY;
        desk_fail(desk, &problem);
    }
    return 0;
}

/* --------------------------------------------------------------------------------------------- changing */

static int need_store(const struct desk *desk, struct error *error)
{
    if (desk->store) return 0;
    return error_set(error, ERROR_USAGE, "Nothing is kept with --ephemeral, so there are no sessions.");
}

/* Tells which files are not what the session has read: its text stays until it is asked to read them. */
static int offer_reading(struct desk *desk, struct error *error)
{
    struct document_list stored = {0};
    const struct change_report report = {.tell = note_change, .ctx = desk};
    const int rc = session_load_documents(desk->store, desk->session, &stored, error);
    if (!rc && changes_on_disk(&stored, &report))
        desk_note(desk, "This session has the text as it was; /reread reads it as it is now.");
    documents_free(&stored);
    return rc;
}

int desk_open(struct desk *desk, int64_t session, struct error *error)
{
    int rc = need_store(desk, error);
    if (rc) return rc;
    if (desk_is_busy(desk)) {
        desk->pending = PENDING_SESSION;
        desk->pending_session = session;
        desk_stop(desk);
        return 0;
    }
    rc = load_session(desk, session, error);
    if (!rc) rc = offer_reading(desk, error);
    if (!rc) rc = desk_begin(desk, error);
    if (rc) desk->state = DESK_EMPTY;
    return rc;
}

static bool is_on_desk(const struct desk *desk, const uint8_t hash[32])
{
    for (size_t i = 0; i < desk->n_documents; i++)
        if (!memcmp(desk->documents[i].hash, hash, 32)) return true;
    return false;
}

/* Adds what was read to the session and has the worker go on from where the prompt still agrees. */
static int add_documents(struct desk *desk, const struct document_list *list, struct error *error)
{
    if (desk->state == DESK_EMPTY) return open_documents(desk, list, false, error);
    const size_t before = desk->n_documents;
    int rc = 0;
    for (size_t i = 0; !rc && i < list->count; i++)
        if (!is_on_desk(desk, list->items[i].hash)) rc = document_append(desk, &list->items[i], error);
    const size_t added = desk->n_documents - before;
    if (!rc && !added) {
        desk_note(desk, "%.200s is on the desk already.", list->items[0].name);
        return 0;
    }
    for (size_t i = before; !rc && desk->store && i < desk->n_documents; i++)
        rc = store_session_add_document(desk->store, desk->session, desk->documents[i].id, error);
    if (rc) {
        while (desk->n_documents > before) document_clear(&desk->documents[--desk->n_documents]);
        return rc;
    }
    desk_note(desk, "Added %zu document%s.%s", added, added == 1 ? "" : "s",
              desk->n_turns ? " The turns so far are read again after it." : "");
    desk->tells_cost = desk->n_turns > 0;
    return desk_begin(desk, error);
}

int desk_add(struct desk *desk, const char *path, struct error *error)
{
    if (desk->failed) return error_set(error, ERROR_FAILED, "The model is not loaded, so nothing can be read.");
    if (desk->pending != PENDING_NONE)
        return error_set(error, ERROR_USAGE, "One change waits already; try again soon.");
    struct document_list list = {0};
    char *paths[] = {strdup(path)};
    if (!paths[0]) return out_of_memory(error);
    int rc = documents_read(&list, paths, 1, error);
    free(paths[0]);
    if (!rc) tell_skipped(desk, &list);
    if (!rc && desk_is_busy(desk)) {
        desk->pending = PENDING_DOCUMENTS;
        desk->pending_documents = list;
        desk_stop(desk);
        return 0;
    }
    if (!rc) rc = add_documents(desk, &list, error);
    documents_free(&list);
    return rc;
}

int desk_resume_pending(struct desk *desk, struct error *error)
{
    int rc = 0;
    if (desk->pending == PENDING_SESSION) rc = desk_open(desk, desk->pending_session, error);
    if (desk->pending == PENDING_DOCUMENTS) {
        rc = add_documents(desk, &desk->pending_documents, error);
        documents_free(&desk->pending_documents);
        desk->pending_documents = (struct document_list){0};
    }
    desk->pending = PENDING_NONE;
    return rc;
}

static int need_idle(const struct desk *desk, struct error *error)
{
    const int rc = need_store(desk, error);
    if (rc) return rc;
    if (desk->state == DESK_EMPTY) return error_set(error, ERROR_USAGE, "No session is open.");
    if (desk_is_busy(desk)) return error_set(error, ERROR_USAGE, "Stop the running job first (Ctrl-C).");
    return 0;
}

/* The document as its file is now, under the name that the model knows. */
static int read_anew(const struct desk_document *document, struct document_list *out, struct error *error)
{
    char *paths[] = {document->path}, *name = strdup(document->name);
    struct document_list read = {0};
    int rc = name ? documents_read(&read, paths, 1, error) : out_of_memory(error);
    if (!rc && read.count != 1) rc = error_set(error, ERROR_INPUT, "%.300s is not one document any more.", name);
    if (!rc) {
        free(read.items[0].name);
        read.items[0].name = name;
        name = NULL;
        rc = documents_add(out, &read.items[0], error);
    }
    documents_free(&read);
    free(name);
    return rc;
}

int desk_reread(struct desk *desk, struct error *error)
{
    struct document_list list = {0};
    bool changed = false;
    int rc = need_idle(desk, error);
    for (size_t i = 0; !rc && i < desk->n_documents; i++) {
        rc = read_anew(&desk->documents[i], &list, error);
        if (!rc) changed = changed || memcmp(list.items[i].hash, desk->documents[i].hash, sizeof list.items[i].hash);
    }
    if (!rc && !changed) desk_note(desk, "The documents are as they were read.");
    if (!rc && changed) {
        rc = open_documents(desk, &list, false, error);
        if (rc) desk->state = DESK_EMPTY;
    }
    documents_free(&list);
    return rc;
}

int desk_new(struct desk *desk, const char *name, struct error *error)
{
    int rc = 0;
    if (desk->state == DESK_EMPTY) return error_set(error, ERROR_USAGE, "No session is open: /add FILE begins one.");
    if (desk_is_busy(desk)) return error_set(error, ERROR_USAGE, "Stop the running job first (Ctrl-C).");
    desk_clear_turns(desk, 0);
    if (desk->store) rc = create_session(desk, name, error);
    return rc ? rc : desk_begin(desk, error);
}

/* The fork must find every turn: those on their way to disk are waited for. */
static int fork_here(struct desk *desk, const char *name, int64_t *out, struct error *error)
{
    int rc = store_queue_flush(desk->store, error);
    if (!rc) rc = store_session_fork(desk->store, desk->session, SIZE_MAX, name, out, error);
    desk->sessions_changed = true;
    return rc;
}

int desk_fork(struct desk *desk, const char *name, struct error *error)
{
    int rc = need_idle(desk, error);
    if (rc) return rc;
    char made[256];
    snprintf(made, sizeof made, "%.200s (fork)", desk->name);
    int64_t fork;
    rc = fork_here(desk, name ? name : made, &fork, error);
    return rc ? rc : desk_open(desk, fork, error);
}

int desk_keep_branch(struct desk *desk, struct error *error)
{
    if (!desk->store) return 0;
    int rc = need_idle(desk, error);
    if (rc) return rc;
    char name[256];
    snprintf(name, sizeof name, "%.200s (before edit)", desk->name);
    int64_t branch;
    rc = fork_here(desk, name, &branch, error);
    if (!rc) desk_note(desk, "The branch you leave is kept as the session \"%s\".", name);
    return rc;
}

int desk_rename(struct desk *desk, const char *name, struct error *error)
{
    int rc = need_store(desk, error);
    if (!rc && desk->state == DESK_EMPTY) rc = error_set(error, ERROR_USAGE, "No session is open.");
    if (!rc) rc = store_session_rename(desk->store, desk->session, name, error);
    desk->sessions_changed = true;
    return rc ? rc : set_name(desk, name, error);
}

int desk_remove(struct desk *desk, int64_t session, struct error *error)
{
    int rc = need_store(desk, error);
    if (!rc && session == desk->session) rc = error_set(error, ERROR_USAGE, "The open session cannot be removed.");
    if (!rc) rc = store_session_remove(desk->store, session, error);
    desk->sessions_changed = true;
    return rc;
}

int desk_sessions(struct desk *desk, struct error *error)
{
    if (!desk->store || !desk->sessions_changed) return 0;
    struct store_session_list list = {0};
    const int rc = store_session_list(desk->store, &list, error);
    if (rc) return rc;
    store_session_list_free(&desk->sessions);
    desk->sessions = list;
    desk->sessions_changed = false;
    return 0;
}

int desk_sampling(struct desk *desk, const struct sample_params *sample, struct error *error)
{
    const int rc = worker_sampling(desk->worker, sample, error);
    if (!rc) desk->sample = *sample;
    return rc;
}
