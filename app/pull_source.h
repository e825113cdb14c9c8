/* SPDX-License-Identifier: MIT
 *
 * What the user typed after `lectern pull`, turned into an address and a file name: a name of the catalogue, a file of
 * a Hugging Face repository (hf:OWNER/REPO/FILE), or an address. One file of several (app/model_parts.h) means them
 * all.
 */
#ifndef LECTERN_APP_PULL_SOURCE_H
#define LECTERN_APP_PULL_SOURCE_H

#include "app/catalogue.h"
#include "app/download.h"
#include "app/model_parts.h"

struct pull_source {
    struct download_source address; /* its strings are in the buffers below */
    char before[MANIFEST_URL_MOST + 1], revision[101], after[MANIFEST_URL_MOST + 1];
    char name[DOWNLOAD_NAME_MOST + 1]; /* of the first file */
    struct model_parts parts;
    const struct catalogue_entry *entry; /* NULL when it is none of the catalogue's */
    bool is_hub;                         /* the first host is the hub's: HF_TOKEN is meant for it */
};

/* revision: NULL = main. HF_ENDPOINT in the environment takes the place of https://huggingface.co. ERROR_USAGE. */
int pull_source_parse(struct pull_source *, const char *typed, const char *revision, struct error *);
/* Makes it stand for one of its files, counted from 1. */
void pull_source_turn(struct pull_source *, unsigned number);

#endif
