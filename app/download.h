/* SPDX-License-Identifier: MIT
 *
 * One file from a server to a folder, whole and checked or not at all. Several ranges at once; what has arrived is kept
 * in NAME.part with NAME.part.manifest (app/manifest.h) and is never fetched again; NAME appears only after its SHA-256
 * is right and its bytes are on the disk. How it is done: docs/catalogue.md, "What pull does".
 */
#ifndef LECTERN_APP_DOWNLOAD_H
#define LECTERN_APP_DOWNLOAD_H

#include <stdbool.h>
#include <stdint.h>

#include "app/manifest.h"
#include "quant/error.h"

enum download_phase { DOWNLOAD_CHECKING, DOWNLOAD_FETCHING };

/* tick: a few times a second; false stops with ERROR_CANCELLED. say: one sentence for the user. Both may not be NULL.
 */
struct download_hooks {
    bool (*tick)(void *ctx, enum download_phase, uint64_t done, uint64_t total);
    void (*say)(void *ctx, const char *sentence);
    void *ctx;
};

/* The address is before + revision + after, where the revision is replaced by the commit that the server names, so that
 * going on later meets the same file; revision and after are NULL for a plain address. */
struct download_source {
    const char *before, *revision, *after;
};

struct download_params {
    struct download_source source;
    const char *dir, *name;    /* of the file; name by download_name_is_good */
    const char *token;         /* bearer token for the first host, or NULL */
    uint64_t size;             /* 0 = not known */
    const uint8_t *sha256;     /* [32], NULL = not known */
    enum manifest_trust trust; /* who says sha256 */
    uint64_t chunk;            /* bytes of a chunk */
    uint32_t connections, retries, stall_seconds;
    bool repair;    /* NAME is there but damaged: its good chunks are kept */
    bool asks_only; /* only what the server says is found out, and noted in the part's manifest; nothing is fetched */
    const struct download_hooks *hooks;
};

struct download_result {
    uint64_t size, fetched; /* bytes of the file; of them and of failed tries what came over the network now */
    uint64_t taken;         /* bytes of disk that its part takes already */
    char revision[41];      /* the commit that the server named, or "" */
    uint8_t sha256[32];
    enum manifest_trust trust; /* TRUST_COMPUTED: nobody said it beforehand */
};

/* ERROR_DISK with how much is missing, ERROR_CANCELLED, ERROR_USAGE for addresses that are not https (http: loopback
 * hosts only), else ERROR_FAILED. After any of them NAME is as it was, and the part, if worth keeping, is kept. */
int download_file(const struct download_params *, struct download_result *, struct error *);

/* ERROR_USAGE unless the address may be asked: https, or http to a loopback host; no user name or password in it. */
int download_check_url(const char *url, struct error *);
bool download_same_origin(const char *a, const char *b); /* scheme, host and port */

/* May this be the name of a model file here? Letters, digits, '.', '_', '-', '+'; not hidden; ends in .gguf. */
bool download_name_is_good(const char *name);
#define DOWNLOAD_NAME_MOST 200u

/* NAME.lock in the folder, held until unlocked; ERROR_FAILED when another process holds it. */
int download_lock(int dir, const char *name, int *lock, struct error *);
void download_unlock(int dir, const char *name, int lock);

/* ERROR_DISK unless the folder's disk has room for that many bytes more. */
int download_check_space(int dir, uint64_t bytes, struct error *);

#endif
