/* SPDX-License-Identifier: MIT
 *
 * Layout of the header, little-endian:
 *     0  magic "LCTNSTAT"        48  first token, u64           128  payload bytes, u64
 *     8  version, u32            56  tokens, u64                136  zero, u64
 *    12  kind, u32               64  SHA-256 of the token ids   144  checksum
 *    16  state key               96  dims, 8 x u32              176  payload
 *
 * The checksum was chosen by measurement (store/blobs.c has the figures): Poly1305 costs a seventh of SHA-256, which
 * alone took longer than reading and uploading together. Version 1 had SHA-256; its pieces are still read.
 */
#include "engine/state_blob.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum {
    VERSION = 2,
    OLD_VERSION = 1, /* checksum: SHA-256 of bytes 0..143 and the payload */
    TAG = 16,        /* version 2: Poly1305 of the payload, the key made of bytes 0..143; then zeros */
    AT_VERSION = 8,
    AT_KIND = 12,
    AT_KEY = 16,
    AT_FIRST = 48,
    AT_COUNT = 56,
    AT_IDS = 64,
    AT_DIMS = 96,
    AT_PAYLOAD = 128,
    AT_ZERO = 136,
    AT_SUM = 144,
};

static const unsigned char magic[8] = {'L', 'C', 'T', 'N', 'S', 'T', 'A', 'T'};

static void put(unsigned char *p, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) p[i] = (unsigned char)(value >> (8 * i));
}

static uint64_t get(const unsigned char *p, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;) value = value << 8 | p[i];
    return value;
}

/* ------------------------------------------------------------------------------------------------------ hashes */

static int hash_failed(struct error *error)
{
    return error_set(error, ERROR_FAILED, "A checksum could not be computed.");
}

static bool hash_ids(EVP_MD_CTX *hash, const uint32_t *ids, size_t count)
{
    unsigned char le[4096];
    for (size_t done = 0; done < count;) {
        size_t n = count - done < sizeof le / 4 ? count - done : sizeof le / 4;
        for (size_t i = 0; i < n; i++) put(le + 4 * i, ids[done + i], 4);
        if (!EVP_DigestUpdate(hash, le, 4 * n)) return false;
        done += n;
    }
    return true;
}

int id_hash_at(struct id_hash *h, const uint32_t *ids, size_t count, unsigned char out[STATE_HASH], struct error *error)
{
    if (count < h->count) id_hash_free(h);
    if (!h->context) {
        h->context = EVP_MD_CTX_new();
        if (!h->context || !EVP_DigestInit_ex(h->context, EVP_sha256(), NULL)) return hash_failed(error);
    }
    EVP_MD_CTX *copy = EVP_MD_CTX_new();
    bool ok = copy && hash_ids(h->context, ids + h->count, count - h->count);
    h->count = count;
    ok = ok && EVP_MD_CTX_copy_ex(copy, h->context) && EVP_DigestFinal_ex(copy, out, NULL);
    EVP_MD_CTX_free(copy);
    if (ok) return 0;
    id_hash_free(h);
    return hash_failed(error);
}

void id_hash_free(struct id_hash *h)
{
    EVP_MD_CTX_free(h->context);
    *h = (struct id_hash){0};
}

static bool sum_sha256(const unsigned char *bytes, size_t size, unsigned char out[STATE_HASH])
{
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool ok = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) && EVP_DigestUpdate(hash, bytes, AT_SUM) &&
              EVP_DigestUpdate(hash, bytes + STATE_HEADER, size - STATE_HEADER) && EVP_DigestFinal_ex(hash, out, NULL);
    EVP_MD_CTX_free(hash);
    return ok;
}

/* The header makes the key: it is covered too, and no other piece has the same. */
static bool sum_poly1305(const unsigned char *bytes, size_t size, unsigned char out[STATE_HASH])
{
    static const char domain[] = "lectern-piece-2";
    unsigned char named[sizeof domain - 1 + AT_SUM], key[STATE_HASH];
    size_t length = 0;
    memcpy(named, domain, sizeof domain - 1);
    memcpy(named + sizeof domain - 1, bytes, AT_SUM);
    memset(out, 0, STATE_HASH);
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "POLY1305", NULL);
    EVP_MAC_CTX *context = mac ? EVP_MAC_CTX_new(mac) : NULL;
    bool ok = context && EVP_Digest(named, sizeof named, key, NULL, EVP_sha256(), NULL) &&
              EVP_MAC_init(context, key, sizeof key, NULL) &&
              EVP_MAC_update(context, bytes + STATE_HEADER, size - STATE_HEADER) &&
              EVP_MAC_final(context, out, &length, TAG) && length == TAG;
    EVP_MAC_CTX_free(context);
    EVP_MAC_free(mac);
    return ok;
}

static int checksum(const unsigned char *bytes, size_t size, unsigned char out[STATE_HASH], struct error *error)
{
    bool ok = get(bytes + AT_VERSION, 4) == OLD_VERSION ? sum_sha256(bytes, size, out) : sum_poly1305(bytes, size, out);
    return ok ? 0 : hash_failed(error);
}

/* -------------------------------------------------------------------------------------------------------- dims */

struct dim {
    const char *name;
    uint32_t value;
};

static void piece_dims(const struct engine *e, enum state_kind kind, struct dim out[STATE_DIMS])
{
    const struct shape *s = &e->model->shape;
    const struct dim rows[STATE_DIMS] = {{"MLA layers", s->n_mla},
                                         {"row width", s->kv_lora + s->rope},
                                         {"row dtype", (uint32_t)e->info.rows_dtype},
                                         {"row bytes", e->row_bytes},
                                         {"segment length", STATE_SEGMENT},
                                         {"unused field", 0},
                                         {"unused field", 0},
                                         {"unused field", 0}};
    const struct dim snapshot[STATE_DIMS] = {{"KDA layers", s->n_kda},
                                             {"heads", s->n_head},
                                             {"KDA head width", s->kda_dim},
                                             {"state dtype", (uint32_t)e->info.state_dtype},
                                             {"history taps", 3},
                                             {"vocabulary", s->n_vocab},
                                             {"unused field", 0},
                                             {"unused field", 0}};
    memcpy(out, kind == STATE_ROWS ? rows : snapshot, sizeof rows);
}

size_t state_payload_bytes(const struct engine *e, enum state_kind kind, uint64_t count)
{
    if (kind == STATE_ROWS) return (size_t)(count * e->info.n_mla * e->row_bytes);
    size_t kda = e->info.state_dtype == ENGINE_F16 ? e->kda_bytes / 2 : e->kda_bytes;
    return kda + e->history_bytes + e->info.n_vocab * sizeof(float);
}

/* -------------------------------------------------------------------------------------------------------- make */

void blob_free(struct blob *blob)
{
    free(blob->data);
    *blob = (struct blob){0};
}

/* Fresh pages are most of what saving costs: the system is asked for big ones, where it has them. */
static void *alloc_bytes(size_t size)
{
    const size_t big = (size_t)2 << 20;
    if (size < big) return malloc(size);
    size_t whole = (size + big - 1) / big * big;
    void *data = whole < size ? NULL : aligned_alloc(big, whole);
#ifdef MADV_HUGEPAGE
    if (data) (void)madvise(data, whole, MADV_HUGEPAGE);
#endif
    return data;
}

int state_blob_begin(const struct state_piece *piece, struct blob *out, struct error *error)
{
    *out = (struct blob){.size = STATE_HEADER + piece->payload};
    out->data = alloc_bytes(out->size);
    return out->data ? 0 : error_set(error, ERROR_FAILED, "Out of memory for a state of %zu bytes.", out->size);
}

int state_blob_seal(struct timeline *t, const struct state_piece *piece, struct blob *blob, struct error *error)
{
    const struct engine *e = t->engine;
    unsigned char *p = blob->data;
    struct dim dims[STATE_DIMS];
    memset(p, 0, STATE_HEADER);
    memcpy(p, magic, sizeof magic);
    put(p + AT_VERSION, VERSION, 4);
    put(p + AT_KIND, piece->kind, 4);
    memcpy(p + AT_KEY, e->info.state_key, sizeof e->info.state_key);
    put(p + AT_FIRST, piece->first, 8);
    put(p + AT_COUNT, piece->count, 8);
    piece_dims(e, piece->kind, dims);
    for (size_t i = 0; i < STATE_DIMS; i++) put(p + AT_DIMS + 4 * i, dims[i].value, 4);
    put(p + AT_PAYLOAD, piece->payload, 8);
    int rc = id_hash_at(&t->hash, t->ids, (size_t)(piece->first + piece->count), p + AT_IDS, error);
    return rc ? rc : checksum(p, blob->size, p + AT_SUM, error);
}

/* ------------------------------------------------------------------------------------------------------- check */

static const char *kind_name(uint64_t kind)
{
    return kind == STATE_ROWS ? "rows" : kind == STATE_SNAPSHOT ? "a snapshot" : "nothing known";
}

static int check_form(const unsigned char *p, size_t size, struct error *error)
{
    if (size < STATE_HEADER || memcmp(p, magic, sizeof magic))
        return error_set(error, ERROR_STATE, "These %zu bytes are no saved state.", size);
    uint64_t version = get(p + AT_VERSION, 4);
    if (version != VERSION && version != OLD_VERSION)
        return error_set(error, ERROR_STATE, "The state has format version %u, this program reads %d and %d.",
                         (unsigned)version, OLD_VERSION, VERSION);
    return 0;
}

static int check_kind(const struct state_check *c, const unsigned char *p, struct error *error)
{
    if (get(p + AT_KIND, 4) != c->kind)
        return error_set(error, ERROR_STATE, "The state holds %s where %s was expected.",
                         kind_name(get(p + AT_KIND, 4)), kind_name(c->kind));
    if (get(p + AT_ZERO, 8)) return error_set(error, ERROR_STATE, "The state has bytes set that must be zero.");
    return 0;
}

static int check_model(const struct engine *e, const struct state_check *c, const unsigned char *p, struct error *error)
{
    struct dim dims[STATE_DIMS];
    piece_dims(e, c->kind, dims);
    for (size_t i = 0; i < STATE_DIMS; i++) {
        uint32_t told = (uint32_t)get(p + AT_DIMS + 4 * i, 4);
        if (told != dims[i].value)
            return error_set(error, ERROR_STATE, "The state was saved with another %s: %u, here %u.", dims[i].name,
                             told, dims[i].value);
    }
    if (memcmp(p + AT_KEY, e->info.state_key, sizeof e->info.state_key))
        return error_set(error, ERROR_STATE, "The state was saved with another model file or other dtypes.");
    return 0;
}

static int check_range(const struct engine *e, const struct state_check *c, const unsigned char *p,
                       struct state_piece *out, struct error *error)
{
    uint64_t first = get(p + AT_FIRST, 8), count = get(p + AT_COUNT, 8);
    if (!count || first > c->count_ids || count > c->count_ids - first || (c->kind == STATE_SNAPSHOT && first))
        return error_set(error, ERROR_STATE, "The state covers tokens %llu to %llu of a text of %zu.",
                         (unsigned long long)first, (unsigned long long)(first + count), c->count_ids);
    size_t payload = state_payload_bytes(e, c->kind, count);
    if (get(p + AT_PAYLOAD, 8) != payload || c->size - STATE_HEADER != payload)
        return error_set(error, ERROR_STATE, "The state has %zu bytes of payload, %llu are told and %zu expected.",
                         c->size - STATE_HEADER, (unsigned long long)get(p + AT_PAYLOAD, 8), payload);
    *out = (struct state_piece){.kind = c->kind, .first = first, .count = count, .payload = payload};
    return 0;
}

static int check_sum(const unsigned char *p, size_t size, struct error *error)
{
    unsigned char sum[STATE_HASH];
    int rc = checksum(p, size, sum, error);
    if (!rc && memcmp(sum, p + AT_SUM, sizeof sum))
        rc = error_set(error, ERROR_STATE, "The state is damaged: its checksum is wrong.");
    return rc;
}

int state_blob_verify(const void *bytes, size_t size, struct error *error)
{
    int rc = check_form(bytes, size, error);
    return rc ? rc : check_sum(bytes, size, error);
}

int state_blob_check(const struct engine *e, const struct state_check *c, struct id_hash *hash, struct state_piece *out,
                     struct error *error)
{
    const unsigned char *p = c->bytes;
    unsigned char sum[STATE_HASH];
    int rc;
    if ((rc = check_form(p, c->size, error)) || (rc = check_kind(c, p, error)) || (rc = check_model(e, c, p, error)) ||
        (rc = check_range(e, c, p, out, error)) || (!c->is_verified && (rc = check_sum(p, c->size, error))))
        return rc;
    if ((rc = id_hash_at(hash, c->ids, (size_t)(out->first + out->count), sum, error))) return rc;
    if (memcmp(sum, p + AT_IDS, sizeof sum)) return error_set(error, ERROR_STATE, "The state belongs to another text.");
    return 0;
}
