/* SPDX-License-Identifier: MIT
 *
 * Many requests at once over one curl multi handle. A transfer fetches one chunk by Range and If-Range; when it breaks
 * it goes on inside its chunk after a pause. A server without ranges gets one transfer that walks through all chunks
 * from the start and keeps those that are missing. Each chunk is hashed as it arrives.
 */
#include "app/download_internal.h"

#include <string.h>
#include <time.h>

#define PROGRESS_BYTES 65536u /* as much as that since the last failure, and failures are counted anew */
#define SAVE_EVERY_MS 1000u

struct transfer {
    struct download *d;
    CURL *easy; /* NULL: not running */
    struct curl_slist *headers;
    struct reply reply;
    EVP_MD_CTX *hash; /* of the chunk so far */
    uint64_t at, end;
    uint64_t due_ms, gained; /* bytes that stay, since the last failure */
    unsigned failures;
    enum fault fault; /* found while receiving */
    struct error error;
    bool has_work, is_checked;
};

struct ranges {
    struct download *d;
    struct transfer transfers[DOWNLOAD_CONNECTIONS_MOST];
    unsigned count;
    enum fault fault;
    struct error *error;
    int rc;
    uint64_t saved_ms;
};

uint64_t clock_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

uint64_t backoff_ms(unsigned failures, uint64_t retry_after)
{
    unsigned shift = failures ? failures - 1 : 0;
    uint64_t wait = shift > 7 ? 30000 : 250ull << shift;
    uint64_t asked = retry_after > 120 ? 0 : retry_after * 1000;
    return asked > wait ? asked : wait;
}

/* ----------------------------------------------------------------------------------------------- receiving */

static enum fault transfer_fault(struct transfer *t, enum fault fault, const char *sentence)
{
    error_set(&t->error, ERROR_FAILED, "%s", sentence);
    return t->fault = fault;
}

/* Before the first byte is taken: is this the piece, of the file, that we asked for? */
static enum fault check_reply(struct transfer *t)
{
    const struct download *d = t->d;
    const struct reply *r = &t->reply;
    long status = 0;
    t->is_checked = true;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && status != 206) return FAULT_NONE; /* an error's page: http_judge speaks of it */
    if (*r->etag && *d->remote.etag && strcmp(r->etag, d->remote.etag))
        return transfer_fault(t, FAULT_CHANGED, "The file changed on the server.");
    if (status == 200) {
        curl_off_t length = -1;
        curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        if (length >= 0 && (uint64_t)length != d->m.size)
            return transfer_fault(t, FAULT_CHANGED, "The file's length changed on the server.");
        if (d->remote.takes_ranges) return transfer_fault(t, FAULT_NO_RANGE, "The whole file came instead of a range.");
        return FAULT_NONE;
    }
    if (r->range_total != d->m.size && r->range_total != UINT64_MAX)
        return transfer_fault(t, FAULT_CHANGED, "The file's length changed on the server.");
    if (r->range_first != t->at) return transfer_fault(t, FAULT_RETRY, "The server sent another range than was asked.");
    return FAULT_NONE;
}

static bool finish_chunk(struct transfer *t, size_t index)
{
    struct download *d = t->d;
    struct manifest_chunk *chunk = &d->m.chunks[index];
    uint8_t hash[32];
    if (!EVP_DigestFinal_ex(t->hash, hash, NULL)) return false;
    if (chunk->state == CHUNK_SUSPECT && memcmp(hash, chunk->sha256, sizeof hash)) d->differing++;
    if (chunk->state == CHUNK_MISSING) d->here += manifest_chunk_bytes(&d->m, index);
    memcpy(chunk->sha256, hash, sizeof hash);
    chunk->state = CHUNK_HERE;
    t->failures = 0;
    return EVP_DigestInit_ex(t->hash, EVP_sha256(), NULL);
}

/* One piece inside one chunk. */
static bool take_piece(struct transfer *t, const char *bytes, size_t n)
{
    struct download *d = t->d;
    size_t index = (size_t)(t->at / d->m.chunk);
    bool wanted = d->m.chunks[index].state != CHUNK_HERE;
    if (wanted && part_write(d, t->at, bytes, n, &t->error)) return t->fault = FAULT_FATAL, false;
    bool hashed = !wanted || EVP_DigestUpdate(t->hash, bytes, n);
    t->at += n;
    if (d->remote.takes_ranges) t->gained += n;
    bool ends = t->at % d->m.chunk == 0 || t->at == d->m.size;
    if (hashed && (!wanted || !ends || finish_chunk(t, index))) return true;
    transfer_fault(t, FAULT_FATAL, "The file could not be hashed.");
    return false;
}

static size_t on_body(char *bytes, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    size_t left = size * n;
    if (!t->is_checked && check_reply(t)) return CURL_WRITEFUNC_ERROR;
    long status = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    if (status != 200 && status != 206) return left > PROGRESS_BYTES ? CURL_WRITEFUNC_ERROR : left;
    if (t->reply.is_encoded) return CURL_WRITEFUNC_ERROR;
    t->d->fetched += left;
    if (left > t->end - t->at) {
        transfer_fault(t, FAULT_RETRY, "The server sent more than was asked.");
        return CURL_WRITEFUNC_ERROR;
    }
    while (left) {
        uint64_t room = t->d->m.chunk - t->at % t->d->m.chunk;
        size_t piece = left < room ? left : (size_t)room;
        if (!take_piece(t, bytes, piece)) return CURL_WRITEFUNC_ERROR;
        bytes += piece;
        left -= piece;
    }
    return size * n;
}

/* ------------------------------------------------------------------------------------- starting and ending */

static bool transfer_start(struct ranges *all, struct transfer *t)
{
    struct download *d = t->d;
    char range[64], condition[MANIFEST_ETAG_MOST + 16];
    bool good = true;
    t->fault = FAULT_NONE;
    t->is_checked = false;
    snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)t->at, (unsigned long long)t->end - 1);
    snprintf(condition, sizeof condition, "If-Range: %s", d->remote.etag);
    if (d->remote.takes_ranges && etag_is_strong(d->remote.etag))
        good = (t->headers = curl_slist_append(NULL, condition)) != NULL;
    t->easy = good ? http_get(d, d->remote.url, &t->reply, &t->headers) : NULL;
    if (!t->easy) return false;
    if (d->remote.takes_ranges) good = !curl_easy_setopt(t->easy, CURLOPT_RANGE, range);
    curl_easy_setopt(t->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(t->easy, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(t->easy, CURLOPT_PRIVATE, t);
    return good && !curl_multi_add_handle(all->d->multi, t->easy);
}

static void transfer_stop(struct ranges *all, struct transfer *t)
{
    if (t->easy) {
        curl_multi_remove_handle(all->d->multi, t->easy);
        curl_easy_cleanup(t->easy);
    }
    curl_slist_free_all(t->headers);
    t->easy = NULL;
    t->headers = NULL;
}

/* Gives the transfer the next chunk that nobody has; false when there is none. */
static bool find_work(struct transfer *t)
{
    struct download *d = t->d;
    struct manifest *m = &d->m;
    for (size_t i = 0; i < m->n_chunks; i++) {
        struct manifest_chunk *c = &m->chunks[i];
        bool wanted = c->state == CHUNK_MISSING || (c->state == CHUNK_SUSPECT && !d->differing);
        if (!wanted || c->is_taken) continue;
        c->is_taken = d->remote.takes_ranges;
        t->at = d->remote.takes_ranges ? i * m->chunk : 0;
        t->end = d->remote.takes_ranges ? t->at + manifest_chunk_bytes(m, i) : m->size;
        return t->has_work = EVP_DigestInit_ex(t->hash, EVP_sha256(), NULL) != 0;
    }
    return false;
}

static void transfer_is_done(struct transfer *t)
{
    struct download *d = t->d;
    if (d->remote.takes_ranges) d->m.chunks[(t->end - 1) / d->m.chunk].is_taken = false;
    t->has_work = false;
}

static void ranges_stop(struct ranges *all, enum fault fault, const struct error *why)
{
    if (all->fault) return;
    all->fault = fault;
    if (all->error) *all->error = *why;
    all->rc = fault == FAULT_FATAL ? (int)why->code : 0;
}

static void retry_later(struct ranges *all, struct transfer *t)
{
    struct download *d = t->d;
    if (t->gained >= PROGRESS_BYTES) t->failures = 0;
    t->gained = 0;
    if (++t->failures > d->params->retries) {
        char last[300];
        int n = snprintf(last, sizeof last, "%.290s", t->error.text);
        if (n > 0 && last[n - 1] == '.') last[n - 1] = 0;
        error_set(&t->error, ERROR_FAILED,
                  "%s; given up after %u tries, what has arrived is kept: run it again to go on.", last, t->failures);
        ranges_stop(all, FAULT_FATAL, &t->error);
        return;
    }
    t->due_ms = clock_ms() + backoff_ms(t->failures, t->reply.retry_after);
    /* A range goes on inside its chunk, and so does its hash; a stream begins anew. */
    if (!d->remote.takes_ranges) t->has_work = false;
}

/* A request ended: well, or with a fault found by us (t->fault), or by curl and the status. */
static void transfer_ended(struct ranges *all, struct transfer *t, CURLcode code)
{
    enum fault fault = t->fault;
    if (!fault) fault = http_judge(t->easy, code, &t->reply, &t->error);
    transfer_stop(all, t);
    if (!fault && t->at == t->end) {
        transfer_is_done(t);
        return;
    }
    if (!fault) fault = transfer_fault(t, FAULT_RETRY, "The server sent less than was asked.");
    if (fault == FAULT_RETRY)
        retry_later(all, t);
    else
        ranges_stop(all, fault, &t->error);
}

/* -------------------------------------------------------------------------------------------------- the loop */

/* Starts what is due. Returns how many transfers have work. */
static unsigned start_transfers(struct ranges *all)
{
    unsigned busy = 0;
    uint64_t now = clock_ms();
    for (unsigned i = 0; i < all->count && !all->fault; i++) {
        struct transfer *t = &all->transfers[i];
        if (!t->has_work && !find_work(t)) continue;
        busy++;
        if (t->easy || now < t->due_ms) continue;
        if (!transfer_start(all, t)) {
            out_of_memory(&t->error);
            ranges_stop(all, FAULT_FATAL, &t->error);
        }
    }
    return busy;
}

static void take_messages(struct ranges *all)
{
    int left;
    for (CURLMsg *message; (message = curl_multi_info_read(all->d->multi, &left));) {
        struct transfer *t = NULL;
        if (message->msg != CURLMSG_DONE) continue;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, (char **)&t);
        transfer_ended(all, t, message->data.result);
    }
}

/* Hashing, the manifest now and then, and the user. */
static void housekeeping(struct ranges *all)
{
    struct download *d = all->d;
    const struct download_hooks *hooks = d->params->hooks;
    struct error error;
    part_advance(d);
    if (d->spoiled > SPOILED_MOST) {
        error_set(&error, ERROR_DISK, "The disk gives back other bytes than were written.");
        ranges_stop(all, FAULT_FATAL, &error);
    }
    if (clock_ms() - all->saved_ms >= SAVE_EVERY_MS) {
        if (part_save(d, &error)) ranges_stop(all, FAULT_FATAL, &error);
        all->saved_ms = clock_ms();
    }
    uint64_t partial = 0;
    for (unsigned i = 0; d->remote.takes_ranges && i < all->count; i++)
        if (all->transfers[i].has_work) partial += all->transfers[i].at % d->m.chunk;
    uint64_t shown = d->here + partial < d->m.size ? d->here + partial : d->m.size;
    if (hooks->tick(hooks->ctx, DOWNLOAD_FETCHING, shown, d->m.size)) return;
    error_set(&error, ERROR_CANCELLED, "Stopped; what has arrived is kept, run it again to go on.");
    ranges_stop(all, FAULT_FATAL, &error);
}

static int ranges_begin(struct ranges *all, struct error *error)
{
    struct download *d = all->d;
    all->count = d->remote.takes_ranges ? d->params->connections : 1;
    if (all->count > DOWNLOAD_CONNECTIONS_MOST) all->count = DOWNLOAD_CONNECTIONS_MOST;
    d->multi = curl_multi_init();
    if (!d->multi) return out_of_memory(error);
    for (unsigned i = 0; i < all->count; i++) {
        all->transfers[i].d = d;
        all->transfers[i].hash = EVP_MD_CTX_new();
        if (!all->transfers[i].hash) return out_of_memory(error);
    }
    return 0;
}

static void ranges_end(struct ranges *all)
{
    struct download *d = all->d;
    for (unsigned i = 0; i < DOWNLOAD_CONNECTIONS_MOST; i++) {
        transfer_stop(all, &all->transfers[i]);
        EVP_MD_CTX_free(all->transfers[i].hash);
    }
    for (size_t i = 0; i < d->m.n_chunks; i++) d->m.chunks[i].is_taken = false;
    if (d->multi) curl_multi_cleanup(d->multi);
    d->multi = NULL;
}

int ranges_fetch(struct download *d, enum fault *fault, struct error *error)
{
    struct ranges all = {.d = d, .error = error, .saved_ms = clock_ms()};
    int rc = ranges_begin(&all, error), running;
    while (!rc && !all.fault && start_transfers(&all) && !all.fault) {
        curl_multi_perform(d->multi, &running);
        take_messages(&all);
        housekeeping(&all);
        if (!all.fault) curl_multi_poll(d->multi, NULL, 0, 100, NULL);
    }
    ranges_end(&all);
    *fault = all.fault;
    struct error ignored;
    int save = d->m.n_chunks ? part_save(d, rc || all.rc ? &ignored : error) : 0;
    return rc ? rc : all.rc ? all.rc : save;
}
