/* SPDX-License-Identifier: MIT
 *
 * One metadata key at a time (model_keys.h).
 */
#include "engine/model_keys.h"

const char *model_key(const struct model *m, const char *key, char room[128])
{
    snprintf(room, 128, "%s.%s", m->architecture, key);
    return room;
}

static const struct gguf_value *find(const struct model *m, const char *key)
{
    char room[128];
    return gguf_find(m->file, model_key(m, key, room));
}

bool model_has(const struct model *m, const char *key)
{
    return find(m, key) != NULL;
}

bool model_text(const struct model *m, const char *key, struct gguf_string *out)
{
    char room[128];
    return gguf_get_string(m->file, model_key(m, key, room), out);
}

static int lacks(const struct model *m, const char *key, struct error *error)
{
    char room[128];
    return error_set(error, ERROR_MODEL, "The model file lacks the key %s.", model_key(m, key, room));
}

int model_number(const struct model *m, const struct number_rule *rule, uint32_t *out, struct error *error)
{
    char room[128];
    const char *key = model_key(m, rule->key, room);
    if (!model_has(m, rule->key)) return lacks(m, rule->key, error);
    if (!gguf_get_u32(m->file, key, out)) return error_set(error, ERROR_MODEL, "%s is not a whole number.", key);
    if (*out < rule->least || *out > rule->most)
        return error_set(error, ERROR_MODEL, "%s is %u: %u to %u is supported.", key, *out, rule->least, rule->most);
    return 0;
}

int model_optional(const struct model *m, const struct number_rule *rule, uint32_t fallback, uint32_t *out,
                   struct error *error)
{
    *out = fallback;
    return model_has(m, rule->key) ? model_number(m, rule, out, error) : 0;
}

int model_real(const struct model *m, const char *key, float *out, struct error *error)
{
    char room[128];
    if (!model_has(m, key)) return lacks(m, key, error);
    model_key(m, key, room);
    if (!gguf_get_f32(m->file, room, out) || !(*out > 0 && *out < 1e8f))
        return error_set(error, ERROR_MODEL, "%s is not a positive number.", room);
    return 0;
}

int model_optional_real(const struct model *m, const char *key, float *out, struct error *error)
{
    return model_has(m, key) ? model_real(m, key, out, error) : 0;
}

int model_flag(const struct model *m, const char *key, bool *out, struct error *error)
{
    char room[128];
    if (!model_has(m, key) || gguf_get_bool(m->file, model_key(m, key, room), out)) return 0;
    return error_set(error, ERROR_MODEL, "%s is not true or false.", model_key(m, key, room));
}
