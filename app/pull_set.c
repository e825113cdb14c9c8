/* SPDX-License-Identifier: MIT
 *
 * The files of a model, one after the other.
 */
#include "app/pull_set.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "app/progress.h"

struct course {
    const struct pull_set *set;
    const struct download_hooks *outer;
    struct download_hooks hooks;
    int dir;
    unsigned number; /* of the file at hand, from 1 */
    bool is_asking;
    uint64_t before, total; /* bytes of the files before this one, and of all */
    uint64_t *sizes;        /* [count] */
};

/* ------------------------------------------------------------------------------------------------ progress */

static bool on_tick(void *ctx, enum download_phase phase, uint64_t done, uint64_t total)
{
    const struct course *c = ctx;
    if (c->is_asking) return c->outer->tick(c->outer->ctx, phase, 0, 0);
    if (phase == DOWNLOAD_CHECKING || c->set->source->parts.count == 1)
        return c->outer->tick(c->outer->ctx, phase, done, total);
    return c->outer->tick(c->outer->ctx, phase, c->before + done, c->total);
}

static void on_say(void *ctx, const char *sentence)
{
    const struct course *c = ctx;
    char line[700];
    unsigned count = c->set->source->parts.count;
    if (count == 1) {
        c->outer->say(c->outer->ctx, sentence);
        return;
    }
    snprintf(line, sizeof line, "File %u of %u: %.600s", c->number, count, sentence);
    c->outer->say(c->outer->ctx, line);
}

static void tell_result(struct course *c, const struct download_result *r)
{
    char line[600], size[32], fetched[32], hex[65];
    const char *who = r->trust == TRUST_COMPUTED ? "noted" : manifest_trust_name(r->trust);
    snprintf(line, sizeof line, "%s: %s, of them %s fetched now; SHA-256 %s (%s)", c->set->source->name,
             format_bytes(r->size, size), format_bytes(r->fetched, fetched), hash_to_hex(r->sha256, hex), who);
    on_say(c, line);
}

/* ---------------------------------------------------------------------------------------------- the course */

static bool is_here(const struct course *c, uint64_t *size)
{
    struct stat status;
    if (fstatat(c->dir, c->set->source->name, &status, AT_SYMLINK_NOFOLLOW)) return false;
    *size = status.st_size > 0 ? (uint64_t)status.st_size : 0;
    return true;
}

static struct download_params file_params(struct course *c)
{
    struct download_params p = c->set->file;
    p.source = c->set->source->address;
    p.name = c->set->source->name;
    p.hooks = &c->hooks;
    if (!c->set->sizes) return p;
    p.size = c->set->sizes[c->number - 1];
    p.trust = TRUST_CATALOGUE;
    return p;
}

/* The first file's commit is asked of the others, as far as one is known. */
static void pin(struct course *c, const char *commit)
{
    struct pull_source *s = c->set->source;
    if (c->number == 1 && *commit && s->address.revision) snprintf(s->revision, sizeof s->revision, "%s", commit);
}

static void pin_installed(struct course *c)
{
    char name[DOWNLOAD_NAME_MOST + 32];
    struct manifest m = {.n_chunks = 0};
    struct error ignored;
    bool found = false;
    snprintf(name, sizeof name, "%.200s.manifest", c->set->source->name);
    if (!manifest_read(&m, c->dir, name, &found, &ignored) && found) pin(c, m.revision);
    manifest_free(&m);
}

/* How long each file is, and whether there is room for what is not here. */
static int ask_all(struct course *c, struct error *error)
{
    struct pull_source *s = c->set->source;
    uint64_t need = 0;
    int rc = 0;
    c->is_asking = true;
    for (c->number = 1; !rc && c->number <= s->parts.count; c->number++) {
        struct download_result result = {.size = 0};
        uint64_t *size = &c->sizes[c->number - 1];
        pull_source_turn(s, c->number);
        if (is_here(c, size)) {
            pin_installed(c);
        } else {
            struct download_params p = file_params(c);
            p.asks_only = true;
            rc = download_file(&p, &result, error);
            *size = result.size;
            need += result.size > result.taken ? result.size - result.taken : 0;
            if (!rc) pin(c, result.revision);
        }
        c->total += *size;
    }
    c->is_asking = false;
    return rc ? rc : download_check_space(c->dir, need, error);
}

static int fetch_all(struct course *c, struct error *error)
{
    struct pull_source *s = c->set->source;
    int rc = 0;
    for (c->number = 1; !rc && c->number <= s->parts.count; c->number++) {
        struct download_result result;
        uint64_t size;
        pull_source_turn(s, c->number);
        struct download_params p = file_params(c);
        p.repair = is_here(c, &size);
        if (!p.repair || c->set->repair) rc = download_file(&p, &result, error);
        if (!rc && (!p.repair || c->set->repair)) tell_result(c, &result);
        c->before += c->sizes[c->number - 1];
    }
    return rc;
}

static int course_begin(struct course *c, const struct pull_set *set, struct error *error)
{
    *c = (struct course){.set = set, .outer = set->file.hooks, .hooks = {.tick = on_tick, .say = on_say}};
    c->hooks.ctx = c;
    c->dir = open(set->file.dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    c->sizes = calloc(set->source->parts.count, sizeof *c->sizes);
    if (c->dir < 0) return error_set(error, ERROR_DISK, "%.300s cannot be opened: %s.", set->file.dir, strerror(errno));
    return c->sizes ? 0 : error_set(error, ERROR_FAILED, "Out of memory.");
}

static void course_end(struct course *c)
{
    pull_source_turn(c->set->source, 1);
    if (c->dir >= 0) close(c->dir);
    free(c->sizes);
}

int pull_set_fetch(const struct pull_set *set, struct error *error)
{
    struct course c;
    char asked[sizeof set->source->revision];
    memcpy(asked, set->source->revision, sizeof asked);
    int rc = course_begin(&c, set, error);
    if (!rc && set->source->parts.count > 1) rc = ask_all(&c, error);
    if (!rc) rc = fetch_all(&c, error);
    course_end(&c);
    memcpy(set->source->revision, asked, sizeof asked);
    return rc;
}

bool pull_set_is_here(const struct pull_set *set)
{
    struct course c;
    uint64_t size;
    bool all = !course_begin(&c, set, NULL);
    for (unsigned i = 1; all && i <= set->source->parts.count; i++) {
        pull_source_turn(set->source, i);
        all = is_here(&c, &size);
    }
    course_end(&c);
    return all;
}
