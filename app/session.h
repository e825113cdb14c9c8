/* SPDX-License-Identifier: MIT
 *
 * Documents and sessions in the store, for the plain commands.
 */
#ifndef LECTERN_APP_SESSION_H
#define LECTERN_APP_SESSION_H

#include "app/doc.h"
#include "store/store.h"

/* Puts the documents into the store and finds the latest session over exactly them, else makes one. */
int session_for_documents(struct store *, const struct document_list *, int64_t *session, struct error *);
/* The stored documents of a session, in order. A session that is not there is ERROR_USAGE. */
int session_load_documents(struct store *, int64_t session, struct document_list *out, struct error *);

#endif
