/* SPDX-License-Identifier: MIT
 *
 * The folder of pulled and imported models: $XDG_DATA_HOME/lectern/models. Each model is NAME with NAME.manifest
 * (app/manifest.h), or NAME.part with NAME.part.manifest while it is on its way.
 */
#ifndef LECTERN_APP_MODELS_H
#define LECTERN_APP_MODELS_H

#include "app/download.h"

struct model_file {
    char name[DOWNLOAD_NAME_MOST + 1];
    uint64_t size, here; /* bytes; here < size: a part */
    bool is_part, has_manifest;
    enum manifest_trust trust; /* TRUST_NONE: no hash is known */
    uint8_t sha256[32];
};

struct model_list {
    struct model_file *items; /* by name */
    size_t count;
};

/* The folder, made when it is not there; malloc'ed. data_dir: --data-dir or NULL. */
int models_folder(const char *data_dir, char **out, struct error *);
/* What the user typed to a file's name: a name of the catalogue, or a file name that may stand here. ERROR_USAGE. */
int models_file_name(const char *typed, char out[DOWNLOAD_NAME_MOST + 1], struct error *);

int models_list(const char *folder, struct model_list *, struct error *);
void model_list_free(struct model_list *);

/* The model and its part, with their manifests. ERROR_USAGE when there is neither. */
int models_remove(const char *folder, const char *name, struct error *);

struct models_verdict {
    size_t bad, n_chunks;
    bool is_whole_right;
    bool was_known; /* false: nobody had said a hash; it is noted now */
    uint8_t sha256[32];
};
/* Reads the whole file and holds it against its manifest. What it finds is no error. */
int models_verify(const char *folder, const char *name, const struct download_hooks *, struct models_verdict *,
                  struct error *);
/* Copies a file of the user's in, under its own name, hashing it. ERROR_MODEL when it is no GGUF file; ERROR_FAILED
 * when the catalogue knows its hash as another. name gets the file's name. */
int models_import(const char *folder, const char *path, const struct download_hooks *,
                  char name[DOWNLOAD_NAME_MOST + 1], struct error *);

#endif
