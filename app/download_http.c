/* SPDX-License-Identifier: MIT
 *
 * Addresses and single requests. Redirects are followed here and not by libcurl, because each hop is judged: https, or
 * http between loopback hosts; our token and .netrc for the first origin only; what the first origin says of the file
 * (commit, length, SHA-256) is taken from it alone.
 */
#include "app/download_internal.h"

#include <ctype.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REDIRECTS_MOST 5
#define REQUEST_BODY_MOST 65536u

int out_of_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory.");
}

/* ----------------------------------------------------------------------------------------------- addresses */

struct origin {
    char *scheme, *host, *port;
    bool has_login;
};

static void origin_free(struct origin *o)
{
    curl_free(o->scheme);
    curl_free(o->host);
    curl_free(o->port);
}

/* false when it cannot be read as an address. */
static bool origin_of(const char *url, struct origin *o)
{
    *o = (struct origin){0};
    char *user = NULL, *password = NULL;
    CURLU *u = curl_url();
    bool good = u && !curl_url_set(u, CURLUPART_URL, url, 0) && !curl_url_get(u, CURLUPART_SCHEME, &o->scheme, 0) &&
                !curl_url_get(u, CURLUPART_HOST, &o->host, 0) &&
                !curl_url_get(u, CURLUPART_PORT, &o->port, CURLU_DEFAULT_PORT);
    if (good) {
        o->has_login = !curl_url_get(u, CURLUPART_USER, &user, 0);
        o->has_login = !curl_url_get(u, CURLUPART_PASSWORD, &password, 0) || o->has_login;
    }
    curl_free(user);
    curl_free(password);
    curl_url_cleanup(u);
    return good;
}

static bool host_is_loopback(const char *host)
{
    return !strcasecmp(host, "localhost") || !strcmp(host, "127.0.0.1") || !strcmp(host, "[::1]");
}

static bool url_is_loopback(const char *url)
{
    struct origin o;
    bool is = origin_of(url, &o) && host_is_loopback(o.host);
    origin_free(&o);
    return is;
}

int download_check_url(const char *url, struct error *error)
{
    struct origin o;
    int rc = 0;
    if (!origin_of(url, &o) || strlen(url) > MANIFEST_URL_MOST)
        rc = error_set(error, ERROR_USAGE, "\"%.120s\" is not an address.", url);
    else if (o.has_login)
        rc = error_set(error, ERROR_USAGE, "An address must not hold a user name or a password: use ~/.netrc.");
    else if (strcasecmp(o.scheme, "https") && (strcasecmp(o.scheme, "http") || !host_is_loopback(o.host)))
        rc = error_set(error, ERROR_USAGE, "Only https is used (http for this machine alone), not %.20s to %.100s.",
                       o.scheme, o.host);
    for (const char *c = url; !rc && *c; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7f)
            rc = error_set(error, ERROR_USAGE, "An address must not hold spaces or control characters.");
    origin_free(&o);
    return rc;
}

bool download_same_origin(const char *a, const char *b)
{
    struct origin x, y = {0};
    bool same = origin_of(a, &x) && origin_of(b, &y) && !strcasecmp(x.scheme, y.scheme) &&
                !strcasecmp(x.host, y.host) && !strcmp(x.port, y.port);
    origin_free(&x);
    origin_free(&y);
    return same;
}

bool etag_is_strong(const char *etag)
{
    return etag[0] == '"';
}

/* ------------------------------------------------------------------------------------------------- headers */

void reply_clear(struct reply *r)
{
    *r = (struct reply){
        .range_first = UINT64_MAX, .range_total = UINT64_MAX, .linked_size = UINT64_MAX, .retry_after = UINT64_MAX};
}

static uint64_t parse_number(const char **text)
{
    uint64_t value = 0;
    const char *at = *text;
    for (; *at >= '0' && *at <= '9'; at++) {
        if (value > (UINT64_MAX - 9) / 10) return UINT64_MAX;
        value = value * 10 + (uint64_t)(*at - '0');
    }
    if (at == *text) return UINT64_MAX;
    *text = at;
    return value;
}

/* "bytes 0-99/1000" */
static void parse_range(struct reply *r, const char *value)
{
    if (strncasecmp(value, "bytes ", 6)) return;
    value += 6;
    uint64_t first = parse_number(&value);
    if (*value++ != '-' || parse_number(&value) == UINT64_MAX || *value++ != '/') return;
    r->range_first = first;
    r->range_total = parse_number(&value);
}

/* A quoted or weak entity tag of visible ASCII, else nothing. */
static void parse_etag(char out[MANIFEST_ETAG_MOST + 1], const char *value)
{
    size_t len = strlen(value);
    bool good = len >= 2 && len <= MANIFEST_ETAG_MOST && value[len - 1] == '"' &&
                (value[0] == '"' || !strncmp(value, "W/\"", 3));
    for (size_t i = 0; good && i < len; i++) good = value[i] > ' ' && value[i] < 0x7f;
    if (good) memcpy(out, value, len + 1);
}

static void parse_linked_etag(struct reply *r, const char *value)
{
    char hex[65];
    size_t len = strlen(value);
    bool quoted = len == 66 && value[0] == '"' && value[65] == '"';
    if (!quoted && len != 64) return;
    memcpy(hex, value + quoted, 64);
    hex[64] = 0;
    r->has_linked_sha256 = hash_from_hex(hex, r->linked_sha256);
}

static void parse_commit(struct reply *r, const char *value)
{
    if (strlen(value) != 40 || strspn(value, "0123456789abcdef") != 40) return;
    memcpy(r->commit, value, 41);
}

static void take_header(struct reply *r, const char *name, const char *value)
{
    const char *number = value;
    if (!strcasecmp(name, "etag"))
        parse_etag(r->etag, value);
    else if (!strcasecmp(name, "content-range"))
        parse_range(r, value);
    else if (!strcasecmp(name, "content-encoding"))
        r->is_encoded = strcasecmp(value, "identity") != 0;
    else if (!strcasecmp(name, "retry-after"))
        r->retry_after = parse_number(&number);
    else if (!strcasecmp(name, "x-linked-size"))
        r->linked_size = parse_number(&number);
    else if (!strcasecmp(name, "x-linked-etag"))
        parse_linked_etag(r, value);
    else if (!strcasecmp(name, "x-repo-commit"))
        parse_commit(r, value);
}

static size_t on_header(char *bytes, size_t size, size_t n, void *ctx)
{
    char line[1024];
    size_t len = size * n;
    if (len >= 5 && !strncmp(bytes, "HTTP/", 5)) reply_clear(ctx);
    if (len >= sizeof line) return len; /* none of ours is that long */
    memcpy(line, bytes, len);
    line[len] = 0;
    for (size_t end = len; end && isspace((unsigned char)line[end - 1]); end--) line[end - 1] = 0;
    char *colon = strchr(line, ':');
    if (!colon || strlen(line) > len) return len;
    *colon++ = 0;
    while (*colon == ' ' || *colon == '\t') colon++;
    take_header(ctx, line, colon);
    return len;
}

/* ------------------------------------------------------------------------------------------------ requests */

static bool add_token(const struct download *d, struct curl_slist **headers)
{
    size_t size = strlen(d->params->token) + 32;
    char *line = malloc(size);
    if (!line) return false;
    snprintf(line, size, "Authorization: Bearer %s", d->params->token);
    *headers = curl_slist_append(*headers, line);
    free(line);
    return *headers != NULL;
}

/* Whom to trust beside, or instead of, the system's authorities: the variables that curl and OpenSSL know. */
static void set_authorities(CURL *c)
{
    static const char *const files[] = {"CURL_CA_BUNDLE", "SSL_CERT_FILE"};
    const char *folder = getenv("SSL_CERT_DIR");
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        const char *file = getenv(files[i]);
        if (!file || !*file) continue;
        curl_easy_setopt(c, CURLOPT_CAINFO, file);
        break;
    }
    if (folder && *folder) curl_easy_setopt(c, CURLOPT_CAPATH, folder);
}

CURL *http_get(const struct download *d, const char *url, struct reply *reply, struct curl_slist **headers)
{
    CURL *c = curl_easy_init();
    if (!c) return NULL;
    bool is_first = download_same_origin(url, d->first_url);
    bool good = !curl_easy_setopt(c, CURLOPT_URL, url);
    good = good && !curl_easy_setopt(c, CURLOPT_PROTOCOLS_STR, url_is_loopback(url) ? "http,https" : "https");
    curl_easy_setopt(c, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(c, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(c, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT, (long)d->params->stall_seconds);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_LIMIT, 1024L);
    curl_easy_setopt(c, CURLOPT_LOW_SPEED_TIME, (long)d->params->stall_seconds);
    curl_easy_setopt(c, CURLOPT_USERAGENT, "lectern/" LECTERN_VERSION);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, reply);
    set_authorities(c);
    if (url_is_loopback(url)) curl_easy_setopt(c, CURLOPT_PROXY, "");
    if (is_first && !d->params->token) curl_easy_setopt(c, CURLOPT_NETRC, (long)CURL_NETRC_OPTIONAL);
    if (is_first && d->params->token) good = good && add_token(d, headers);
    if (*headers) curl_easy_setopt(c, CURLOPT_HTTPHEADER, *headers);
    reply_clear(reply);
    if (good) return c;
    curl_easy_cleanup(c);
    return NULL;
}

/* The host of the handle's address, for sentences. */
static const char *host_name(CURL *c, char out[101])
{
    char *url = NULL;
    struct origin o = {0};
    curl_easy_getinfo(c, CURLINFO_EFFECTIVE_URL, &url);
    bool good = url && origin_of(url, &o);
    snprintf(out, 101, "%.100s", good ? o.host : "the server");
    origin_free(&o);
    return out;
}

static enum fault judge_status(CURL *c, long status, struct error *error)
{
    char host[101];
    host_name(c, host);
    if (status == 401 || status == 403) {
        error_set(error, ERROR_FAILED,
                  "%s refuses the file (%ld): it may want a token in HF_TOKEN, or a yes to its terms.", host, status);
        return FAULT_MOVED;
    }
    if (status == 404 || status == 410) {
        error_set(error, ERROR_FAILED, "%s has no such file (%ld).", host, status);
        return FAULT_MOVED;
    }
    if (status == 416) {
        error_set(error, ERROR_FAILED, "%s says that the file ends before the range that was asked (416).", host);
        return FAULT_MOVED;
    }
    error_set(error, ERROR_FAILED, "%s answered with status %ld.", host, status);
    return status == 408 || status == 425 || status == 429 || status >= 500 ? FAULT_RETRY : FAULT_FATAL;
}

static enum fault judge_certificate(CURL *c, const char *host, struct error *error)
{
    long why = 0; /* stays unspecified where the chain is good and the name is not */
    curl_easy_getinfo(c, CURLINFO_SSL_VERIFYRESULT, &why);
    error_set(
        error, ERROR_FAILED,
        "The certificate of %s is not accepted (%s): nothing is taken from it; SSL_CERT_FILE may name an authority "
        "of your own.",
        host, why > X509_V_ERR_UNSPECIFIED ? X509_verify_cert_error_string(why) : "it is another host's");
    return FAULT_FATAL;
}

static enum fault judge_proxy(const char *host, long status, struct error *error)
{
    error_set(error, ERROR_FAILED, "The proxy does not let us through to %s (%ld).", host, status);
    return status >= 500 ? FAULT_RETRY : FAULT_FATAL;
}

static enum fault judge_result(CURL *c, CURLcode code, struct error *error)
{
    char host[101];
    long proxy = 0;
    host_name(c, host);
    curl_easy_getinfo(c, CURLINFO_HTTP_CONNECTCODE, &proxy);
    if (proxy && proxy / 100 != 2) return judge_proxy(host, proxy, error);
    switch (code) {
    case CURLE_OPERATION_TIMEDOUT:
        error_set(error, ERROR_FAILED, "%s is silent or too slow.", host);
        return FAULT_RETRY;
    case CURLE_PARTIAL_FILE:
    case CURLE_GOT_NOTHING:
    case CURLE_RECV_ERROR:
        error_set(error, ERROR_FAILED, "%s broke off.", host);
        return FAULT_RETRY;
    case CURLE_OUT_OF_MEMORY:
        out_of_memory(error);
        return FAULT_FATAL;
    case CURLE_PEER_FAILED_VERIFICATION:
        return judge_certificate(c, host, error);
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
        error_set(error, ERROR_FAILED, "%s cannot be used: %s.", host, curl_easy_strerror(code));
        return FAULT_FATAL;
    default:
        error_set(error, ERROR_FAILED, "%s cannot be reached: %s.", host, curl_easy_strerror(code));
        return FAULT_RETRY;
    }
}

enum fault http_judge(CURL *c, CURLcode code, const struct reply *reply, struct error *error)
{
    long status = 0;
    char host[101];
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &status);
    /* A body that we did not want is broken off by us (WRITE_ERROR): the status tells what it was. */
    if (code == CURLE_ABORTED_BY_CALLBACK) return error_set(error, ERROR_CANCELLED, "Stopped."), FAULT_FATAL;
    if (code != CURLE_OK && code != CURLE_WRITE_ERROR) return judge_result(c, code, error);
    if (status != 200 && status != 206) return judge_status(c, status, error);
    if (!reply->is_encoded) return FAULT_NONE;
    error_set(error, ERROR_FAILED, "%s sends the file compressed, which was not asked for.", host_name(c, host));
    return FAULT_FATAL;
}

/* ------------------------------------------------------------------------------------------------- probing */

static size_t on_probe_body(char *bytes, size_t size, size_t n, void *ctx)
{
    (void)bytes;
    size_t *sum = ctx;
    *sum += size * n;
    return *sum > REQUEST_BODY_MOST ? 0 : size * n; /* 0 breaks off: a whole file comes where one byte was asked */
}

static int on_probe_tick(void *ctx, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up)
{
    (void)total, (void)now, (void)up_total, (void)up;
    const struct download *d = ctx;
    return !d->params->hooks->tick(d->params->hooks->ctx, DOWNLOAD_FETCHING, d->here, d->m.size);
}

struct hop {
    struct reply reply;
    long status;
    uint64_t length; /* Content-Length, UINT64_MAX = not told */
    char *next;      /* where a redirect points; owned */
};

static enum fault run_hop(const struct download *d, const char *url, struct hop *hop, struct error *error)
{
    struct curl_slist *headers = NULL;
    size_t body = 0;
    char *next = NULL;
    curl_off_t length = -1;
    *hop = (struct hop){.length = UINT64_MAX};
    CURL *c = http_get(d, url, &hop->reply, &headers);
    if (!c) return out_of_memory(error), FAULT_FATAL;
    curl_easy_setopt(c, CURLOPT_RANGE, "0-0");
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_probe_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, &body);
    curl_easy_setopt(c, CURLOPT_XFERINFOFUNCTION, on_probe_tick);
    curl_easy_setopt(c, CURLOPT_XFERINFODATA, d);
    curl_easy_setopt(c, CURLOPT_NOPROGRESS, 0L);
    CURLcode code = curl_easy_perform(c);
    curl_easy_getinfo(c, CURLINFO_RESPONSE_CODE, &hop->status);
    curl_easy_getinfo(c, CURLINFO_REDIRECT_URL, &next);
    curl_easy_getinfo(c, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    if (length >= 0) hop->length = (uint64_t)length;
    enum fault fault = FAULT_NONE;
    bool is_redirect = (code == CURLE_OK || code == CURLE_WRITE_ERROR) && hop->status / 100 == 3 && next;
    if (!is_redirect)
        fault = http_judge(c, code, &hop->reply, error);
    else if (!(hop->next = strdup(next)))
        out_of_memory(error), fault = FAULT_FATAL;
    curl_easy_cleanup(c);
    curl_slist_free_all(headers);
    return fault;
}

/* What the first origin knows of the file, from whichever of its hops says it first. */
static void take_facts(struct remote *r, const struct reply *reply)
{
    if (!*r->commit) memcpy(r->commit, reply->commit, sizeof r->commit);
    if (!r->has_sha256 && reply->has_linked_sha256) {
        memcpy(r->sha256, reply->linked_sha256, sizeof r->sha256);
        r->has_sha256 = true;
    }
    if (r->size == UINT64_MAX) r->size = reply->linked_size;
}

static enum fault check_redirect(const char *from, const char *to, struct error *error)
{
    struct error why;
    if (download_check_url(to, &why)) {
        error_set(error, ERROR_FAILED, "The server sends us elsewhere, where we do not go: %s", why.text);
        return FAULT_FATAL;
    }
    /* Nobody outside may make us talk to this machine's own servers. */
    if (!url_is_loopback(to) || url_is_loopback(from)) return FAULT_NONE;
    error_set(error, ERROR_FAILED, "The server sends us to this machine itself, where we do not go.");
    return FAULT_FATAL;
}

/* The last hop: length, validator, and whether ranges work. */
static enum fault take_file(struct remote *r, const struct hop *hop, struct error *error)
{
    uint64_t size = hop->status == 206 ? hop->reply.range_total : hop->length;
    r->takes_ranges = hop->status == 206;
    memcpy(r->etag, hop->reply.etag, sizeof r->etag);
    if (hop->status == 206 && hop->reply.range_first != 0) size = UINT64_MAX;
    if (size == UINT64_MAX || !size) {
        error_set(error, ERROR_FAILED, "The server does not say how long the file is, or it is empty.");
        return FAULT_FATAL;
    }
    if (r->size != UINT64_MAX && r->size != size) {
        error_set(error, ERROR_FAILED, "The server sends %llu bytes of a file that it says has %llu.",
                  (unsigned long long)size, (unsigned long long)r->size);
        return FAULT_FATAL;
    }
    r->size = size;
    return FAULT_NONE;
}

enum fault http_probe(const struct download *d, struct remote *out, uint64_t *retry_after, struct error *error)
{
    struct remote r = {.url = strdup(d->first_url), .size = UINT64_MAX};
    enum fault fault = r.url ? FAULT_NONE : FAULT_FATAL;
    if (fault) out_of_memory(error);
    for (int redirects = 0; !fault; redirects++) {
        struct hop hop;
        fault = run_hop(d, r.url, &hop, error);
        *retry_after = hop.reply.retry_after;
        if (!fault && download_same_origin(r.url, d->first_url)) take_facts(&r, &hop.reply);
        if (!fault && !hop.next) {
            fault = take_file(&r, &hop, error);
            break;
        }
        if (!fault && redirects == REDIRECTS_MOST) {
            error_set(error, ERROR_FAILED, "The server sent us elsewhere more than %d times.", REDIRECTS_MOST);
            fault = FAULT_FATAL;
        }
        if (!fault) fault = check_redirect(r.url, hop.next, error);
        if (fault) {
            free(hop.next);
            break;
        }
        free(r.url);
        r.url = hop.next;
    }
    if (fault) remote_free(&r);
    *out = r;
    return fault;
}

void remote_free(struct remote *r)
{
    free(r->url);
    *r = (struct remote){0};
}
