/* SPDX-License-Identifier: MIT
 *
 * What tells one model file from another, without reading all of it: docs/state-format.md, "Model fingerprint".
 */
#include "engine/model.h"

#include <openssl/evp.h>

enum { SAMPLE = 4096 };

static bool hash_u64(EVP_MD_CTX *hash, uint64_t value)
{
    unsigned char le[8];
    for (int i = 0; i < 8; i++) le[i] = (unsigned char)(value >> (8 * i));
    return EVP_DigestUpdate(hash, le, sizeof le);
}

static bool hash_tensor(EVP_MD_CTX *hash, const struct gguf_tensor *t)
{
    size_t sample = t->bytes < SAMPLE ? t->bytes : SAMPLE;
    const unsigned char *data = t->data;
    return hash_u64(hash, t->name.len) && EVP_DigestUpdate(hash, t->name.bytes, t->name.len) &&
           hash_u64(hash, t->bytes) && EVP_DigestUpdate(hash, data, sample) &&
           EVP_DigestUpdate(hash, data + t->bytes - sample, sample);
}

int model_fingerprint(struct model *m, struct error *error)
{
    size_t header_bytes;
    const void *header = gguf_header(m->file, &header_bytes);
    EVP_MD_CTX *hash = EVP_MD_CTX_new();
    bool ok = hash && EVP_DigestInit_ex(hash, EVP_sha256(), NULL) && EVP_DigestUpdate(hash, header, header_bytes);
    for (size_t i = 0; ok && i < gguf_tensor_count(m->file); i++) ok = hash_tensor(hash, gguf_tensor_at(m->file, i));
    ok = ok && EVP_DigestFinal_ex(hash, m->fingerprint, NULL);
    EVP_MD_CTX_free(hash);
    return ok ? 0 : error_set(error, ERROR_FAILED, "The model's fingerprint could not be computed.");
}
