/* SPDX-License-Identifier: MIT
 *
 * Checksums, and the big blobs in parts.
 *
 * Measured on two cores with AVX-512 and SHA-NI, OpenSSL 3.0, SQLite 3.40, blobs of 4.1 MB, warm page cache:
 *   checksum   SHA-256 1.8 GB/s   BLAKE2b 1.1 GB/s   GMAC 16 GB/s   Poly1305 13 GB/s   (memcpy 14 GB/s)
 *   reading    page size   4 KiB 5.1   16 KiB 6.0   32 KiB 6.7   64 KiB 7.2 GB/s   (sqlite3_blob_read, small cache)
 *              the same by sqlite3_step + column_blob: 5.6, 6.8, 6.7, 6.6; a plain file: 9.0
 *   writing    WAL, FULL, checkpoint included: 0.21, 0.36, 0.52, 0.34 GB/s
 * So the blobs live in SQLite (a file of their own would win a quarter of the reading and lose the transaction), pages
 * are 32 KiB, reading goes through sqlite3_blob_read into the loader's own buffers, and the checksum is Poly1305: under
 * a key used once it misses any given change with probability below 2^-80 for a part, and it costs a tenth of
 * SHA-256. It proves that the disk gave back what was written and is no signature; docs/state-format.md says what the
 * engine verifies besides.
 */
#include "store/internal.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

static void put_le32(uint8_t *out, uint32_t v)
{
    for (int i = 0; i < 4; i++) out[i] = (uint8_t)(v >> (8 * i));
}

/* ------------------------------------------------------------------------------------------------- SHA-256 */

struct digest {
    EVP_MD_CTX *ctx;
    bool ok;
};

int digest_begin(struct digest **out, struct error *error)
{
    struct digest *d = *out = store_alloc(sizeof *d);
    if (!d) return store_no_memory(error);
    d->ctx = EVP_MD_CTX_new();
    d->ok = d->ctx && EVP_DigestInit_ex(d->ctx, EVP_sha256(), NULL) == 1;
    return 0;
}

static void digest_raw(struct digest *d, const void *data, size_t size)
{
    d->ok = d->ok && EVP_DigestUpdate(d->ctx, data, size) == 1;
}

void digest_number(struct digest *d, int64_t number)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)number >> (8 * i));
    digest_raw(d, bytes, sizeof bytes);
}

void digest_field(struct digest *d, const void *data, size_t size)
{
    digest_number(d, data ? (int64_t)size : -1);
    if (data) digest_raw(d, data, size);
}

int digest_end(struct digest **digest, uint8_t out[32], struct error *error)
{
    struct digest *d = *digest;
    bool ok = d->ok && EVP_DigestFinal_ex(d->ctx, out, NULL) == 1;
    EVP_MD_CTX_free(d->ctx);
    free(d);
    *digest = NULL;
    return ok ? 0 : store_no_memory(error);
}

int digest_bytes(const void *data, size_t size, uint8_t out[32], struct error *error)
{
    return EVP_Digest(data ? data : "", size, out, NULL, EVP_sha256(), NULL) == 1 ? 0 : store_no_memory(error);
}

int snapshot_name(const uint8_t hash[32], const void *tail, size_t tail_size, uint8_t out[32], struct error *error)
{
    static const char domain[] = "lectern-snapshot-1";
    uint8_t bytes[sizeof domain - 1 + 32 + STORE_SEGMENT * 4];
    if (tail_size > STORE_SEGMENT * 4)
        return error_set(error, ERROR_STATE, "A snapshot of the store has a damaged tail: its state is lost.");
    memcpy(bytes, domain, sizeof domain - 1);
    memcpy(bytes + sizeof domain - 1, hash, 32);
    if (tail_size) memcpy(bytes + sizeof domain - 1 + 32, tail, tail_size);
    return digest_bytes(bytes, sizeof domain - 1 + 32 + tail_size, out, error);
}

/* --------------------------------------------------------------------------------------------------- parts */

static int part_sum(const struct blob_name *name, uint32_t ordinal, struct store_blob bytes, uint8_t out[STORE_SUM],
                    struct error *error)
{
    static const char domain[] = "lectern-part-1";
    uint8_t id[sizeof domain - 1 + 32 + 8], key[32];
    memcpy(id, domain, sizeof domain - 1);
    memcpy(id + sizeof domain - 1, name->name, 32);
    put_le32(id + sizeof domain - 1 + 32, (uint32_t)name->kind);
    put_le32(id + sizeof domain - 1 + 36, ordinal);
    int rc = digest_bytes(id, sizeof id, key, error);
    if (rc) return rc;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "POLY1305", NULL);
    EVP_MAC_CTX *ctx = mac ? EVP_MAC_CTX_new(mac) : NULL;
    size_t size;
    bool ok = ctx && EVP_MAC_init(ctx, key, sizeof key, NULL) == 1 &&
              EVP_MAC_update(ctx, bytes.data, bytes.size) == 1 && EVP_MAC_final(ctx, out, &size, STORE_SUM) == 1;
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return ok ? 0 : store_no_memory(error);
}

static struct store_blob part_slice(struct store_blob whole, size_t ordinal)
{
    size_t at = ordinal * STORE_PART, left = whole.size - at;
    return (struct store_blob){(uint8_t *)whole.data + at, left < STORE_PART ? left : STORE_PART};
}

size_t blob_parts(size_t size)
{
    return (size + STORE_PART - 1) / STORE_PART;
}

int blob_write(sqlite3 *db, const struct blob_name *name, const struct store_blob *blob, int64_t *id,
               struct error *error)
{
    if (blob_parts(blob->size) > STORE_PARTS)
        return error_set(error, ERROR_FAILED, "A state of %zu bytes is too big for the store.", blob->size);
    int rc = db_run(db, "INSERT INTO blob (kind, size) VALUES (?1, ?2)",
                    DB_VALUES(db_int(name->kind), db_int((int64_t)blob->size)), error);
    if (rc) return rc;
    *id = sqlite3_last_insert_rowid(db);
    for (size_t i = 0; !rc && i < blob_parts(blob->size); i++) {
        struct store_blob part = part_slice(*blob, i);
        uint8_t sum[STORE_SUM];
        rc = part_sum(name, (uint32_t)i, part, sum, error);
        if (!rc)
            rc = db_run(db, "INSERT INTO part (id, sum, bytes) VALUES (?1, ?2, ?3)",
                        DB_VALUES(db_int(*id * STORE_PARTS + (int64_t)i), db_bytes(sum, sizeof sum),
                                  db_bytes(part.data, part.size)),
                        error);
    }
    return rc;
}

int blob_reader_open(struct blob_reader *r, sqlite3 *db, struct error *error)
{
    *r = (struct blob_reader){.db = db};
    int rc = db_prepare(db, "SELECT size + 1 FROM blob WHERE id = ?1 AND kind = ?2", DB_NONE, &r->sizes, error);
    return rc ? rc : db_prepare(db, "SELECT sum FROM part WHERE id = ?1", DB_NONE, &r->sums, error);
}

void blob_reader_close(struct blob_reader *r)
{
    sqlite3_finalize(r->sizes);
    sqlite3_finalize(r->sums);
    sqlite3_blob_close(r->handle);
    *r = (struct blob_reader){0};
}

int blob_reader_size(struct blob_reader *r, const struct blob_place *from, size_t *size, struct error *error)
{
    bool found = false;
    int rc = db_bind(r->sizes, DB_VALUES(db_int(from->id), db_int(from->name.kind)), error);
    if (!rc) rc = db_step(r->sizes, &found, error);
    int64_t told = !rc && found ? sqlite3_column_int64(r->sizes, 0) : 0;
    sqlite3_reset(r->sizes);
    if (rc) return rc;
    if (told < 1 || blob_parts((size_t)told - 1) > STORE_PARTS)
        return error_set(error, ERROR_STATE, "A stored state is lost: its row in the store is missing or damaged.");
    *size = (size_t)told - 1;
    return 0;
}

static int part_lost(size_t ordinal, const char *why, struct error *error)
{
    return error_set(error, ERROR_STATE, "A stored state is damaged: part %zu %s; its tokens must be read again.",
                     ordinal, why);
}

static int part_fetch_sum(struct blob_reader *r, int64_t row, size_t ordinal, uint8_t sum[STORE_SUM],
                          struct error *error)
{
    bool found = false;
    int rc = db_bind(r->sums, DB_VALUES(db_int(row)), error);
    if (!rc) rc = db_step(r->sums, &found, error);
    if (!rc && !found) rc = part_lost(ordinal, "is missing", error);
    if (!rc) rc = db_copy_fixed(r->sums, 0, sum, STORE_SUM, error);
    sqlite3_reset(r->sums);
    return rc;
}

/* SQLITE_ERROR from the blob calls means "no such row" or "not a blob": damage, not failure. */
static int part_fetch(struct blob_reader *r, int64_t row, size_t ordinal, struct store_blob into, struct error *error)
{
    int code = r->handle ? sqlite3_blob_reopen(r->handle, row)
                         : sqlite3_blob_open(r->db, "main", "part", "bytes", row, 0, &r->handle);
    if (code == SQLITE_OK && (size_t)sqlite3_blob_bytes(r->handle) != into.size)
        return part_lost(ordinal, "has the wrong size", error);
    if (code == SQLITE_OK) code = sqlite3_blob_read(r->handle, into.data, (int)into.size, 0);
    if (code == SQLITE_OK) return 0;
    int rc = (code & 0xff) == SQLITE_ERROR ? part_lost(ordinal, "is missing", error) : db_fail(r->db, error);
    sqlite3_blob_close(r->handle);
    r->handle = NULL;
    return rc;
}

int blob_reader_part(struct blob_reader *r, const struct blob_place *from, size_t ordinal, struct store_blob whole,
                     struct error *error)
{
    if (ordinal >= blob_parts(whole.size)) return 0;
    uint8_t stored[STORE_SUM], sum[STORE_SUM];
    struct store_blob into = part_slice(whole, ordinal);
    int64_t row = from->id * STORE_PARTS + (int64_t)ordinal;
    const double began = store_clock();
    int rc = r->leaves_sums ? 0 : part_fetch_sum(r, row, ordinal, stored, error);
    if (!rc) rc = part_fetch(r, row, ordinal, into, error);
    const double there = store_clock();
    r->read_seconds += there - began;
    if (rc || r->leaves_sums) return rc;
    rc = part_sum(&from->name, (uint32_t)ordinal, into, sum, error);
    r->verify_seconds += store_clock() - there;
    if (!rc && memcmp(sum, stored, sizeof sum) != 0) rc = part_lost(ordinal, "has the wrong checksum", error);
    return rc;
}

int blob_reader_read(struct blob_reader *r, const struct blob_place *from, struct store_blob into, struct error *error)
{
    int rc = 0;
    for (size_t i = 0; !rc && i < blob_parts(into.size); i++) rc = blob_reader_part(r, from, i, into, error);
    return rc;
}

int blob_delete(sqlite3 *db, int64_t id, uint64_t *freed, struct error *error)
{
    if (!id) return 0;
    int64_t size;
    int rc = db_number(db, "SELECT size FROM blob WHERE id = ?1", DB_VALUES(db_int(id)), &size, error);
    if (!rc) rc = db_run(db, "DELETE FROM blob WHERE id = ?1", DB_VALUES(db_int(id)), error);
    if (!rc)
        rc = db_run(db, "DELETE FROM part WHERE id >= ?1 AND id < ?2",
                    DB_VALUES(db_int(id * STORE_PARTS), db_int((id + 1) * STORE_PARTS)), error);
    if (!rc && freed) *freed += (uint64_t)size;
    return rc;
}
