/* SPDX-License-Identifier: MIT
 *
 * Finding an action.
 */
#include "app/actions.h"

#include <string.h>

const void *action_find(const struct action_table *t, int argc, char *const *argv, struct error *error)
{
    const char *name = argc > 1 ? argv[1] : "list";
    const int count = argc > 2 ? argc - 2 : 0;
    for (size_t i = 0; i < t->count; i++) {
        const void *row = (const char *)t->rows + i * t->row;
        const struct action_form *form = row;
        if (strcmp(form->name, name)) continue;
        if (count >= form->least && count <= form->most) return row;
        error_set(error, ERROR_USAGE, "%s %s takes %d argument%s; see lectern %s --help.", t->command, name,
                  form->least, form->least == 1 ? "" : "s", t->command);
        return NULL;
    }
    error_set(error, ERROR_USAGE, "%s cannot \"%.80s\"; see lectern %s --help.", t->command, name, t->command);
    return NULL;
}
