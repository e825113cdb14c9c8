/* SPDX-License-Identifier: MIT
 *
 * Sessions by their documents.
 */
#include "app/session.h"

#include <stdlib.h>
#include <string.h>

static int put_document(struct store *store, struct document *d, int64_t *id, struct error *error)
{
    struct store_document put = {
        .path = d->path,
        .title = d->name,
        .text = d->text,
        .text_len = d->text_len,
        .places = d->places,
        .places_len = d->places_len,
        .mtime = d->mtime,
        .size = d->size,
    };
    memcpy(put.hash, d->hash, sizeof put.hash);
    return store_document_put(store, &put, id, error);
}

static void name_session(const struct document_list *list, char *out, size_t cap)
{
    const char *name = list->items[0].name, *slash = strrchr(name, '/');
    if (slash && slash[1] && list->count == 1) name = slash + 1;
    if (list->count > 1)
        snprintf(out, cap, "%.200s + %zu more", name, list->count - 1);
    else
        snprintf(out, cap, "%.200s", name);
}

int session_tell_changes(struct store *store, const struct document_list *list, const struct change_report *report,
                         size_t *count, struct error *error)
{
    int64_t earlier = 0;
    *count = 0;
    char **paths = calloc(list->count + 1, sizeof *paths);
    if (!paths) return error_set(error, ERROR_FAILED, "Out of memory.");
    for (size_t i = 0; i < list->count; i++) paths[i] = list->items[i].path;
    int rc = store_session_resembling(store, paths, list->count, &earlier, error);
    free(paths);
    return rc || !earlier ? rc : changes_since(store, earlier, list, report, count, error);
}

int session_for_documents(struct store *store, const struct document_list *list, const struct change_report *report,
                          int64_t *session, struct error *error)
{
    size_t changes;
    int64_t *ids = calloc(list->count + 1, sizeof *ids);
    uint8_t(*hashes)[32] = calloc(list->count + 1, sizeof *hashes);
    int rc = ids && hashes ? 0 : error_set(error, ERROR_FAILED, "Out of memory.");
    for (size_t i = 0; !rc && i < list->count; i++) {
        memcpy(hashes[i], list->items[i].hash, sizeof hashes[i]);
        rc = put_document(store, &list->items[i], &ids[i], error);
    }
    if (!rc) rc = store_session_find(store, (const uint8_t(*)[32])hashes, list->count, session, error);
    if (!rc && !*session && report) rc = session_tell_changes(store, list, report, &changes, error);
    if (!rc && !*session) {
        char name[256];
        name_session(list, name, sizeof name);
        rc = store_session_create(store, name, ids, list->count, session, error);
    }
    free(ids);
    free(hashes);
    return rc;
}

static int load_document(struct store *store, int64_t id, struct document_list *out, struct error *error)
{
    struct store_document stored = {0};
    int rc = store_document_get(store, id, &stored, error);
    if (rc) return rc;
    struct document d = {
        .path = stored.path,
        .name = stored.title,
        .text = stored.text,
        .text_len = stored.text_len,
        .places = stored.places,
        .places_len = stored.places_len,
        .mtime = stored.mtime,
        .size = stored.size,
    };
    memcpy(d.hash, stored.hash, sizeof d.hash);
    stored.path = stored.title = stored.text = stored.places = NULL; /* taken over */
    store_document_free(&stored);
    rc = documents_add(out, &d, error);
    document_free(&d);
    return rc;
}

int session_load_documents(struct store *store, int64_t session, struct document_list *out, struct error *error)
{
    struct store_session_list found = {0};
    int64_t *ids = NULL;
    size_t count = 0;
    int rc = store_session_get(store, session, &found, error);
    if (!rc && !found.count) rc = error_set(error, ERROR_USAGE, "There is no session %lld.", (long long)session);
    if (!rc) rc = store_session_documents(store, session, &ids, &count, error);
    for (size_t i = 0; !rc && i < count; i++) rc = load_document(store, ids[i], out, error);
    free(ids);
    store_session_list_free(&found);
    return rc;
}
