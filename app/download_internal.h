/* SPDX-License-Identifier: MIT
 *
 * What the parts of a download share: download.c (the course of it), download_http.c (addresses, one request),
 * download_part.c (the file on the disk), download_ranges.c (many requests at once).
 */
#ifndef LECTERN_APP_DOWNLOAD_INTERNAL_H
#define LECTERN_APP_DOWNLOAD_INTERNAL_H

#include <curl/curl.h>
#include <openssl/evp.h>

#include "app/download.h"

#define DOWNLOAD_CONNECTIONS_MOST 16u
#define SPOILED_MOST 16u /* chunks that the disk may give back wrong before we give it up */

/* Headers of the last reply. Numbers are UINT64_MAX and texts "" when absent or unreadable. */
struct reply {
    char etag[MANIFEST_ETAG_MOST + 1];
    char commit[41];
    uint64_t range_first, range_total; /* Content-Range */
    uint64_t linked_size, retry_after;
    uint8_t linked_sha256[32];
    bool has_linked_sha256, is_encoded;
};

/* What the server says the file is. */
struct remote {
    char *url; /* after the redirects; owned */
    char etag[MANIFEST_ETAG_MOST + 1];
    char commit[41];
    uint64_t size;
    uint8_t sha256[32];
    bool has_sha256, takes_ranges;
};

enum fault {
    FAULT_NONE,
    FAULT_RETRY,    /* worth another try */
    FAULT_MOVED,    /* the address does not serve any more: ask the first one again */
    FAULT_CHANGED,  /* another file than the one we began with */
    FAULT_NO_RANGE, /* the whole came instead of a range */
    FAULT_FATAL,
};

struct download {
    const struct download_params *params;
    char first_url[MANIFEST_URL_MOST + 1]; /* what is asked, with the pinned revision */
    char part[DOWNLOAD_NAME_MOST + 32], part_manifest[DOWNLOAD_NAME_MOST + 32], manifest[DOWNLOAD_NAME_MOST + 32];
    struct remote remote;
    struct manifest m;
    int dir, file, lock;
    CURLM *multi;
    EVP_MD_CTX *whole; /* SHA-256 of the first `hashed` chunks */
    size_t hashed;
    unsigned char *buffer; /* [m.chunk] */
    uint64_t here;         /* bytes of chunks that are here */
    uint64_t fetched;
    uint64_t taken;     /* bytes of disk under the part, when only asking */
    unsigned spoiled;   /* chunks that were right on arrival and wrong when read back */
    unsigned differing; /* second look: chunks that came otherwise than before */
    bool second_look;
};

int out_of_memory(struct error *);

/* ---- download_http.c */
/* A handle for GET of url, set up with our rules; reply is filled while it runs. *headers is to be freed after it. */
CURL *http_get(const struct download *, const char *url, struct reply *, struct curl_slist **headers);
void reply_clear(struct reply *);
/* What a curl result and a status mean, with a sentence when it is a fault. */
enum fault http_judge(CURL *, CURLcode, const struct reply *, struct error *);
/* Asks the first address and follows its redirects. */
enum fault http_probe(const struct download *, struct remote *, uint64_t *retry_after, struct error *);
void remote_free(struct remote *);
bool etag_is_strong(const char *etag);

/* ---- download_part.c */
int part_open(struct download *, struct error *); /* room first, then the file at its full size */
/* Reads chunks that are said to be here; wrong ones become missing. *bad counts them. */
int part_check(struct download *, size_t *bad, struct error *);
/* Takes the next chunk into the whole's hash, when it is here. true: did something. */
bool part_advance(struct download *);
int part_write(struct download *, uint64_t at, const void *bytes, size_t n, struct error *);
int part_save(struct download *, struct error *); /* the manifest */
int part_restart_hash(struct download *, struct error *);
int part_install(struct download *, struct error *); /* sync, rename, sync */
void part_discard(struct download *);

/* ---- download_ranges.c */
/* Fetches all that is missing. On a fault of CHANGED, MOVED: 0 with *fault set. */
int ranges_fetch(struct download *, enum fault *fault, struct error *);
uint64_t clock_ms(void);
uint64_t backoff_ms(unsigned failures, uint64_t retry_after);

#endif
