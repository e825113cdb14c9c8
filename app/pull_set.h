/* SPDX-License-Identifier: MIT
 *
 * All files of a model from a server to the folder: one after the other, with one progress and room for all of them
 * checked before the first byte. Each is downloaded and pinned as app/download.h says; all come from one commit.
 */
#ifndef LECTERN_APP_PULL_SET_H
#define LECTERN_APP_PULL_SET_H

#include "app/pull_source.h"

struct pull_set {
    struct pull_source *source;  /* is turned from file to file; stands at the first in the end */
    struct download_params file; /* what holds for each: folder, token, hooks, ...; size and hash of a single one */
    const uint64_t *sizes;       /* of each, or NULL */
    bool repair;                 /* files that are here are read again and mended */
};

/* Every file is told by hooks->say when it is there. The errors of download_file. */
int pull_set_fetch(const struct pull_set *, struct error *);
/* Are all files here? */
bool pull_set_is_here(const struct pull_set *);

#endif
