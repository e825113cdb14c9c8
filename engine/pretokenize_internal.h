/* SPDX-License-Identifier: MIT
 *
 * The matchers behind pretokenizer_next, one for each kind: where the piece that starts at p->at, before p->len, ends.
 */
#ifndef LECTERN_ENGINE_PRETOKENIZE_INTERNAL_H
#define LECTERN_ENGINE_PRETOKENIZE_INTERNAL_H

#include <assert.h>
#include <stdint.h>

#include "engine/pretokenize.h"

size_t pretokenize_deepseek(struct pretokenizer *);

#endif
