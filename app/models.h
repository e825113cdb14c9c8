/* SPDX-License-Identifier: MIT
 *
 * The folder of pulled and imported models: $XDG_DATA_HOME/lectern/models. Each file is NAME with NAME.manifest
 * (app/manifest.h), or NAME.part with NAME.part.manifest while it is on its way. A model in several files
 * (app/model_parts.h) is one model here, under the name of its first file.
 */
#ifndef LECTERN_APP_MODELS_H
#define LECTERN_APP_MODELS_H

#include "app/download.h"
#include "app/model_parts.h"

struct model_file {
    char name[DOWNLOAD_NAME_MOST + 1]; /* of the first file */
    unsigned n_parts, n_whole;         /* files, and those of them that are whole */
    uint64_t size, here;               /* bytes, all files; a file of which nothing is known counts as 0 */
    bool is_part;                      /* it is not whole */
    enum manifest_trust trust;         /* TRUST_NONE: the hash of one of them is not known */
    uint8_t sha256[32];                /* of a single file */
};

struct model_list {
    struct model_file *items; /* by name */
    size_t count;
};

/* The folder, made when it is not there; malloc'ed. data_dir: --data-dir or NULL. */
int models_folder(const char *data_dir, char **out, struct error *);

int models_list(const char *folder, struct model_list *, struct error *);
void model_list_free(struct model_list *);
/* The one of that name: a name of the catalogue, or a file's name, ".gguf" and "-00001-of-0000N" left out or not.
 * NULL: none. */
const struct model_file *models_named(const struct model_list *, const char *typed);
/* The same by name of the folder; ERROR_USAGE when it is not there. */
int models_get(const char *folder, const char *typed, struct model_file *out, struct error *);

/* The model and its parts, with their manifests. ERROR_USAGE when there is nothing. */
int models_remove(const char *folder, const char *name, struct error *);

struct models_verdict {
    size_t bad, n_chunks;
    bool is_whole_right;
    bool was_known; /* false: nobody had said a hash; it is noted now */
    uint8_t sha256[32];
};
/* Reads one whole file and holds it against its manifest. What it finds is no error. */
int models_verify(const char *folder, const char *file, const struct download_hooks *, struct models_verdict *,
                  struct error *);
/* Copies a model of the user's in, all its files, under their own names, hashing them. ERROR_MODEL when it is no GGUF
 * file; ERROR_FAILED when the catalogue knows its hash as another. name gets the first file's name. */
int models_import(const char *folder, const char *path, const struct download_hooks *,
                  char name[DOWNLOAD_NAME_MOST + 1], struct error *);

#endif
