/* SPDX-License-Identifier: MIT
 *
 * /set: what can be changed while lectern runs.
 */
#ifndef LECTERN_APP_SETTINGS_SLASH_H
#define LECTERN_APP_SETTINGS_SLASH_H

#include "app/commands_slash.h"

/* "" shows all; "NAME VALUE" or "NAME=VALUE" changes one. */
int settings_run(struct slash_context *, const char *argument, struct error *);

#endif
