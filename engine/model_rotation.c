/* SPDX-License-Identifier: MIT
 *
 * Metadata of rotary positions. YaRN stretches angles and also sharpens attention: the file tells by how much with
 * yarn_log_multiplier, 0.1 * mscale_all_dim of the model's own configuration. Its other number, mscale, is in no file;
 * DeepSeek's models have both alike, and then turned channels keep their size.
 * Sources: the GGUF specification, "RoPE"; the modelling code that DeepSeek-V2 was published with.
 */
#include "engine/model_keys.h"

#include <math.h>
#include <string.h>

static bool is_text(struct gguf_string s, const char *text)
{
    return s.len == strlen(text) && !memcmp(s.bytes, text, s.len);
}

/* Absent is 0, as is what a file says that has mscale_all_dim 0. */
static int read_log_multiplier(const struct model *m, float *out, struct error *error)
{
    char room[128];
    const char *key = model_key(m, "rope.scaling.yarn_log_multiplier", room);
    *out = 0;
    if (!model_has(m, "rope.scaling.yarn_log_multiplier")) return 0;
    if (gguf_get_f32(m->file, key, out) && *out >= 0 && *out < 100) return 0;
    return error_set(error, ERROR_MODEL, "%s is not a number from 0 to 100.", key);
}

/* Whether positions are stretched, by YaRN: another way is refused. */
static int read_scaling_type(const struct model *m, bool *yarn, struct error *error)
{
    struct gguf_string type = {"none", 4};
    char room[128];
    *yarn = false;
    if (model_has(m, "rope.scaling.type") && !model_text(m, "rope.scaling.type", &type))
        return error_set(error, ERROR_MODEL, "%s is not a text.", model_key(m, "rope.scaling.type", room));
    *yarn = is_text(type, "yarn");
    if (*yarn || is_text(type, "none")) return 0;
    return error_set(error, ERROR_MODEL, "%s is %.*s: yarn and none are supported.",
                     model_key(m, "rope.scaling.type", room), (int)(type.len < 32 ? type.len : 32), type.bytes);
}

static int read_yarn(const struct model *m, struct rotation_params *p, float *sharpen, struct error *error)
{
    char room[128];
    float log_multiplier, extrapolation = 1;
    int rc;
    if ((rc = model_real(m, "rope.scaling.factor", &p->factor, error)) ||
        (rc = model_optional(m, &(struct number_rule){"rope.scaling.original_context_length", 1, 1u << 24}, m->context,
                             &p->original, error)) ||
        (rc = model_optional_real(m, "rope.scaling.yarn_beta_fast", &p->fast, error)) ||
        (rc = model_optional_real(m, "rope.scaling.yarn_beta_slow", &p->slow, error)) ||
        (rc = model_optional_real(m, "rope.scaling.yarn_ext_factor", &extrapolation, error)) ||
        (rc = read_log_multiplier(m, &log_multiplier, error)))
        return rc;
    if (p->factor < 1 || extrapolation != 1)
        return error_set(error, ERROR_MODEL, "%s: only YaRN that lengthens, with an extrapolation of 1, is supported.",
                         model_key(m, "rope.scaling.factor", room));
    const float length = logf(p->factor);
    *sharpen = 1 + log_multiplier * length;
    if (log_multiplier == 0) p->magnitude *= 1 + 0.1f * length;
    return 0;
}

int model_read_rotation(struct model *m, struct error *error)
{
    struct rotation_params p = {.width = m->shape.rope, .base = 10000, .factor = 1, .fast = 32, .slow = 1};
    char room[128];
    float sharpen = 1;
    bool yarn;
    int rc;
    if (p.width % 2)
        return error_set(error, ERROR_MODEL, "%s is %u: channels turn in pairs.",
                         model_key(m, "rope.dimension_count", room), p.width);
    p.magnitude = 1;
    if ((rc = model_optional_real(m, "rope.freq_base", &p.base, error)) ||
        (rc = model_optional_real(m, "rope.scaling.attn_factor", &p.magnitude, error)) ||
        (rc = read_scaling_type(m, &yarn, error)) || (yarn && (rc = read_yarn(m, &p, &sharpen, error))))
        return rc;
    if (p.base <= 1) return error_set(error, ERROR_MODEL, "%s is not above 1.", model_key(m, "rope.freq_base", room));
    rotation_init(&m->rotation, &p);
    m->shape.rotates = true;
    m->shape.query_scale = p.magnitude * p.magnitude * sharpen * sharpen;
    return 0;
}
