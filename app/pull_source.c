/* SPDX-License-Identifier: MIT
 *
 * Names, hub files and addresses. Every part is held against a short alphabet, so that nothing needs escaping.
 */
#include "app/pull_source.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

static const char word[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+";

/* One or more words with '/' between them, none beginning with a dot. */
static bool is_path(const char *text)
{
    for (const char *at = text;; at++) {
        size_t len = strspn(at, word);
        if (!len || *at == '.') return false;
        at += len;
        if (!*at) return true;
        if (*at != '/') return false;
    }
}

static int set_name(struct pull_source *s, const char *path, struct error *error)
{
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (!download_name_is_good(name))
        return error_set(error, ERROR_USAGE,
                         "\"%.200s\" cannot be the name of a model here: letters, digits, '.', '_', '-', ending in "
                         ".gguf.",
                         name);
    snprintf(s->name, sizeof s->name, "%s", name);
    s->parts = model_parts_of(name);
    return 0;
}

/* The last place in the path where a name stands; names of parts are equally long. */
static void replace_last(char *text, const char *old, const char *new)
{
    char *last = NULL, *end = text + strcspn(text, "?#");
    for (char *at = text; (at = strstr(at, old)) && at < end; at++) last = at;
    if (last) memcpy(last, new, strlen(new));
}

void pull_source_turn(struct pull_source *s, unsigned number)
{
    char name[DOWNLOAD_NAME_MOST + 1];
    if (s->parts.count == 1) return;
    model_parts_name(&s->parts, number, name);
    replace_last(s->address.after ? s->after : s->before, s->name, name);
    memcpy(s->name, name, sizeof s->name);
}

static const char *hub(void)
{
    const char *endpoint = getenv("HF_ENDPOINT");
    return endpoint && *endpoint ? endpoint : "https://huggingface.co";
}

static int set_hub_file(struct pull_source *s, const char *repository, const char *file, struct error *error)
{
    const char *endpoint = hub();
    size_t len = strlen(endpoint);
    while (len && endpoint[len - 1] == '/') len--;
    int n =
        snprintf(s->before, sizeof s->before, "%.*s/%s/resolve/", (int)(len < 1000 ? len : 1000), endpoint, repository);
    int m = snprintf(s->after, sizeof s->after, "/%s", file);
    if (len > 1000 || n < 0 || m < 0 || (size_t)n + (size_t)m + sizeof s->revision > MANIFEST_URL_MOST)
        return error_set(error, ERROR_USAGE, "The address is too long.");
    s->address = (struct download_source){s->before, s->revision, s->after};
    s->is_hub = true;
    return set_name(s, file, error);
}

static int parse_hub(struct pull_source *s, const char *typed, struct error *error)
{
    char repository[201];
    const char *first = strchr(typed, '/'), *second = first ? strchr(first + 1, '/') : NULL;
    if (!is_path(typed) || !second || second - typed > 200)
        return error_set(error, ERROR_USAGE, "\"hf:%.200s\" is not of the form hf:OWNER/REPOSITORY/FILE.gguf.", typed);
    snprintf(repository, sizeof repository, "%.*s", (int)(second - typed), typed);
    return set_hub_file(s, repository, second + 1, error);
}

static int parse_url(struct pull_source *s, const char *typed, struct error *error)
{
    char *path = NULL;
    int rc = download_check_url(typed, error);
    if (rc) return rc;
    snprintf(s->before, sizeof s->before, "%s", typed);
    s->address = (struct download_source){.before = s->before};
    s->is_hub = download_same_origin(typed, hub());
    CURLU *u = curl_url();
    if (!u || curl_url_set(u, CURLUPART_URL, typed, 0) || curl_url_get(u, CURLUPART_PATH, &path, 0))
        rc = error_set(error, ERROR_FAILED, "Out of memory.");
    if (!rc) rc = set_name(s, path, error);
    curl_free(path);
    curl_url_cleanup(u);
    return rc;
}

int pull_source_parse(struct pull_source *s, const char *typed, const char *revision, struct error *error)
{
    *s = (struct pull_source){.is_hub = false};
    if (revision && (strspn(revision, word) != strlen(revision) || !*revision || strlen(revision) > 100))
        return error_set(error, ERROR_USAGE, "\"%.100s\" is not a revision: a branch, a tag or a commit.", revision);
    snprintf(s->revision, sizeof s->revision, "%s", revision ? revision : "main");
    int rc;
    if (!strncmp(typed, "hf:", 3))
        rc = parse_hub(s, typed + 3, error);
    else if (strstr(typed, "://") && revision)
        rc = error_set(error, ERROR_USAGE, "--revision is for hub files; an address says its own.");
    else if (strstr(typed, "://"))
        rc = parse_url(s, typed, error);
    else if ((s->entry = catalogue_find(typed)))
        rc = set_hub_file(s, s->entry->repository, s->entry->file, error);
    else
        rc = error_set(error, ERROR_USAGE, "There is no model \"%.80s\"; `lectern pull` lists them.", typed);
    if (!rc) pull_source_turn(s, 1);
    return rc;
}
