/* SPDX-License-Identifier: MIT
 *
 * Documents: files and folders -> clean UTF-8 texts with places. Clean means: UTF-8, LF line ends, no byte-order mark,
 * no NUL, white space at the end trimmed. What is not read is listed with its reason; nothing is cut silently.
 */
#ifndef LECTERN_APP_DOC_H
#define LECTERN_APP_DOC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "quant/error.h"

enum document_encoding { ENCODING_UTF8, ENCODING_UTF16LE, ENCODING_UTF16BE, ENCODING_WINDOWS1252 };

struct document {
    char *path; /* absolute */
    char *name; /* as shown to the user and the model: as given, or root/relative inside a folder */
    char *text;
    size_t text_len;
    uint8_t hash[32]; /* SHA-256 of text */
    char *places;     /* NULL: places are lines */
    size_t places_len;
    int64_t mtime, size; /* of the file: document_mtime, bytes */
    enum document_encoding encoding;
};

/* Nanoseconds since 1970: a second edit within the same second is one, too. */
int64_t document_mtime(const struct stat *);

struct document_skip {
    char *name;
    char reason[96]; /* the rest of a sentence: "is ignored by src/.gitignore" */
};

struct document_list {
    struct document *items;
    size_t count, capacity;
    struct document_skip *skipped;
    size_t n_skipped, skip_capacity;
};

#define DOCUMENT_MOST_BYTES ((int64_t)64 << 20) /* a larger file is told, not read */
#define DOCUMENT_TREE_BYTES ((int64_t)2 << 20)  /* the same for a file met in a folder */

/* Reads files and folders in the order given. A path named by the user that cannot be read is an error (ERROR_INPUT);
 * what is met inside a folder is skipped with a reason. Ends with at least one document, or ERROR_INPUT. */
int documents_read(struct document_list *, char *const *paths, size_t count, struct error *);
void documents_free(struct document_list *);

/* Parts of documents_read. `name` is what the document will be called. */
int document_read_file(struct document *, const char *path, const char *name, int64_t most, struct error *);
int document_read_tree(struct document_list *, const char *root, const char *name, struct error *);
/* Raw bytes -> clean text (malloc). Binary input is ERROR_INPUT. */
int document_clean(const unsigned char *bytes, size_t n, char **text, size_t *len, enum document_encoding *,
                   struct error *);
void document_free(struct document *);
const char *document_encoding_name(enum document_encoding);
int documents_skip(struct document_list *, const char *name, const char *reason, struct error *);
int documents_add(struct document_list *, struct document *, struct error *); /* takes the contents over */

/* Where a byte of the text is. Formats to come add pages and chapters here. */
struct place {
    const char *name; /* the document's */
    uint32_t line;    /* from 1 */
    uint32_t column;  /* byte in the line, from 1 */
};
void document_place(const struct document *, size_t offset, struct place *out);

/* .gitignore's rules (doc_ignore.c). A list is a stack of files, the outermost first. */
struct ignore_list {
    struct ignore_rule *rules;
    size_t count, capacity;
};
/* Adds the rules of `text`, found in the folder `base` ("" = the root, else "a/b"). `source` is copied. */
int ignore_add(struct ignore_list *, const char *base, const char *source, const char *text, size_t len,
               struct error *);
/* Drops the rules after the first `count`. */
void ignore_cut(struct ignore_list *, size_t count);
/* The file whose rule ignores path ("a/b/c", from the root), or NULL. Parents are the caller's to have checked. */
const char *ignore_match(const struct ignore_list *, const char *path, bool is_folder);
/* Git's wildmatch with WM_PATHNAME: * ? [] do not match '/', ** between slashes does. */
bool ignore_wildmatch(const char *pattern, const char *text);

#endif
