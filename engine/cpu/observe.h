/* SPDX-License-Identifier: MIT
 *
 * Looking at what every matrix of a model is multiplied with (struct engine_params, observe). It is laid over a cpu
 * backend: the operations that multiply matrices are wrapped, the others stay.
 */
#ifndef LECTERN_ENGINE_CPU_OBSERVE_H
#define LECTERN_ENGINE_CPU_OBSERVE_H

#include "engine/ops.h"

struct observer;

/* Lays the observer over a cpu backend. The weights must be those of `file`, where they are mapped: a weight that lies
 * elsewhere is not told of. observer_remove before the backend or the file goes. */
int observer_install(struct observer **out, struct backend *, const struct gguf *file, const struct engine_params *,
                     struct error *error);
void observer_remove(struct observer **); /* accepts NULL */

#endif
