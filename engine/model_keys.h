/* SPDX-License-Identifier: MIT
 *
 * Metadata keys of an architecture, read and checked. A key is given without its prefix, which is the architecture's
 * name. Every number has bounds, so that sums and products of shapes cannot overflow anywhere later. All return 0 or
 * ERROR_MODEL with a sentence that names the key.
 */
#ifndef LECTERN_ENGINE_MODEL_KEYS_H
#define LECTERN_ENGINE_MODEL_KEYS_H

#include "engine/model.h"

struct number_rule {
    const char *key;
    uint32_t least, most;
};

int model_number(const struct model *, const struct number_rule *, uint32_t *out, struct error *error);
/* An absent key means `fallback`. */
int model_optional(const struct model *, const struct number_rule *, uint32_t fallback, uint32_t *out,
                   struct error *error);
/* A positive number below 10^8. */
int model_real(const struct model *, const char *key, float *out, struct error *error);
/* The same; *out stays as it is where the key is absent. */
int model_optional_real(const struct model *, const char *key, float *out, struct error *error);
/* An absent key leaves *out as it is. */
int model_flag(const struct model *, const char *key, bool *out, struct error *error);
bool model_text(const struct model *, const char *key, struct gguf_string *out);
bool model_has(const struct model *, const char *key);
/* The whole name of a key, for sentences. */
const char *model_key(const struct model *, const char *key, char room[128]);

/* ---- Groups of keys in files of their own. */

/* model_rotation.c: rope.*; fills shape.query_scale and model->rotation. */
int model_read_rotation(struct model *, struct error *error);
/* model_experts.c: everything of the feed-forward networks; fills is_moe of every layer. */
int model_read_ffn(struct model *, struct error *error);

#endif
