/* SPDX-License-Identifier: MIT
 *
 * What became of documents since they were read: told in sentences before anything is read again.
 */
#ifndef LECTERN_APP_CHANGES_H
#define LECTERN_APP_CHANGES_H

#include "app/doc.h"
#include "store/store.h"

/* Gets each sentence. */
struct change_report {
    void (*tell)(void *ctx, const char *sentence);
    void *ctx;
};

/* Documents as they are now against those of a stored session, by path and hash of the text: which are edited (from
 * about which line), grown or cut at the end, new, gone, in another order; where its conversation stays. *count gets
 * the number of sentences. */
int changes_since(struct store *, int64_t session, const struct document_list *now, const struct change_report *,
                  size_t *count, struct error *);
/* The same for a session's stored documents against their files, where those lie there with another time or size.
 * Files that cannot be read are passed over: the session has its text. */
size_t changes_on_disk(const struct document_list *stored, const struct change_report *); /* the number of sentences */

#endif
