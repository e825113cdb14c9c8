/* SPDX-License-Identifier: MIT
 *
 * Documents and sessions in the store, for the plain commands.
 */
#ifndef LECTERN_APP_SESSION_H
#define LECTERN_APP_SESSION_H

#include "app/changes.h"

/* Puts the documents into the store and finds the latest session over exactly them, else makes one; the report (NULL:
 * nobody) then gets what changed against the session that resembles it. */
int session_for_documents(struct store *, const struct document_list *, const struct change_report *, int64_t *session,
                          struct error *);
/* Tells what changed against the session whose documents resemble these most, where there is one. */
int session_tell_changes(struct store *, const struct document_list *, const struct change_report *, size_t *count,
                         struct error *);
/* The stored documents of a session, in order. A session that is not there is ERROR_USAGE. */
int session_load_documents(struct store *, int64_t session, struct document_list *out, struct error *);

#endif
