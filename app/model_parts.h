/* SPDX-License-Identifier: MIT
 *
 * Models in several files: NAME-00001-of-0000N.gguf and so on are one model to the user, known by its first file.
 */
#ifndef LECTERN_APP_MODEL_PARTS_H
#define LECTERN_APP_MODEL_PARTS_H

#include "app/download.h"

#define MODEL_PARTS_MOST 1024u /* as many as gguf_open takes */

struct model_parts {
    char stem[DOWNLOAD_NAME_MOST + 1]; /* before "-00001-of-"; of a single file all of its name */
    unsigned number, count;            /* which of how many, from 1; a single file: 1 of 1 */
};

/* Takes a file's name apart. A name that only looks like a part (0 of 3, 4 of 3) is a single file's. */
struct model_parts model_parts_of(const char *file);
/* The name of one of them. */
void model_parts_name(const struct model_parts *, unsigned number, char out[DOWNLOAD_NAME_MOST + 1]);

#endif
