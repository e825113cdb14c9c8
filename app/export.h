/* SPDX-License-Identifier: MIT
 *
 * A session as a file, for people (Markdown) or programs (JSON). The documents' texts are not part of it.
 */
#ifndef LECTERN_APP_EXPORT_H
#define LECTERN_APP_EXPORT_H

#include "app/desk.h"

enum export_format { EXPORT_MARKDOWN, EXPORT_JSON };

/* Writes path anew (0600); a file that is there is not replaced. */
int export_session(const struct desk *, enum export_format, const char *path, struct error *);

#endif
