/* SPDX-License-Identifier: MIT
 *
 * A Hugging Face folder of KimiLinearForCausalLM (config.json, safetensors, tiktoken.model, tokenizer_config.json and
 * maybe chat_template.jinja) -> a GGUF file. What becomes of each tensor is in convert_tensors.c, of each setting in
 * convert_config.c, of the vocabulary in convert_vocab.c.
 */
#ifndef LECTERN_QUANT_CONVERT_H
#define LECTERN_QUANT_CONVERT_H

#include "quant/gguf.h"

struct convert_progress {
    const char *name;     /* of the tensor being written */
    uint64_t done, total; /* weights of the whole model */
};

struct convert_params {
    const char *dir, *out;
    const char *name;                  /* general.name */
    const struct quant_format *format; /* F32, F16, BF16 or Q8_0; vectors and the like stay F32 (quantize_keeps_f32) */
    bool (*progress)(void *user, const struct convert_progress *); /* false stops: ERROR_CANCELLED; may be NULL */
    void *user;
};

struct convert_result {
    uint64_t weights, bytes; /* of tensor data written */
    size_t tensors, unused;  /* written; those of the folder that have no place in the model */
};

/* Streams: beside the mapped files, a few MiB and the vocabulary. Errors: ERROR_MODEL (input), ERROR_DISK (output),
 * ERROR_CANCELLED, ERROR_FAILED (memory); nothing is left under the final name then. */
int convert_folder(const struct convert_params *, struct convert_result *, struct error *);

#endif
