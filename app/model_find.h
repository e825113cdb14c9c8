/* SPDX-License-Identifier: MIT
 *
 * From what the user says after -m, or where a command takes a MODEL, to a file.
 */
#ifndef LECTERN_APP_MODEL_FIND_H
#define LECTERN_APP_MODEL_FIND_H

#include "quant/error.h"

/* *path is malloc'ed. A path, or the name of a file that is there, stays what it is. Any other word names a pulled or
 * imported model: in full, as the catalogue calls it, or by a piece that only one of them has, in any case ("q4_k").
 * typed NULL: the built-in model. data_dir: --data-dir or NULL. ERROR_MODEL: none is called so, or several, or it is
 * not whole yet. */
int model_find(const char *typed, const char *data_dir, char **path, struct error *);

#endif
