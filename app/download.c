/* SPDX-License-Identifier: MIT
 *
 * The course of a download: ask what the file is, settle whether the part is of that file, make room, fetch what is
 * missing, look at the hash of the whole, put it in place. Where the server turns out to have changed, it begins again.
 */
#include "app/download_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "app/progress.h"

#define ROUNDS_MOST 4u /* times that the first address is asked anew in one run */
#define PROBE_RETRIES_MOST 3u

#if defined(__GNUC__)
__attribute__((format(printf, 2, 3)))
#endif
static void
say(const struct download *d, const char *format, ...)
{
    char sentence[600];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof sentence, format, args);
    va_end(args);
    d->params->hooks->say(d->params->hooks->ctx, sentence);
}

/* ------------------------------------------------------------------------------------------------- asking */

static int set_first_url(struct download *d, const char *revision, struct error *error)
{
    const struct download_source *s = &d->params->source;
    int n = snprintf(d->first_url, sizeof d->first_url, "%s%s%s", s->before, s->revision ? revision : "",
                     s->after ? s->after : "");
    if (n < 0 || (size_t)n >= sizeof d->first_url) return error_set(error, ERROR_USAGE, "The address is too long.");
    return download_check_url(d->first_url, error);
}

/* The address as the user asked for it. */
static void asked_url(const struct download *d, char out[MANIFEST_URL_MOST + 1])
{
    const struct download_source *s = &d->params->source;
    snprintf(out, MANIFEST_URL_MOST + 1, "%s%s%s", s->before, s->revision ? s->revision : "", s->after ? s->after : "");
}

/* Waits; false when the user stops it. */
static bool pause_for(const struct download *d, uint64_t ms)
{
    const struct download_hooks *hooks = d->params->hooks;
    for (uint64_t until = clock_ms() + ms; clock_ms() < until;) {
        if (!hooks->tick(hooks->ctx, DOWNLOAD_FETCHING, d->here, d->m.size)) return false;
        nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
    }
    return true;
}

static int ask(struct download *d, struct error *error)
{
    uint32_t most = d->params->retries < PROBE_RETRIES_MOST ? d->params->retries : PROBE_RETRIES_MOST;
    uint64_t retry_after = UINT64_MAX;
    remote_free(&d->remote);
    for (unsigned failures = 1;; failures++) {
        enum fault fault = http_probe(d, &d->remote, &retry_after, error);
        if (!fault) return 0;
        if (fault != FAULT_RETRY || failures > most) return (int)error->code;
        if (!pause_for(d, backoff_ms(failures, retry_after))) return error_set(error, ERROR_CANCELLED, "Stopped.");
    }
}

/* --------------------------------------------------------------------------------------------- which file */

/* Does what the server says agree with what we knew before we asked? */
static int check_known(const struct download *d, struct error *error)
{
    const struct download_params *p = d->params;
    char ours[65], theirs[65];
    const char *who = manifest_trust_name(p->trust);
    const char *way = p->trust == TRUST_CATALOGUE ? "; hf:OWNER/REPOSITORY/FILE takes what is there" : "";
    if (p->size && p->size != d->remote.size)
        return error_set(error, ERROR_FAILED,
                         "The server's file has %" PRIu64 " bytes, the %s says %" PRIu64 ": it was not downloaded%s.",
                         d->remote.size, who, p->size, way);
    if (p->sha256 && d->remote.has_sha256 && memcmp(p->sha256, d->remote.sha256, 32))
        return error_set(error, ERROR_FAILED,
                         "The server's file has SHA-256 %s, the %s says %s: it was not downloaded%s.",
                         hash_to_hex(d->remote.sha256, theirs), who, hash_to_hex(p->sha256, ours), way);
    return 0;
}

/* The hash that the whole must have, as far as anybody says. */
static enum manifest_trust known_hash(const struct download *d, uint8_t out[32])
{
    if (d->params->sha256) return memcpy(out, d->params->sha256, 32), d->params->trust;
    if (d->remote.has_sha256) return memcpy(out, d->remote.sha256, 32), TRUST_SERVER;
    return TRUST_NONE;
}

/* Is the part of the file that the server has? The same hash is proof; else the same address and entity tag. */
static bool is_same_file(const struct download *d, const struct manifest *m)
{
    uint8_t hash[32];
    char asked[MANIFEST_URL_MOST + 1];
    asked_url(d, asked);
    if (m->size != d->remote.size) return false;
    bool pinned = m->trust == TRUST_CATALOGUE || m->trust == TRUST_USER || m->trust == TRUST_SERVER;
    if (pinned && known_hash(d, hash)) return !memcmp(hash, m->sha256, sizeof hash);
    return !strcmp(m->url, asked) && etag_is_strong(m->etag) && !strcmp(m->etag, d->remote.etag);
}

/* An empty manifest of what the server says. */
static int describe_remote(struct download *d, struct error *error)
{
    char url[MANIFEST_URL_MOST + 1];
    manifest_free(&d->m);
    asked_url(d, url);
    uint64_t chunk = d->params->chunk;
    while (d->remote.size / chunk >= MANIFEST_CHUNKS_MOST && chunk < MANIFEST_CHUNK_MOST) chunk *= 2;
    int rc = manifest_init(&d->m, url, d->remote.size, chunk, error);
    if (rc) return rc;
    d->m.trust = known_hash(d, d->m.sha256);
    return 0;
}

static void pin_remote(struct download *d)
{
    memcpy(d->m.etag, d->remote.etag, sizeof d->m.etag);
    if (d->params->source.revision) memcpy(d->m.revision, d->remote.commit, sizeof d->m.revision);
}

static int begin_anew(struct download *d, struct error *error)
{
    char hex[65];
    part_discard(d);
    int rc = describe_remote(d, error);
    if (rc) return rc;
    if (d->m.trust == TRUST_SERVER)
        say(d, "lectern knows no hash of this file; the server says SHA-256 %s, which is pinned now.",
            hash_to_hex(d->m.sha256, hex));
    if (d->m.trust == TRUST_NONE)
        say(d, "Nobody says what SHA-256 this file has; the one that it turns out to have is kept.");
    return 0;
}

/* After asking: go on with the part, or begin anew. */
static int settle(struct download *d, struct error *error)
{
    int rc = check_known(d, error);
    if (rc) return rc;
    bool had = d->m.n_chunks > 0, goes_on = had && is_same_file(d, &d->m);
    if (!goes_on && d->params->repair)
        return error_set(error, ERROR_FAILED, "The server has another file now: the one here is left as it is.");
    if (had && !goes_on) say(d, "The part that is here is of another version of the file: it is fetched anew.");
    if (!goes_on) rc = begin_anew(d, error);
    if (rc) return rc;
    pin_remote(d);
    d->here = manifest_bytes_here(&d->m);
    return *d->m.revision ? set_first_url(d, d->m.revision, error) : 0;
}

/* The file at its size, what is said to be here read again. */
static int prepare(struct download *d, struct error *error)
{
    size_t bad = 0;
    char here[32], size[32];
    if (d->file >= 0) close(d->file);
    free(d->buffer);
    d->buffer = malloc((size_t)d->m.chunk);
    int rc = part_open(d, error);
    if (!d->buffer) return out_of_memory(error);
    if (!rc) rc = part_check(d, &bad, error);
    if (rc) return rc;
    if (bad) say(d, "%zu of the chunks that are here %s damaged and fetched again.", bad, bad == 1 ? "is" : "are");
    if (d->here) say(d, "%s of %s are here already.", format_bytes(d->here, here), format_bytes(d->m.size, size));
    return part_save(d, error);
}

/* ----------------------------------------------------------------------------------------------- fetching */

/* Asks anew after the server answered otherwise than it had said. */
static int ask_anew(struct download *d, enum fault fault, unsigned rounds, struct error *error)
{
    struct error why = *error;
    if (rounds >= ROUNDS_MOST) return error_set(error, ERROR_FAILED, "%s", why.text);
    if (fault != FAULT_NO_RANGE && !pause_for(d, backoff_ms(rounds, UINT64_MAX)))
        return error_set(error, ERROR_CANCELLED, "Stopped; what has arrived is kept, run it again to go on.");
    char etag[MANIFEST_ETAG_MOST + 1];
    memcpy(etag, d->remote.etag, sizeof etag);
    int rc = ask(d, error);
    if (rc) return rc;
    bool is_other = strcmp(etag, d->remote.etag) || d->remote.size != d->m.size;
    if (fault == FAULT_NO_RANGE && !is_other) d->remote.takes_ranges = false;
    bool differs = d->m.size != d->remote.size || !is_same_file(d, &d->m);
    rc = settle(d, error);
    return rc || !(differs || is_other) ? rc : prepare(d, error);
}

/* Until no chunk is missing. */
static int fetch(struct download *d, struct error *error)
{
    enum fault fault = FAULT_NONE;
    unsigned rounds = 0;
    do {
        uint64_t before = d->here;
        int rc = ranges_fetch(d, &fault, error);
        rounds = d->here > before ? 1 : rounds + 1;
        if (!rc && fault) rc = ask_anew(d, fault, rounds, error);
        if (rc) return rc;
        while (!fault && part_advance(d)) continue;
        if (d->spoiled > SPOILED_MOST)
            return error_set(error, ERROR_DISK, "The disk gives back other bytes than were written.");
    } while (fault || (!d->second_look && d->hashed < d->m.n_chunks));
    return 0;
}

static int whole_hash(struct download *d, uint8_t out[32], struct error *error)
{
    size_t bad = 0;
    int rc = 0;
    /* After a second look the chunks are read again; before it their hash is there already. */
    if (d->hashed != d->m.n_chunks) rc = part_check(d, &bad, error);
    if (!rc && bad) return error_set(error, ERROR_DISK, "The disk gives back other bytes than were written.");
    if (!rc && !EVP_DigestFinal_ex(d->whole, out, NULL))
        rc = error_set(error, ERROR_FAILED, "The file could not be hashed.");
    return rc;
}

/* The whole is wrong though every chunk is as it arrived: fetches chunks a second time until one comes otherwise. */
static int look_again(struct download *d, struct error *error)
{
    if (!d->second_look) {
        say(d, "The whole has another SHA-256 than it should: its chunks are fetched again and compared.");
        for (size_t i = 0; i < d->m.n_chunks; i++) d->m.chunks[i].state = CHUNK_SUSPECT;
    }
    d->second_look = true;
    d->differing = 0;
    int rc = fetch(d, error);
    return rc ? rc : part_restart_hash(d, error);
}

static bool has_suspects(const struct download *d)
{
    for (size_t i = 0; i < d->m.n_chunks; i++)
        if (d->m.chunks[i].state == CHUNK_SUSPECT) return true;
    return false;
}

static int verify(struct download *d, struct error *error)
{
    uint8_t hash[32];
    char ours[65], theirs[65];
    for (;;) {
        int rc = whole_hash(d, hash, error);
        if (rc) return rc;
        if (d->m.trust == TRUST_NONE || !memcmp(hash, d->m.sha256, sizeof hash)) break;
        if (d->second_look && !has_suspects(d)) {
            part_discard(d);
            return error_set(error, ERROR_FAILED,
                             "What the server sends has SHA-256 %s and not %s: it is not installed.",
                             hash_to_hex(hash, theirs), hash_to_hex(d->m.sha256, ours));
        }
        rc = look_again(d, error);
        if (rc) return rc;
    }
    for (size_t i = 0; i < d->m.n_chunks; i++) d->m.chunks[i].state = CHUNK_HERE;
    if (d->m.trust == TRUST_NONE) d->m.trust = TRUST_COMPUTED;
    memcpy(d->m.sha256, hash, sizeof hash);
    return 0;
}

/* ----------------------------------------------------------------------------------------------- the whole */

/* Reads the part's manifest; a damaged one, or one without its part, is as good as none. */
static int find_part(struct download *d, struct error *error)
{
    bool found = false;
    struct error why;
    struct stat status;
    if (manifest_read(&d->m, d->dir, d->part_manifest, &found, &why)) say(d, "%s The file is fetched anew.", why.text);
    if (found && fstatat(d->dir, d->part, &status, AT_SYMLINK_NOFOLLOW)) manifest_free(&d->m);
    return set_first_url(d, *d->m.revision ? d->m.revision : d->params->source.revision, error);
}

/* repair: what is installed becomes the part. Until the server is found to have the same file, it can go back. */
static int uninstall(const struct download *d, struct error *error)
{
    if (renameat(d->dir, d->manifest, d->dir, d->part_manifest))
        return error_set(error, ERROR_FAILED, "%.200s has no manifest: remove it and pull it again.", d->params->name);
    if (renameat(d->dir, d->params->name, d->dir, d->part))
        return error_set(error, ERROR_DISK, "%.200s cannot be renamed: %s.", d->params->name, strerror(errno));
    return 0;
}

/* repair that never came to change anything: back to what was. */
static void reinstall(const struct download *d)
{
    if (!renameat(d->dir, d->part, d->dir, d->params->name)) renameat(d->dir, d->part_manifest, d->dir, d->manifest);
}

/* A part that is here is left as it is: whether it is of this file is settled when it is gone on with. */
static int only_ask(struct download *d, struct error *error)
{
    struct stat status;
    int rc = find_part(d, error);
    if (!rc) rc = ask(d, error);
    if (!rc) rc = check_known(d, error);
    if (rc) return rc;
    if (!fstatat(d->dir, d->part, &status, AT_SYMLINK_NOFOLLOW)) d->taken = (uint64_t)status.st_blocks * 512;
    if (d->m.n_chunks) return 0;
    rc = describe_remote(d, error);
    if (rc) return rc;
    pin_remote(d);
    return part_save(d, error);
}

static int run(struct download *d, struct error *error)
{
    if (d->params->asks_only) return only_ask(d, error);
    int rc = d->params->repair ? uninstall(d, error) : 0;
    if (rc) return rc;
    if (!rc) rc = find_part(d, error);
    if (!rc) rc = ask(d, error);
    if (!rc) rc = settle(d, error);
    if (rc && d->params->repair) reinstall(d);
    if (!rc) rc = prepare(d, error);
    if (!rc) rc = fetch(d, error);
    if (!rc) rc = verify(d, error);
    return rc ? rc : part_install(d, error);
}

static void set_names(struct download *d)
{
    const char *name = d->params->name;
    snprintf(d->part, sizeof d->part, "%.200s.part", name);
    snprintf(d->part_manifest, sizeof d->part_manifest, "%.200s.part.manifest", name);
    snprintf(d->manifest, sizeof d->manifest, "%.200s.manifest", name);
}

static int open_all(struct download *d, struct error *error)
{
    const struct download_params *p = d->params;
    if (!download_name_is_good(p->name))
        return error_set(error, ERROR_USAGE, "\"%.200s\" cannot be the name of a model file here.", p->name);
    d->dir = open(p->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->dir < 0) return error_set(error, ERROR_DISK, "%.300s cannot be opened: %s.", p->dir, strerror(errno));
    set_names(d);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is an error like any other */
    if (curl_global_init(CURL_GLOBAL_DEFAULT)) return out_of_memory(error);
    return download_lock(d->dir, p->name, &d->lock, error);
}

int download_file(const struct download_params *params, struct download_result *out, struct error *error)
{
    struct download *d = calloc(1, sizeof *d);
    if (!d) return out_of_memory(error);
    d->params = params;
    d->dir = d->file = d->lock = -1;
    int rc = open_all(d, error);
    if (!rc) rc = run(d, error);
    *out = (struct download_result){.size = params->asks_only ? d->remote.size : d->m.size,
                                    .fetched = d->fetched,
                                    .taken = d->taken,
                                    .trust = d->m.trust};
    memcpy(out->sha256, d->m.sha256, sizeof out->sha256);
    memcpy(out->revision, d->remote.commit, sizeof out->revision);
    if (d->lock >= 0) download_unlock(d->dir, params->name, d->lock);
    if (d->file >= 0) close(d->file);
    if (d->dir >= 0) close(d->dir);
    EVP_MD_CTX_free(d->whole);
    manifest_free(&d->m);
    remote_free(&d->remote);
    free(d->buffer);
    free(d);
    curl_global_cleanup();
    return rc;
}
