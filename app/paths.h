/* SPDX-License-Identifier: MIT
 *
 * Where things lie: XDG base directories, and the built-in model. Results are malloc'ed strings.
 */
#ifndef LECTERN_APP_PATHS_H
#define LECTERN_APP_PATHS_H

#include "quant/error.h"

/* $XDG_CONFIG_HOME/lectern/lectern.ini */
int paths_config(char **out, struct error *);
/* $XDG_DATA_HOME/lectern, made with mode 0700 (with its parents); `given` (--data-dir) takes its place when not NULL.
 */
int paths_data(const char *given, char **out, struct error *);
/* $XDG_CACHE_HOME/lectern, not made; NULL where there is no home. */
int paths_cache(char **out, struct error *);
/* The built-in model, beside the source tree or under share/. ERROR_MODEL when there is none. */
int paths_model(char **out, struct error *);
/* dir + "/" + name */
int paths_join(const char *dir, const char *name, char **out, struct error *);

#endif
