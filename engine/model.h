/* SPDX-License-Identifier: MIT
 *
 * A model file understood: the shape its metadata tells, every tensor checked against that shape, and, once loaded, the
 * weights of every layer in a backend's memory. docs/model.md says what each weight does.
 */
#ifndef LECTERN_ENGINE_MODEL_H
#define LECTERN_ENGINE_MODEL_H

#include "engine/ops.h"
#include "engine/rotation.h"
#include "quant/gguf.h"

enum { MODEL_MOST_HEAD_DIM = 256, MODEL_MOST_HEADS = 256 };

/* What architectures of general.architecture differ in. */
struct architecture {
    const char *name;
    bool has_kda;           /* head_count_kv tells the kinds of layers; else all are MLA */
    bool rotates;           /* positions turn the shared channels of MLA */
    bool always_normalises; /* the weights of chosen experts; else expert_weights_norm tells */
    bool needs_router_bias;
    enum moe_gating gating; /* where expert_gating_func is absent */
};

struct layer {
    bool is_mla;    /* else KDA */
    bool is_moe;    /* else dense */
    uint32_t index; /* among the layers of its kind (KDA or MLA), from 0 */

    struct weight attn_norm, ffn_norm; /* [E] */
    struct weight attn_q;              /* KDA: [H*D][E]; MLA: [H*(N+P)][E], or [H*(N+P)][Q] after q_a */
    struct weight attn_out;            /* [E][H*D], [E][H*V] */

    struct weight attn_k, attn_v;      /* KDA: [H*D][E] */
    struct weight conv[3];             /* q, k, v: [H*D][4] */
    struct weight f_a, f_b, dt, decay; /* [D][E], [H*D][D], [H*D], [H] = -exp(A_log) */
    struct weight beta;                /* [H][E] */
    struct weight g_a, g_b, out_norm;  /* [D][E], [H*D][D], [D] */

    struct weight kv_a, kv_norm; /* MLA: [R+P][E], [R] */
    struct weight k_b, v_b;      /* H matrices [R][N], H matrices [V][R] */
    struct weight q_a, q_a_norm; /* [Q][E], [Q]; absent where queries are not compressed */
    void *kv_b;                  /* what k_b and v_b were made of where the file has them in one piece, or NULL */

    struct weight gate, up, down;          /* dense FFN: [FF][E], [FF][E], [E][FF] */
    struct weight router, router_bias;     /* MoE: [X][E], [X] or absent */
    struct weight gate_exps, up_exps;      /* X matrices [F][E]; fused: gate_exps [2F][E], up_exps absent */
    struct weight down_exps;               /* X matrices [E][F] */
    struct weight gate_sh, up_sh, down_sh; /* shared expert: [FS][E], [FS][E], [E][FS] */
};

struct model {
    struct gguf *file;
    const struct architecture *arch;
    struct shape shape;
    struct rotation rotation;
    uint32_t context;                 /* tokens the model was made for */
    char name[128], architecture[32]; /* fit to be shown */
    uint64_t parameters, weight_bytes;
    uint8_t fingerprint[32];
    struct layer *layers; /* [n_layer] */
    struct weight embedding, output_norm, output;
};

/* Opens and checks a file; nothing is loaded. ERROR_MODEL names the key or tensor that is missing or wrong. */
int model_open(struct model **out, const char *path, struct error *error);
void model_close(struct model **); /* accepts NULL and half-built; the backend's copies of weights are the backend's */

/* Gives every weight to the backend. progress as in struct engine_params. */
struct model_progress {
    bool (*call)(void *ctx, uint64_t done, uint64_t total);
    void *ctx;
};
int model_load(struct model *, struct backend *, const struct model_progress *, struct error *error);

/* ---- Parts of model_open, in files of their own. */

/* Metadata -> architecture, name, shape, context, and the kind of every layer (model->layers is allocated). */
int model_read_shape(struct model *, struct error *error);
/* Checks name, shape and type of every tensor the layers need; counts parameters. */
int model_check_tensors(struct model *, struct error *error);
/* A tensor attn_kv_b [R, H*(N+V)] as k_b and v_b: descriptions whose data lies in `data` (NULL: nowhere yet), and that
 * data, for the caller to free, made of the tensor's. */
void model_kv_b_parts(const struct shape *, const struct gguf_tensor *joined, const void *data,
                      struct gguf_tensor parts[2]);
int model_kv_b_split(const struct shape *, const struct gguf_tensor *joined, void **data, struct error *error);
/* SHA-256 of what tells this file from another: docs/state-format.md, "Model fingerprint". */
int model_fingerprint(struct model *, struct error *error);

#endif
