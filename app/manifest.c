/* SPDX-License-Identifier: MIT
 *
 * Manifests: text out, text in. What is read is hostile until the last line's hash agrees, and bounded before that.
 */
#include "app/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD "lectern-manifest 1"
#define FILE_MOST (64u << 20)

static const char *const trust_names[] = {"none", "catalogue", "user", "server", "computed"};

const char *manifest_trust_name(enum manifest_trust trust)
{
    return trust_names[trust];
}

const char *hash_to_hex(const uint8_t hash[32], char out[65])
{
    for (size_t i = 0; i < 32; i++) snprintf(out + 2 * i, 3, "%02x", (unsigned)hash[i]);
    return out;
}

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

bool hash_from_hex(const char *text, uint8_t out[32])
{
    for (size_t i = 0; i < 32; i++) {
        int high = hex_digit(text[2 * i]);
        int low = high < 0 ? -1 : hex_digit(text[2 * i + 1]);
        if (low < 0) return false;
        out[i] = (uint8_t)(high << 4 | low);
    }
    return !text[64];
}

uint64_t manifest_chunk_bytes(const struct manifest *m, size_t index)
{
    uint64_t start = index * m->chunk;
    return m->size - start < m->chunk ? m->size - start : m->chunk;
}

uint64_t manifest_bytes_here(const struct manifest *m)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < m->n_chunks; i++)
        if (m->chunks[i].state != CHUNK_MISSING) sum += manifest_chunk_bytes(m, i);
    return sum;
}

void manifest_free(struct manifest *m)
{
    free(m->chunks);
    m->chunks = NULL;
    m->n_chunks = 0;
}

/* Room for the chunks of m->size; size and chunk are set already. */
static int make_chunks(struct manifest *m, struct error *error)
{
    if (m->chunk < MANIFEST_CHUNK_LEAST || m->chunk > MANIFEST_CHUNK_MOST)
        return error_set(error, ERROR_FAILED, "A chunk must have from %u bytes to %u.", MANIFEST_CHUNK_LEAST,
                         MANIFEST_CHUNK_MOST);
    if (!m->size || (m->size - 1) / m->chunk >= MANIFEST_CHUNKS_MOST)
        return error_set(error, ERROR_FAILED, "A file of %" PRIu64 " bytes cannot be fetched in chunks of %" PRIu64 ".",
                         m->size, m->chunk);
    m->n_chunks = (size_t)((m->size - 1) / m->chunk + 1);
    m->chunks = calloc(m->n_chunks, sizeof *m->chunks);
    return m->chunks ? 0 : error_set(error, ERROR_FAILED, "Out of memory.");
}

int manifest_init(struct manifest *m, const char *url, uint64_t size, uint64_t chunk, struct error *error)
{
    *m = (struct manifest){.size = size, .chunk = chunk};
    if (strlen(url) > MANIFEST_URL_MOST) return error_set(error, ERROR_FAILED, "The address is too long.");
    snprintf(m->url, sizeof m->url, "%s", url);
    return make_chunks(m, error);
}

/* ------------------------------------------------------------------------------------------------- reading */

struct lines {
    char *next;
};

/* The next line without its newline; NULL at the end. */
static char *next_line(struct lines *l)
{
    char *line = l->next;
    if (!line || !*line) return NULL;
    char *end = strchr(line, '\n');
    if (!end) return NULL;
    *end = 0;
    l->next = end + 1;
    return line;
}

/* The value of the next line, which must begin with `key` and a space. */
static char *next_field(struct lines *l, const char *key)
{
    char *line = next_line(l);
    size_t len = strlen(key);
    return line && !strncmp(line, key, len) && line[len] == ' ' ? line + len + 1 : NULL;
}

static bool copy_field(struct lines *l, const char *key, char *out, size_t cap)
{
    const char *value = next_field(l, key);
    if (!value || strlen(value) >= cap) return false;
    snprintf(out, cap, "%s", strcmp(value, "-") ? value : "");
    return true;
}

static bool parse_number(const char *text, char end, uint64_t *out, const char **rest)
{
    char *stop;
    if (!text || *text < '0' || *text > '9') return false;
    errno = 0;
    unsigned long long value = strtoull(text, &stop, 10);
    if (errno || *stop != end) return false;
    *out = value;
    if (rest) *rest = stop + 1;
    return true;
}

static bool parse_trust(struct manifest *m, char *value)
{
    char *space = value ? strchr(value, ' ') : NULL;
    if (!space) return false;
    *space = 0;
    for (size_t i = 0; i < sizeof trust_names / sizeof *trust_names; i++)
        if (!strcmp(space + 1, trust_names[i])) {
            m->trust = (enum manifest_trust)i;
            return i == TRUST_NONE ? !strcmp(value, "-") : hash_from_hex(value, m->sha256);
        }
    return false;
}

static bool parse_chunks(struct manifest *m, struct lines *l)
{
    uint64_t least = 0, index;
    while (*l->next) {
        const char *hex, *value = next_field(l, "have");
        if (!parse_number(value, ' ', &index, &hex) || index < least || index >= m->n_chunks) return false;
        if (!hash_from_hex(hex, m->chunks[index].sha256)) return false;
        m->chunks[index].state = CHUNK_HERE;
        least = index + 1;
    }
    return true;
}

/* The last line must be the hash of what stands before it; cuts it off. */
static bool check_end(char *text, size_t size)
{
    static const size_t len = 4 + 64 + 1;
    uint8_t said[32], found[32];
    if (size < len || text[size - 1] != '\n' || strlen(text) != size) return false;
    char *end = text + size - len;
    if (strncmp(end, "end ", 4) || (end > text && end[-1] != '\n')) return false;
    text[size - 1] = 0;
    if (!hash_from_hex(end + 4, said)) return false;
    *end = 0;
    SHA256((const unsigned char *)text, (size_t)(end - text), found);
    return !memcmp(said, found, sizeof said);
}

static bool parse(struct manifest *m, char *text, size_t size)
{
    struct lines l = {text};
    if (!check_end(text, size)) return false;
    const char *head = next_line(&l);
    if (!head || strcmp(head, HEAD)) return false;
    return copy_field(&l, "url", m->url, sizeof m->url) &&
           copy_field(&l, "revision", m->revision, sizeof m->revision) &&
           copy_field(&l, "etag", m->etag, sizeof m->etag) && parse_number(next_field(&l, "size"), 0, &m->size, NULL) &&
           parse_number(next_field(&l, "chunk"), 0, &m->chunk, NULL) && parse_trust(m, next_field(&l, "sha256")) &&
           !make_chunks(m, NULL) && parse_chunks(m, &l);
}

static char *read_all(int file, size_t *size)
{
    struct stat status;
    if (fstat(file, &status) || !S_ISREG(status.st_mode) || status.st_size < 0 || status.st_size > FILE_MOST)
        return NULL;
    size_t want = (size_t)status.st_size, have = 0;
    char *text = malloc(want + 1);
    while (text && have < want) {
        ssize_t n = read(file, text + have, want - have);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        have += (size_t)n;
    }
    if (text) text[have] = 0;
    *size = have;
    return text;
}

int manifest_read(struct manifest *m, int dir, const char *name, bool *found, struct error *error)
{
    *m = (struct manifest){0};
    *found = false;
    int file = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 && errno == ENOENT) return 0;
    if (file < 0) return error_set(error, ERROR_FAILED, "%.200s cannot be read: %s.", name, strerror(errno));
    size_t size = 0;
    char *text = read_all(file, &size);
    close(file);
    *found = text && parse(m, text, size);
    free(text);
    if (*found) return 0;
    manifest_free(m);
    return error_set(error, ERROR_FAILED, "%.200s is damaged.", name);
}

/* ------------------------------------------------------------------------------------------------- writing */

static void write_text(const struct manifest *m, FILE *out)
{
    char hex[65];
    fprintf(out, HEAD "\nurl %s\nrevision %s\netag %s\n", *m->url ? m->url : "-", *m->revision ? m->revision : "-",
            *m->etag ? m->etag : "-");
    fprintf(out, "size %" PRIu64 "\nchunk %" PRIu64 "\n", m->size, m->chunk);
    fprintf(out, "sha256 %s %s\n", m->trust ? hash_to_hex(m->sha256, hex) : "-", trust_names[m->trust]);
    for (size_t i = 0; i < m->n_chunks; i++)
        if (m->chunks[i].state != CHUNK_MISSING)
            fprintf(out, "have %zu %s\n", i, hash_to_hex(m->chunks[i].sha256, hex));
}

/* The whole text with its last line; NULL when out of memory. */
static char *make_text(const struct manifest *m, size_t *size)
{
    char *text = NULL, hex[65];
    uint8_t hash[32];
    FILE *out = open_memstream(&text, size);
    if (!out) return NULL;
    write_text(m, out);
    bool good = !fflush(out);
    if (good) {
        SHA256((const unsigned char *)text, *size, hash);
        fprintf(out, "end %s\n", hash_to_hex(hash, hex));
    }
    good = !fclose(out) && good;
    if (good) return text;
    free(text);
    return NULL;
}

static bool write_all(int file, const char *text, size_t size)
{
    while (size) {
        ssize_t n = write(file, text, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        text += n;
        size -= (size_t)n;
    }
    return true;
}

int manifest_write(const struct manifest *m, int dir, const char *name, struct error *error)
{
    char fresh[300];
    snprintf(fresh, sizeof fresh, "%.280s.new", name);
    size_t size = 0;
    char *text = make_text(m, &size);
    if (!text) return error_set(error, ERROR_FAILED, "Out of memory.");
    int file = openat(dir, fresh, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    bool good = file >= 0 && write_all(file, text, size) && !fsync(file);
    int failed = errno;
    free(text);
    if (file >= 0) good = !close(file) && good;
    if (good && !renameat(dir, fresh, dir, name)) return 0;
    if (good) failed = errno;
    unlinkat(dir, fresh, 0);
    return error_set(error, ERROR_DISK, "%.200s cannot be written: %s.", name, strerror(failed));
}
