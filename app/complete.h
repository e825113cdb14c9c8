/* SPDX-License-Identifier: MIT
 *
 * What could stand at the cursor: / commands, the paths some of them take, and files after @.
 */
#ifndef LECTERN_APP_COMPLETE_H
#define LECTERN_APP_COMPLETE_H

#include "app/editline.h"

#define COMPLETION_MOST 200

struct completion {
    char **items; /* whole replacements of [from, cursor); a folder ends with '/' */
    size_t count;
    size_t from;
    size_t selected; /* SIZE_MAX = none */
    bool is_command;
};

/* Looks again after the input changed. */
int completion_update(struct completion *, const struct editline *, struct error *);
void completion_clear(struct completion *);
/* Tab: extends the word as far as all agree; when that is nothing, takes the selected one or the first. */
int completion_tab(struct completion *, struct editline *, struct error *);
/* Takes the selected one, or the first. */
int completion_take(struct completion *, struct editline *, struct error *);

#endif
