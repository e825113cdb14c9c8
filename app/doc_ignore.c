/* SPDX-License-Identifier: MIT
 *
 * The rules of .gitignore as gitignore(5) tells them, also used for .lecternignore. The last rule that matches decides;
 * a rule with a slash before its end is anchored to its own folder, any other matches a name at any depth below it.
 * That nothing can be brought back inside an ignored folder follows from the walk, which does not enter one.
 */
#include "app/doc.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

struct ignore_rule {
    char *pattern;             /* owned; holds base and source behind it */
    const char *base, *source; /* the rule file's folder and name */
    bool negated, folders_only, anchored;
};

/* ---------------------------------------------------------------------------------------------- wildmatch */

static const struct {
    const char *name;
    int (*has)(int);
} classes[] = {
    {"alnum", isalnum}, {"alpha", isalpha}, {"blank", isblank}, {"cntrl", iscntrl},
    {"digit", isdigit}, {"graph", isgraph}, {"lower", islower}, {"print", isprint},
    {"punct", ispunct}, {"space", isspace}, {"upper", isupper}, {"xdigit", isxdigit},
};

/* At "[:name:]": does c belong? *p moves past it; an unknown or unclosed name breaks the set. */
static bool match_class(const char **p, unsigned char c, bool *broken)
{
    const char *name = *p + 2, *end = strstr(name, ":]");
    size_t len = end ? (size_t)(end - name) : 0;
    for (size_t i = 0; end && i < sizeof classes / sizeof *classes; i++) {
        if (strlen(classes[i].name) != len || memcmp(classes[i].name, name, len)) continue;
        *p = end + 2;
        return c < 0x80 && classes[i].has(c);
    }
    *broken = true;
    return false;
}

/* One member or range of a set at *p; moves past it. */
static bool match_member(const char **p, unsigned char c, bool *broken)
{
    if ((*p)[0] == '[' && (*p)[1] == ':') return match_class(p, c, broken);
    const char *at = *p;
    if (*at == '\\') at++;
    unsigned char low = (unsigned char)*at, high = low;
    if (low) at++;
    if (low && at[0] == '-' && at[1] && at[1] != ']') {
        at += at[1] == '\\' ? 2 : 1;
        high = (unsigned char)*at;
        if (high) at++;
    }
    if (!low || !high) *broken = true;
    *p = at;
    return low <= c && c <= high;
}

/* A set "[...]" against c: length of the set, or 0 when it does not match or is not closed. */
static size_t match_set(const char *set, unsigned char c)
{
    const char *p = set + 1;
    bool negated = *p == '!' || *p == '^', found = false, broken = false, first = true;
    if (negated) p++;
    for (; first || *p != ']'; first = false) {
        if (match_member(&p, c, &broken)) found = true;
        if (broken) return 0;
    }
    return found != negated && c != '/' ? (size_t)(p + 1 - set) : 0;
}

/* The pattern's element at p against one byte: its length, or 0 when it does not match. */
static size_t match_one(const char *p, char c)
{
    switch (*p) {
    case 0:
        return 0;
    case '?':
        return c != '/';
    case '[':
        return match_set(p, (unsigned char)c);
    case '\\':
        return p[1] == c ? 2 : 0;
    default:
        return *p == c;
    }
}

/* Of all stars only the last one met can need another try, and of all "**" likewise: two places to go back to. */
bool ignore_wildmatch(const char *pattern, const char *text)
{
    const char *p = pattern, *t = text, *star = NULL, *star_text = NULL, *deep = NULL, *deep_text = NULL, *slash;
    for (;;) {
        if (*p == '*') {
            const char *first = p;
            while (*p == '*') p++;
            bool is_deep = p - first > 1 && (first == pattern || first[-1] == '/') && (!*p || *p == '/');
            if (is_deep && !*p) return true;
            if (is_deep)
                deep = ++p, deep_text = t, star = NULL;
            else
                star = p, star_text = t;
            continue;
        }
        size_t n = *t ? match_one(p, *t) : 0;
        if (n) {
            p += n;
            t++;
        } else if (!*p && !*t) {
            return true;
        } else if (star && *star_text && *star_text != '/') {
            p = star;
            t = ++star_text;
        } else if (deep && (slash = strchr(deep_text, '/'))) {
            p = deep;
            t = deep_text = slash + 1;
            star = NULL;
        } else {
            return false;
        }
    }
}

/* ------------------------------------------------------------------------------------------------- rules */

/* Trailing spaces go, unless the last is quoted by a backslash. */
static size_t trim_spaces(const char *line, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (line[i] == '\\' && i + 1 < n)
            kept = ++i + 1;
        else if (line[i] != ' ')
            kept = i + 1;
    }
    return kept;
}

static int add_rule(struct ignore_list *list, const struct ignore_rule *flags, const char *line, size_t n,
                    struct error *error)
{
    if (list->count == list->capacity) {
        size_t more = list->capacity ? list->capacity * 2 : 32;
        struct ignore_rule *rules = realloc(list->rules, more * sizeof *rules);
        if (!rules) return error_set(error, ERROR_FAILED, "Out of memory.");
        list->rules = rules;
        list->capacity = more;
    }
    size_t base_size = strlen(flags->base) + 1, source_size = strlen(flags->source) + 1;
    struct ignore_rule rule = *flags;
    rule.pattern = malloc(n + 1 + base_size + source_size);
    if (!rule.pattern) return error_set(error, ERROR_FAILED, "Out of memory.");
    memcpy(rule.pattern, line, n);
    rule.pattern[n] = 0;
    char *base = rule.pattern + n + 1, *source = base + base_size;
    rule.base = memcpy(base, flags->base, base_size);
    rule.source = memcpy(source, flags->source, source_size);
    list->rules[list->count++] = rule;
    return 0;
}

static int add_line(struct ignore_list *list, struct ignore_rule rule, const char *line, size_t n, struct error *error)
{
    if (n && line[n - 1] == '\r') n--;
    if (!n || line[0] == '#') return 0;
    n = trim_spaces(line, n);
    if (n && line[0] == '!') rule.negated = true, line++, n--;
    if (n && line[n - 1] == '/') rule.folders_only = true, n--;
    rule.anchored = n && memchr(line, '/', n) != NULL;
    if (n && line[0] == '/') line++, n--;
    return n ? add_rule(list, &rule, line, n, error) : 0;
}

int ignore_add(struct ignore_list *list, const char *base, const char *source, const char *text, size_t len,
               struct error *error)
{
    struct ignore_rule rule = {.base = base, .source = source};
    if (len >= 3 && !memcmp(text, "\xef\xbb\xbf", 3)) text += 3, len -= 3;
    while (len) {
        const char *end = memchr(text, '\n', len);
        size_t n = end ? (size_t)(end - text) : len, step = end ? n + 1 : n;
        int rc = add_line(list, rule, text, n, error);
        if (rc) return rc;
        text += step;
        len -= step;
    }
    return 0;
}

void ignore_cut(struct ignore_list *list, size_t count)
{
    while (list->count > count) free(list->rules[--list->count].pattern);
    if (count) return;
    free(list->rules);
    *list = (struct ignore_list){0};
}

static bool rule_matches(const struct ignore_rule *rule, const char *path, bool is_folder)
{
    if (rule->folders_only && !is_folder) return false;
    size_t base = strlen(rule->base);
    if (base && (strncmp(path, rule->base, base) || path[base] != '/')) return false;
    if (base) path += base + 1;
    const char *name = strrchr(path, '/');
    return ignore_wildmatch(rule->pattern, rule->anchored || !name ? path : name + 1);
}

const char *ignore_match(const struct ignore_list *list, const char *path, bool is_folder)
{
    for (size_t i = list->count; i-- > 0;) {
        const struct ignore_rule *rule = &list->rules[i];
        if (rule_matches(rule, path, is_folder)) return rule->negated ? NULL : rule->source;
    }
    return NULL;
}
