/* SPDX-License-Identifier: MIT
 *
 * A folder -> documents: every text file below it that no .gitignore or .lecternignore leaves out, READMEs first, then
 * headers, sources and the rest, each group by path. Inside a git work tree the rule files above the folder and
 * .git/info/exclude count too. Symbolic links are not followed: what they point at inside the folder is met anyway.
 */
#include "app/doc.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define IGNORE_MOST_BYTES ((int64_t)1 << 20)

struct walk {
    struct document_list *list;
    struct ignore_list ignore;
    const char *root;  /* absolute */
    const char *above; /* root as seen from the git work tree's top; "" when it is the top */
    const char *title; /* first part of every document's name */
};

static int no_memory(struct error *error)
{
    return error_set(error, ERROR_FAILED, "Out of memory.");
}

/* a/b, or b alone when a is empty */
static char *join(const char *a, const char *b)
{
    size_t size = strlen(a) + strlen(b) + 2;
    char *out = malloc(size);
    if (out) snprintf(out, size, "%s%s%s", a, *a && *b ? "/" : "", b);
    return out;
}

/* ------------------------------------------------------------------------------------------- rule files */

/* Reads dir/file's rules; a file that is not there, or is no text, has none. */
static int load_rules(struct ignore_list *ignore, const char *dir, const char *file, const char *base,
                      struct error *error)
{
    char *path = join(dir, file), *source = join(base, file);
    int rc = path && source ? 0 : no_memory(error);
    struct document d = {0};
    struct error unreadable;
    if (!rc && !document_read_file(&d, path, file, IGNORE_MOST_BYTES, &unreadable))
        rc = ignore_add(ignore, base, source, d.text, d.text_len, error);
    document_free(&d);
    free(path);
    free(source);
    return rc;
}

static int load_folder_rules(struct ignore_list *ignore, const char *dir, const char *base, struct error *error)
{
    int rc = load_rules(ignore, dir, ".gitignore", base, error);
    return rc ? rc : load_rules(ignore, dir, ".lecternignore", base, error);
}

/* Length of the longest leading part of path that holds a .git, 0 when none does. */
static size_t find_work_tree(const char *path)
{
    for (size_t n = strlen(path); n; n--) {
        if (path[n] && path[n] != '/') continue;
        struct stat status;
        size_t size = n + sizeof "/.git";
        char *git = malloc(size);
        if (!git) return 0;
        snprintf(git, size, "%.*s/.git", (int)n, path);
        bool found = !lstat(git, &status);
        free(git);
        if (found) return n;
    }
    return 0;
}

/* The rules of the folders from the work tree's top down to the one above root. `path` is root, cut and mended. */
static int load_rules_above(struct walk *w, char *path, size_t top, struct error *error)
{
    char kept = path[top];
    path[top] = 0;
    int rc = load_rules(&w->ignore, path, ".git/info/exclude", "", error);
    path[top] = kept;
    for (size_t n = top; !rc && path[n];) {
        path[n] = 0;
        rc = load_folder_rules(&w->ignore, path, n > top ? path + top + 1 : "", error);
        path[n] = '/';
        n += 1 + strcspn(path + n + 1, "/");
    }
    return rc;
}

/* --------------------------------------------------------------------------------------------- the walk */

static int skip(struct walk *w, const char *relative, const char *reason, struct error *error)
{
    char *name = join(w->title, relative);
    int rc = name ? documents_skip(w->list, name, reason, error) : no_memory(error);
    free(name);
    return rc;
}

/* "NAME is binary." -> "is binary" */
static void reason_of(const struct error *error, const char *name, char *out, size_t cap)
{
    size_t n = strlen(name);
    const char *text = error->text;
    if (!strncmp(text, name, n) && text[n] == ' ') text += n + 1;
    snprintf(out, cap, "%.*s", (int)cap - 1, text);
    size_t len = strlen(out);
    if (len && out[len - 1] == '.') out[len - 1] = 0;
}

static int visit_file(struct walk *w, const char *path, const char *relative, struct error *error)
{
    char *name = join(w->title, relative);
    if (!name) return no_memory(error);
    struct document d;
    struct error why;
    int rc = document_read_file(&d, path, name, DOCUMENT_TREE_BYTES, &why);
    if (rc == ERROR_INPUT) {
        char reason[96];
        reason_of(&why, name, reason, sizeof reason);
        rc = documents_skip(w->list, name, reason, error);
    } else if (rc) {
        error_set(error, why.code, "%s", why.text);
    } else {
        rc = d.text_len ? documents_add(w->list, &d, error) : documents_skip(w->list, name, "is empty", error);
        document_free(&d);
    }
    free(name);
    return rc;
}

/* Why an entry is not even looked at, or NULL. */
static const char *refusal(const struct walk *w, const char *name, const char *relative, mode_t mode, char *buffer,
                           size_t cap)
{
    static const char *const version_control[] = {".git", ".hg", ".svn", ".jj", "CVS", "_darcs"};
    for (size_t i = 0; i < sizeof version_control / sizeof *version_control; i++)
        if (!strcmp(name, version_control[i])) return "is version control's";
    if (name[0] == '.') return "is hidden";
    if (S_ISLNK(mode)) return "is a symbolic link";
    if (!S_ISDIR(mode) && !S_ISREG(mode)) return "is not a file";
    char *path = join(w->above, relative);
    const char *source = path ? ignore_match(&w->ignore, path, S_ISDIR(mode)) : NULL;
    if (source) snprintf(buffer, cap, "is ignored by %.70s", source);
    free(path);
    return source ? buffer : NULL;
}

static int walk_folder(struct walk *, const char *relative, struct error *);

static int visit(struct walk *w, const char *folder, const char *name, struct error *error)
{
    if (!strcmp(name, ".") || !strcmp(name, "..")) return 0;
    if (!strcmp(name, ".gitignore") || !strcmp(name, ".lecternignore")) return 0;
    char *relative = join(folder, name), *path = relative ? join(w->root, relative) : NULL;
    struct stat status = {0};
    char buffer[96];
    const char *reason = NULL;
    int rc = path ? 0 : no_memory(error);
    if (!rc && lstat(path, &status)) {
        snprintf(buffer, sizeof buffer, "cannot be read: %.60s", strerror(errno));
        reason = buffer;
    } else if (!rc) {
        reason = refusal(w, name, relative, status.st_mode, buffer, sizeof buffer);
    }
    if (!rc && reason)
        rc = skip(w, relative, reason, error);
    else if (!rc && S_ISDIR(status.st_mode))
        rc = walk_folder(w, relative, error);
    else if (!rc)
        rc = visit_file(w, path, relative, error);
    free(relative);
    free(path);
    return rc;
}

static int visit_entries(struct walk *w, const char *relative, struct dirent **entries, int n, struct error *error)
{
    int rc = 0;
    for (int i = 0; i < n; i++) {
        if (!rc) rc = visit(w, relative, entries[i]->d_name, error);
        free(entries[i]);
    }
    free(entries);
    return rc;
}

static int walk_folder(struct walk *w, const char *relative, struct error *error)
{
    char *path = join(w->root, relative), *base = join(w->above, relative);
    size_t outer = w->ignore.count;
    int rc = path && base ? load_folder_rules(&w->ignore, path, base, error) : no_memory(error);
    struct dirent **entries = NULL;
    int n = rc ? -1 : scandir(path, &entries, NULL, alphasort);
    if (!rc && n >= 0)
        rc = visit_entries(w, relative, entries, n, error);
    else if (!rc && *relative)
        rc = skip(w, relative, "cannot be listed", error);
    else if (!rc)
        rc = error_set(error, ERROR_INPUT, "%.300s cannot be listed: %s.", w->root, strerror(errno));
    ignore_cut(&w->ignore, outer);
    free(path);
    free(base);
    return rc;
}

/* -------------------------------------------------------------------------------------------- the order */

static bool has_ending(const char *name, const char *const *endings)
{
    const char *dot = strrchr(name, '.');
    for (; dot && *endings; endings++)
        if (!strcasecmp(dot + 1, *endings)) return true;
    return false;
}

static int rank_of(const char *path)
{
    static const char *const headers[] = {"h", "hh", "hpp", "hxx", "mli", "d", "pyi", NULL};
    static const char *const sources[] = {"c",   "cc",   "cpp",  "cxx", "m",    "mm",  "rs",  "go",  "py",    "js",
                                          "mjs", "ts",   "tsx",  "jsx", "java", "kt",  "cs",  "rb",  "php",   "pl",
                                          "lua", "sh",   "zig",  "hs",  "ml",   "ex",  "erl", "clj", "scala", "swift",
                                          "f90", "comp", "glsl", "cu",  "sql",  "asm", "s",   "v",   "vhd",   NULL};
    const char *name = strrchr(path, '/');
    name = name ? name + 1 : path;
    if (!strncasecmp(name, "readme", 6)) return 0;
    if (has_ending(name, headers)) return 1;
    return has_ending(name, sources) ? 2 : 3;
}

static int compare_documents(const void *a, const void *b)
{
    const struct document *left = a, *right = b;
    int difference = rank_of(left->name) - rank_of(right->name);
    return difference ? difference : strcmp(left->name, right->name);
}

int document_read_tree(struct document_list *list, const char *root, const char *name, struct error *error)
{
    char *path = realpath(root, NULL);
    if (!path) return error_set(error, ERROR_INPUT, "%.300s cannot be read: %s.", name, strerror(errno));
    const char *slash = strrchr(path, '/');
    size_t top = find_work_tree(path), first = list->count;
    struct walk w = {.list = list, .root = path, .title = slash[1] ? slash + 1 : ""};
    w.above = top && path[top] ? path + top + 1 : "";
    int rc = top ? load_rules_above(&w, path, top, error) : 0;
    if (!rc) rc = walk_folder(&w, "", error);
    if (list->count > first) qsort(list->items + first, list->count - first, sizeof *list->items, compare_documents);
    ignore_cut(&w.ignore, 0);
    free(path);
    return rc;
}
