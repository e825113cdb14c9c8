/* SPDX-License-Identifier: MIT
 *
 * Files and folders into documents: encodings, what is refused and why, ignore rules (git itself is the oracle where it
 * is installed), order and places.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "app/doc.h"

static char folder[64];

/* -------------------------------------------------------------------------------------------- scaffolding */

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "/tmp/lectern-doc-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int remove_folder(void **state)
{
    (void)state;
    char command[192];
    snprintf(command, sizeof command, "chmod -R u+rwx %s && rm -rf %s", folder, folder);
    return system(command);
}

static const char *path_of(const char *name)
{
    static char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

static void put_bytes(const char *name, const void *bytes, size_t n)
{
    char path[512];
    snprintf(path, sizeof path, "%s", path_of(name));
    for (char *slash = strchr(path + strlen(folder) + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        mkdir(path, 0777);
        *slash = '/';
    }
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, n, file), n);
    assert_int_equal(fclose(file), 0);
}

static void put(const char *name, const char *text)
{
    put_bytes(name, text, strlen(text));
}

static void read_one(struct document *d, const char *name)
{
    struct error error = {0};
    int rc = document_read_file(d, path_of(name), name, DOCUMENT_MOST_BYTES, &error);
    if (rc) fail_msg("%s", error.text);
}

static void expect_refusal(const char *name, const char *part)
{
    struct document d;
    struct error error = {0};
    assert_int_equal(document_read_file(&d, path_of(name), name, 1000, &error), ERROR_INPUT);
    if (!strstr(error.text, part)) fail_msg("\"%s\" does not say \"%s\"", error.text, part);
    assert_null(d.text);
}

static const char *skip_reason(const struct document_list *list, const char *ending)
{
    for (size_t i = 0; i < list->n_skipped; i++) {
        size_t n = strlen(list->skipped[i].name), m = strlen(ending);
        if (n >= m && !strcmp(list->skipped[i].name + n - m, ending)) return list->skipped[i].reason;
    }
    return NULL;
}

/* ---------------------------------------------------------------------------------------------- encodings */

static void encodings_become_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t n;
        const char *text;
        enum document_encoding encoding;
    } cases[] = {
        {"plain\n", 6, "plain", ENCODING_UTF8},
        {"\xef\xbb\xbfGr\xc3\xbc\xc3\x9f"
         "e\r\nzwei\rdrei\r\n \t\n",
         24, "Grüße\nzwei\ndrei", ENCODING_UTF8},
        {"na\xefve \x93quote\x94 \x80", 15, "naïve “quote” €", ENCODING_WINDOWS1252},
        {"\xff\xfeh\0i\0\r\0\n\0\x3d\xd8\x00\xde", 14, "hi\n😀", ENCODING_UTF16LE},
        {"\xfe\xff\0h\0i\x4f\x60\xd8\x00", 10, "hi你\xef\xbf\xbd", ENCODING_UTF16BE},
        {"\xff\xfeh\0x", 5, "h\xef\xbf\xbd", ENCODING_UTF16LE},
        {"\xff\xfe", 2, "", ENCODING_UTF16LE},
        {"", 0, "", ENCODING_UTF8},
        {"  \n\t", 4, "", ENCODING_UTF8},
        {"\n\n  kept\n", 9, "\n\n  kept", ENCODING_UTF8},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct document d;
        put_bytes("file.txt", cases[i].bytes, cases[i].n);
        read_one(&d, "file.txt");
        assert_string_equal(d.text, cases[i].text);
        assert_int_equal(d.text_len, strlen(cases[i].text));
        assert_int_equal(d.encoding, cases[i].encoding);
        assert_int_equal(d.size, cases[i].n);
        document_free(&d);
    }
}

static void hashes_are_of_the_text(void **state)
{
    (void)state;
    struct document a, b;
    put("a.txt", "same\r\n");
    put("b.txt", "\xef\xbb\xbfsame");
    read_one(&a, "a.txt");
    read_one(&b, "b.txt");
    assert_memory_equal(a.hash, b.hash, 32);
    static const uint8_t start[4] = {0x09, 0x67, 0x11, 0x5f}; /* printf same | sha256sum */
    assert_memory_equal(a.hash, start, sizeof start);
    document_free(&a);
    document_free(&b);
}

static void what_is_no_text_is_refused(void **state)
{
    (void)state;
    put_bytes("nul.txt", "a\0b", 3);
    expect_refusal("nul.txt", "nul.txt is binary");
    put_bytes("wide-nul.txt", "\xff\xfe\0\0a\0", 6);
    expect_refusal("wide-nul.txt", "is binary");
    put_bytes("noise.txt", "\x01\x02\x03\x8f\x9f\x04\x05\xff", 8);
    expect_refusal("noise.txt", "is binary");
    put("doc.pdf", "%PDF-1.7 and so on");
    expect_refusal("doc.pdf", "is a PDF");
    put_bytes("book.epub", "PK\003\004xx", 6);
    expect_refusal("book.epub", "zip container");
    char large[1002];
    memset(large, 'x', sizeof large);
    put_bytes("large.txt", large, sizeof large);
    expect_refusal("large.txt", "is larger than");
    expect_refusal("missing.txt", "No such file");
    expect_refusal(".", "is a folder");
    assert_int_equal(mkfifo(path_of("pipe"), 0666), 0);
    expect_refusal("pipe", "is a pipe");
    struct document d;
    struct error error;
    assert_int_equal(document_read_file(&d, "/dev/zero", "/dev/zero", 1000, &error), ERROR_INPUT);
    assert_string_equal(error.text, "/dev/zero is a device, not a file.");
    if (!geteuid()) return; /* root may read anything */
    put("locked.txt", "text");
    assert_int_equal(chmod(path_of("locked.txt"), 0), 0);
    expect_refusal("locked.txt", "Permission denied");
}

static void empty_documents_are_told(void **state)
{
    (void)state;
    put("empty.txt", " \n");
    put("full.txt", "text");
    char empty[600], full[600];
    snprintf(empty, sizeof empty, "%s", path_of("empty.txt"));
    snprintf(full, sizeof full, "%s", path_of("full.txt"));
    struct document_list list = {0};
    struct error error;
    assert_int_equal(documents_read(&list, (char *[]){empty}, 1, &error), ERROR_INPUT);
    assert_non_null(strstr(error.text, "empty.txt is empty"));
    documents_free(&list);
    assert_int_equal(documents_read(&list, (char *[]){empty, full}, 2, &error), 0);
    assert_int_equal(list.count, 1);
    assert_int_equal(list.n_skipped, 1);
    documents_free(&list);
}

static void places_are_lines(void **state)
{
    (void)state;
    char text[] = "one\ntwo\n\nfour";
    struct document d = {.name = "n", .text = text, .text_len = 13};
    static const struct {
        size_t offset;
        uint32_t line, column;
    } cases[] = {{0, 1, 1}, {3, 1, 4}, {4, 2, 1}, {8, 3, 1}, {9, 4, 1}, {12, 4, 4}, {99, 4, 5}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct place place;
        document_place(&d, cases[i].offset, &place);
        assert_int_equal(place.line, cases[i].line);
        assert_int_equal(place.column, cases[i].column);
        assert_string_equal(place.name, "n");
    }
}

/* ------------------------------------------------------------------------------------------------- folders */

static void a_tree_is_read_in_order(void **state)
{
    (void)state;
    put("p/zeta.txt", "z");
    put("p/src/b.c", "b");
    put("p/src/a.h", "a");
    put("p/README.md", "r");
    put("p/src/gen/out.c", "generated");
    put("p/src/.gitignore", "gen/\n");
    put("p/notes.log", "log");
    put("p/keep.log", "kept");
    put("p/.gitignore", "*.log\n!keep.log\n");
    put("p/.lecternignore", "secret*\n");
    put("p/secret.txt", "s");
    put("p/.hidden/x.txt", "h");
    put("p/.git/config", "g");
    put("p/empty.txt", "");
    put_bytes("p/blob.bin", "\0\1\2", 3);
    assert_int_equal(symlink("../../..", path_of("p/src/loop")), 0);
    assert_int_equal(symlink("/etc/passwd", path_of("p/passwd.txt")), 0);
    char root[600];
    snprintf(root, sizeof root, "%s", path_of("p"));
    struct document_list list = {0};
    struct error error = {0};
    if (documents_read(&list, (char *[]){root}, 1, &error)) fail_msg("%s", error.text);
    static const char *const names[] = {"p/README.md", "p/src/a.h", "p/src/b.c", "p/keep.log", "p/zeta.txt"};
    assert_int_equal(list.count, sizeof names / sizeof *names);
    for (size_t i = 0; i < list.count; i++) assert_string_equal(list.items[i].name, names[i]);
    assert_string_equal(skip_reason(&list, "src/gen"), "is ignored by src/.gitignore");
    assert_string_equal(skip_reason(&list, "notes.log"), "is ignored by .gitignore");
    assert_string_equal(skip_reason(&list, "secret.txt"), "is ignored by .lecternignore");
    assert_string_equal(skip_reason(&list, ".hidden"), "is hidden");
    assert_string_equal(skip_reason(&list, ".git"), "is version control's");
    assert_string_equal(skip_reason(&list, "empty.txt"), "is empty");
    assert_non_null(strstr(skip_reason(&list, "blob.bin"), "is binary"));
    assert_string_equal(skip_reason(&list, "src/loop"), "is a symbolic link");
    assert_string_equal(skip_reason(&list, "passwd.txt"), "is a symbolic link");
    documents_free(&list);
}

/* In a part of a work tree the rules above it count, with their own anchors. */
static void rules_above_the_folder_count(void **state)
{
    (void)state;
    put("w/.git/info/exclude", "excluded.txt\n");
    put("w/.gitignore", "/a/b/top.txt\nb.txt\n");
    put("w/a/.gitignore", "b/mid.txt\n");
    put("w/a/b/top.txt", "1");
    put("w/a/b/mid.txt", "2");
    put("w/a/b/b.txt", "3");
    put("w/a/b/excluded.txt", "4");
    put("w/a/b/kept.txt", "5");
    char root[600];
    snprintf(root, sizeof root, "%s", path_of("w/a/b"));
    struct document_list list = {0};
    struct error error = {0};
    if (documents_read(&list, (char *[]){root}, 1, &error)) fail_msg("%s", error.text);
    assert_int_equal(list.count, 1);
    assert_string_equal(list.items[0].name, "b/kept.txt");
    assert_string_equal(skip_reason(&list, "mid.txt"), "is ignored by a/.gitignore");
    documents_free(&list);
}

/* --------------------------------------------------------------------------------------------- ignore rules */

static const char *const patterns[] = {
    "*.o",         "/build",       "doc/*.txt", "foo/",      "!foo/keep", "a/**/z", "**/deep",  "tail/**", "[ab]x",
    "[!a-c]y",     "[[:digit:]]*", "q?z",       "\\#hash",   "\\!bang",   "sp\\ ",  "trail   ", "x/*/y",   "**/m/n",
    "a**b",        "/**/r",        "s/**/",     "[]]k",      "[a\\]b]l",  "*/only", "l*n*g*r*", "/a/*",    "!/a/b",
    "\\*star",     "dir[/]x",      "[z-a]w",    "un[closed", "# comment", "",       "   ",      "!",       "/",
    "t/**/u/**/v", "*.tar.*",      "UP*",       "e\\",
};
static const char *const paths[] = {
    "m.o",      "sub/m.o",   "build",      "sub/build", "build/x", "doc/a.txt", "doc/s/a.txt", "x/doc/a.txt",
    "foo",      "foo/keep",  "foo/x",      "y/foo/q",   "a/z",     "a/b/z",     "a/b/c/z",     "b/a/z",
    "deep",     "x/y/deep",  "tail/a",     "tail/a/b",  "tail",    "ax",        "cx",          "dy",
    "ay",       "7up",       "qaz",        "q/z",       "#hash",   "!bang",     "sp ",         "trail",
    "x/1/y",    "x/1/2/y",   "m/n",        "k/m/n",     "aab",     "a/b",       "a/c",         "r",
    "k/r",      "s/t",       "s/t/u",      "]k",        "]l",      "al",        "only",        "k/only",
    "k/l/only", "linger",    "lonnngerrr", "*star",     "star",    "dir/x",     "yw",          "un[closed",
    "t/u/v",    "t/1/u/2/v", "t/1/2/v",    "f.tar.gz",  "UPPER",   "upper",     "e\\",         "e",
};

/* "git check-ignore" prints the paths that are ignored, those inside ignored folders too. */
static bool git_ignores(const char *pattern, const char *path)
{
    char command[512];
    put(".gitignore", pattern);
    put("query", path);
    snprintf(command, sizeof command, "cd %s && git check-ignore -q --no-index --stdin < query", folder);
    return system(command) == 0;
}

static bool we_ignore(const char *pattern, const char *path)
{
    struct ignore_list list = {0};
    struct error error;
    assert_int_equal(ignore_add(&list, "", ".gitignore", pattern, strlen(pattern), &error), 0);
    char part[64];
    bool ignored = false;
    for (size_t n = 1; !ignored && n <= strlen(path); n++) {
        if (path[n] && path[n] != '/') continue;
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        ignored = ignore_match(&list, part, path[n] == '/') != NULL;
    }
    ignore_cut(&list, 0);
    return ignored;
}

static void git_agrees(void **state)
{
    (void)state;
    char command[256];
    snprintf(command, sizeof command, "command -v git >/dev/null && git init -q %s 2>/dev/null", folder);
    if (system(command)) {
        print_message("git is not installed: skipped\n");
        skip();
    }
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        char all[8192] = "";
        for (size_t k = 0; k < sizeof paths / sizeof *paths; k++) strcat(strcat(all, paths[k]), "\n");
        put(".gitignore", patterns[i]);
        put("query", all);
        snprintf(command, sizeof command, "cd %s && git check-ignore --no-index --stdin -z < query > answer", folder);
        /* -z: NUL between the paths, so that none is quoted */
        for (char *c = all; *c; c++)
            if (*c == '\n') *c = 1;
        size_t n = strlen(all);
        for (size_t k = 0; k < n; k++)
            if (all[k] == 1) all[k] = 0;
        put_bytes("query", all, n);
        if (system(command) < 0) fail();
        char answer[8192] = {0};
        FILE *file = fopen(path_of("answer"), "rb");
        assert_non_null(file);
        size_t got = fread(answer, 1, sizeof answer - 1, file);
        fclose(file);
        for (size_t k = 0; k < sizeof paths / sizeof *paths; k++) {
            bool expected = false;
            for (size_t at = 0; at < got; at += strlen(answer + at) + 1)
                if (!strcmp(answer + at, paths[k])) expected = true;
            if (we_ignore(patterns[i], paths[k]) != expected)
                fail_msg("pattern \"%s\", path \"%s\": git %s it", patterns[i], paths[k],
                         expected ? "ignores" : "does not ignore");
        }
    }
    assert_true(git_ignores("a\nb/\n!a\n", "b/c"));
    assert_true(we_ignore("a\nb/\n!a\n", "b/c"));
    assert_int_equal(git_ignores("a\r\n!b\r\n", "a"), we_ignore("a\r\n!b\r\n", "a"));
}

/* A pattern made to be slow in a matcher that tries everything. */
static void hostile_patterns_end(void **state)
{
    (void)state;
    char pattern[2001], text[2001];
    for (size_t i = 0; i < 2000; i += 2) memcpy(pattern + i, "*a", 2);
    memcpy(pattern + 1998, "*b", 3);
    memset(text, 'a', 2000);
    text[2000] = 0;
    assert_false(ignore_wildmatch(pattern, text));
    for (size_t i = 0; i < 1998; i += 6) memcpy(pattern + i, "**/a*/", 6);
    pattern[1998] = 'b', pattern[1999] = 0;
    for (size_t i = 0; i < 2000; i += 2) memcpy(text + i, "a/", 2);
    assert_false(ignore_wildmatch(pattern, text));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(encodings_become_utf8, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(hashes_are_of_the_text, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(what_is_no_text_is_refused, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(empty_documents_are_told, make_folder, remove_folder),
        cmocka_unit_test(places_are_lines),
        cmocka_unit_test_setup_teardown(a_tree_is_read_in_order, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(rules_above_the_folder_count, make_folder, remove_folder),
        cmocka_unit_test_setup_teardown(git_agrees, make_folder, remove_folder),
        cmocka_unit_test(hostile_patterns_end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
