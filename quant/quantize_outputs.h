/* SPDX-License-Identifier: MIT
 *
 * Where a rewritten model goes: one file, or as many as the input was split into. Private to quant/.
 */
#ifndef LECTERN_QUANT_QUANTIZE_OUTPUTS_H
#define LECTERN_QUANT_QUANTIZE_OUTPUTS_H

#include "quant/gguf.h"

struct outputs {
    struct gguf_writer **writers; /* [count]; NULL once finished */
    char **paths;                 /* [count] */
    size_t count;
};

/* For count > 1 the files are PATH, without ".gguf" or "-00001-of-0000N.gguf" at its end, and "-0000I-of-0000N.gguf".
 * On failure nothing is left open. */
int outputs_open(struct outputs *, const char *path, size_t count, struct error *);
/* Puts the keys that tell a part from the others into each of several; n_tensors: of all together. */
void outputs_describe_split(struct outputs *, size_t n_tensors);
/* The files take their names, in order. On failure none of them is left. Frees in any case. */
int outputs_finish(struct outputs *, struct error *);
void outputs_abort(struct outputs *); /* removes what is not finished; may be called twice */

#endif
