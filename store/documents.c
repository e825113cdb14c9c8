/* SPDX-License-Identifier: MIT
 *
 * Documents: a text is stored once, under its SHA-256. document.sum covers the other columns:
 * SHA-256(path | title | mtime | size | places), each field preceded by its length as i64 LE (-1: NULL), numbers as i64
 * LE.
 */
#include "store/internal.h"

#include <stdlib.h>
#include <string.h>

#define MOST_TEXT ((size_t)900 << 20) /* SQLite's own limit for a value is 10^9 bytes */

static int document_sum(const struct store_document *d, uint8_t out[32], struct error *error)
{
    struct digest *digest;
    int rc = digest_begin(&digest, error);
    if (rc) return rc;
    digest_field(digest, d->path, d->path ? strlen(d->path) : 0);
    digest_field(digest, d->title, d->title ? strlen(d->title) : 0);
    digest_number(digest, d->mtime);
    digest_number(digest, d->size);
    digest_field(digest, d->places, d->places_len);
    return digest_end(&digest, out, error);
}

int document_verify(sqlite3_stmt *stmt, struct store_document *out, struct error *error)
{
    uint8_t stored[32], sum[32], hash[32];
    *out = (struct store_document){.id = sqlite3_column_int64(stmt, 0)};
    int rc = db_copy_fixed(stmt, 1, out->hash, sizeof out->hash, error);
    if (!rc) rc = db_copy_fixed(stmt, 2, stored, sizeof stored, error);
    if (!rc) rc = db_copy_text(stmt, 3, &out->path, NULL, error);
    if (!rc) rc = db_copy_text(stmt, 4, &out->title, NULL, error);
    out->mtime = sqlite3_column_int64(stmt, 5);
    out->size = sqlite3_column_int64(stmt, 6);
    if (!rc) rc = db_copy_text(stmt, 7, &out->places, &out->places_len, error);
    if (!rc) rc = db_copy_text(stmt, 8, &out->text, &out->text_len, error);
    if (!rc) rc = document_sum(out, sum, error);
    if (!rc) rc = digest_bytes(out->text, out->text_len, hash, error);
    if (!rc && (memcmp(sum, stored, 32) != 0 || memcmp(hash, out->hash, 32) != 0))
        rc = error_set(error, ERROR_STATE, "Document %lld is damaged in the store: read its file again.",
                       (long long)out->id);
    if (rc) store_document_free(out);
    return rc;
}

void store_document_free(struct store_document *d)
{
    free(d->path);
    free(d->title);
    free(d->text);
    free(d->places);
    *d = (struct store_document){0};
}

int store_document_get(struct store *store, int64_t id, struct store_document *out, struct error *error)
{
    *out = (struct store_document){0};
    int rc = read_begin(store, error);
    if (rc) return rc;
    sqlite3_stmt *stmt;
    bool row = false;
    rc = db_prepare(store->reader, "SELECT " DOCUMENT_COLUMNS " FROM document WHERE id = ?1", DB_VALUES(db_int(id)),
                    &stmt, error);
    if (!rc) rc = db_step(stmt, &row, error);
    if (!rc && !row) rc = error_set(error, ERROR_USAGE, "There is no document %lld in the store.", (long long)id);
    if (!rc) rc = document_verify(stmt, out, error);
    sqlite3_finalize(stmt);
    read_end(store);
    return rc;
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

static bool is_unchanged(const struct store_document *a, const struct store_document *b)
{
    return is_same(a->path, b->path) && is_same(a->title, b->title) && a->mtime == b->mtime && a->size == b->size &&
           a->places_len == b->places_len && (a->places != NULL) == (b->places != NULL) &&
           (!a->places_len || memcmp(a->places, b->places, a->places_len) == 0);
}

static int document_write(sqlite3 *db, const struct store_document *d, const uint8_t hash[32], int64_t *id,
                          struct error *error)
{
    uint8_t sum[32];
    int rc = document_sum(d, sum, error);
    if (!rc)
        rc = db_run(db,
                    "INSERT INTO document (hash, sum, path, title, mtime, size, places, text)"
                    " VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (hash) DO UPDATE SET sum = excluded.sum,"
                    " path = excluded.path, title = excluded.title, mtime = excluded.mtime, size = excluded.size,"
                    " places = excluded.places, text = excluded.text",
                    DB_VALUES(db_bytes(hash, 32), db_bytes(sum, sizeof sum), db_text(d->path), db_text(d->title),
                              db_int(d->mtime), db_int(d->size), db_bytes_or_null(d->places, d->places_len),
                              db_bytes(d->text, d->text_len)),
                    error);
    if (rc) return rc;
    return db_number(db, "SELECT id FROM document WHERE hash = ?1", DB_VALUES(db_bytes(hash, 32)), id, error);
}

int store_document_put(struct store *store, const struct store_document *d, int64_t *id, struct error *error)
{
    *id = 0;
    uint8_t hash[32];
    if (d->text_len > MOST_TEXT || d->places_len > MOST_TEXT)
        return error_set(error, ERROR_INPUT, "A document of %zu bytes is too big for the store.", d->text_len);
    int rc = digest_bytes(d->text, d->text_len, hash, error);
    if (!rc) rc = read_begin(store, error);
    if (rc) return rc;
    int64_t there;
    rc = db_number(store->reader, "SELECT id FROM document WHERE hash = ?1", DB_VALUES(db_bytes(hash, 32)), &there,
                   error);
    read_end(store);
    if (rc) return rc;
    struct store_document stored;
    struct error damaged; /* a damaged copy is written anew */
    if (there && store_document_get(store, there, &stored, &damaged) == 0) {
        bool unchanged = is_unchanged(d, &stored);
        store_document_free(&stored);
        *id = unchanged ? there : 0;
        if (unchanged) return 0;
    }
    rc = write_begin(store, error);
    return rc ? rc : write_end(store, document_write(store->writer, d, hash, id, error), error);
}
