/* SPDX-License-Identifier: MIT
 *
 * The operations of the forward pass, and the two backends that do them: cpu (plain C, the twin that defines right)
 * and gpu (Vulkan). graph.c calls nothing else.
 *
 * Every operand is a device address: a uint64_t that is a plain pointer on the cpu and a buffer device address on the
 * gpu. Adding bytes to it is allowed inside one allocation. Shapes are row-major, the last dimension contiguous, f32
 * unless said otherwise; n is the number of tokens in the batch.
 *
 * Operations are recorded between begin and submit and run in order; each sees the results of those before it. They
 * return nothing: a failure is kept in the backend and comes out of submit. Operands must not overlap unless said.
 *
 * Source of the maths: Kimi Linear report, arXiv 2510.26692; docs/model.md has the equations with our names.
 */
#ifndef LECTERN_ENGINE_OPS_H
#define LECTERN_ENGINE_OPS_H

#include "engine/engine.h"
#include "quant/gguf.h"

/* How router logits become the scores of experts. */
enum moe_gating { MOE_SIGMOID, MOE_SOFTMAX };

/* Hyper-parameters: everything graph and backends need of the metadata. Filled and checked by model.c. */
struct shape {
    uint32_t n_layer, n_embd, n_vocab, n_head;
    uint32_t kda_dim;                 /* D: head width of q, k, v in KDA layers */
    uint32_t conv_kernel;             /* always 4 */
    uint32_t q_lora;                  /* Q: width of compressed queries, 0 where none are */
    uint32_t kv_lora, nope, rope, vdim; /* R, N, P, V of MLA; a row is R + P wide, a query head N + P */
    uint32_t n_ff, n_ff_exp, n_ff_shared;
    uint32_t n_expert, n_used;        /* 0 experts: every layer is dense */
    uint32_t n_dense;                 /* leading dense layers */
    enum moe_gating gating;
    bool expert_norm;               /* the weights of chosen experts are divided by their sum */
    uint32_t n_group, n_group_used; /* groups of experts, and those a token may choose from; 1, 1: no groups */
    float expert_scale, eps;
    bool rotates;      /* positions turn the shared channels of MLA (struct rope) */
    float query_scale; /* beside 1 / sqrt(N + P): what MLA queries are multiplied by, 1 but for YaRN */
    uint32_t n_kda, n_mla;
};

/* A matrix, or a stack of n_mat equal ones, in the backend's memory: y[o] = sum_i w[o][i] x[i]. */
struct weight {
    const struct quant_format *format;
    uint32_t n_in, n_out, n_mat;
    uint64_t addr;      /* device address; 0 = absent */
    uint64_t row_bytes; /* from one output row to the next */
    uint64_t mat_bytes; /* from one matrix to the next */
};

/* The MLA rows of a timeline. Blocks of STATE_SEGMENT tokens: [n_mla][STATE_SEGMENT][row_bytes]. */
struct rows {
    uint64_t table;     /* device address of u64 block addresses, token t in table[t / STATE_SEGMENT] */
    uint32_t row_bytes; /* one row of one layer: (R + P) elements of dtype */
    enum engine_dtype dtype; /* F32, F16 (IEEE half) or Q8_0 (blocks of 32: f16 scale, 32 int8) */
};

struct matmul_job {
    const struct weight *w;
    uint64_t y;  /* [n][w->n_out] */
    bool add;    /* y += W x instead of y = W x */
};

/* a = rms_norm(x) times gain, then the products of a. */
struct norm_matmul {
    uint32_t n;
    uint64_t x, gain, a; /* [n][n_in], [n_in], [n][n_in] */
    float eps;
    const struct matmul_job *jobs; /* all of one n_in */
    uint32_t count;                /* 1 .. 64 */
};

struct kda_conv {
    uint32_t n, n_head, dim;
    uint64_t x[3];      /* q, k, v projections [n][H*D] */
    uint64_t kernel[3]; /* [H*D][4], tap 3 is the present token */
    uint64_t history;   /* [3 streams][H*D][3]: the last 3 inputs, oldest first; read, then replaced */
    uint64_t y[3];      /* [n][H*D]; may be = x */
};

struct kda_gate {
    uint32_t n, n_head, dim;
    uint64_t f;    /* [n][H*D] = W_fb W_fa a; replaced by g = a_h * softplus(f + dt) <= 0 */
    uint64_t dt;   /* [H*D] */
    uint64_t a;    /* [H], already -exp(A_log) */
    uint64_t beta; /* [n][H]; replaced by sigmoid */
};

struct kda_delta {
    uint32_t n, n_head, dim;
    uint64_t q, k, v, g; /* [n][H*D]; q normalised and scaled */
    uint64_t beta;       /* [n][H] */
    uint64_t state;      /* [H][D key][D value], read and replaced */
    uint64_t o;          /* [n][H*D]; may be v */
};

struct kda_out {
    uint32_t n, n_head, dim;
    uint64_t o;    /* [n][H*D]; replaced by rms_norm(o_h) * gain * sigmoid(z) */
    uint64_t gain; /* [D], shared by all heads */
    uint64_t z;    /* [n][H*D] */
    float eps;
};

/* Rotary positions, before mla_store and mla_attend. Channels 2i and 2i + 1 of the shared part are a pair (x, y) that
 * becomes (x cos - y sin, x sin + y cos). */
struct rope {
    uint32_t n, n_head, kv_lora, nope, rope; /* P is even */
    uint64_t q;     /* [n][H][N + P]: the last P turned, then all times scale */
    uint64_t c;     /* [n][R + P]: the last P turned */
    uint64_t turns; /* [n][P / 2][2]: cosine and sine for each token and pair */
    float scale;
};

struct mla_store {
    uint32_t n, first;  /* tokens, and the position of the first */
    uint32_t layer;     /* which MLA layer, counted from 0 */
    uint32_t kv_lora, rope;
    uint64_t c;         /* [n][R + P] raw projection; the first R are normalised with gain, the last P kept */
    uint64_t gain;      /* [R] */
    float eps;
    const struct rows *rows;
};

enum mla_form { MLA_AUTO, MLA_ABSORBED, MLA_EXPANDED };

struct mla_attend {
    uint32_t n, first, layer; /* query i sees rows [0, first + i] */
    uint32_t n_head, kv_lora, nope, rope, vdim;
    uint64_t q;               /* [n][H][N + P] */
    const struct weight *k_b; /* H matrices [R][N]: n_in = N, n_out = R */
    const struct weight *v_b; /* H matrices [V][R] */
    const struct rows *rows;
    uint64_t o;               /* [n][H][V] */
    enum mla_form form;       /* absorbed: queries go into the latent space; expanded: K and V come out of it */
};

struct moe_route {
    uint32_t n, n_expert, n_used;
    uint64_t logits; /* [n][X] */
    uint64_t bias;   /* [X]: for the choice only; 0 = none */
    uint64_t chosen; /* u32 [n][K], best first; ties go to the lower index */
    uint64_t weight; /* [n][K]: score, divided by the sum of the chosen unless raw, times scale */
    float scale;
    enum moe_gating gating; /* score: sigmoid, or softmax over all experts */
    bool raw;
    /* With n_group > 1 the experts lie in so many equal groups, and only those of the n_group_used groups whose two
     * best have the highest sum (with bias) can be chosen; K of them at least. At most 256. */
    uint32_t n_group, n_group_used;
};

struct moe_experts {
    uint32_t n, n_used;
    uint64_t x;                     /* [n][E] */
    uint64_t chosen, weight;        /* as above */
    const struct weight *gate, *up; /* X matrices [F][E]; or gate = fused [2F][E], gate rows first, and up = NULL */
    const struct weight *down;      /* X matrices [E][F] */
    uint64_t y;                     /* [n][E], added to */
    uint64_t spare, spare_bytes;    /* memory for the operation's own use, or 0 */
};

/* Bytes of it in the forward pass of n tokens: where the hidden layers of other feed-forward networks are. */
static inline uint64_t shape_spare(const struct shape *s, uint32_t n)
{
    const uint64_t width = s->n_ff > s->n_ff_shared ? s->n_ff : s->n_ff_shared;
    return 2 * width * n * sizeof(float);
}

/* A KDA layer between its projections: gate.f = f_b f_a, the first three operations, out.z = g_b g_a, the last, each on
 * what those before it leave: out.z may be where delta.k was. Only out.o, the state and the history are sure to be there
 * afterwards. */
struct kda_block {
    const struct weight *f_b, *g_b; /* [H*D][D] */
    uint64_t f_a, g_a;              /* [n][D] */
    struct kda_conv conv;
    struct kda_gate gate;
    struct kda_delta delta;
    struct kda_out out;
};

/* A layer's mixture of experts from norm to residual: norm_matmul of router and shared gate and up, route, experts with
 * y = x, and x += down_sh (silu(gate) * up). */
struct moe_block {
    uint64_t x, gain; /* [n][E], [E]; the normalised x goes to experts.x */
    float eps;
    const struct weight *router;
    const struct weight *gate_sh, *up_sh, *down_sh; /* NULL where there is no shared expert */
    uint64_t gate, up;                              /* [n][FS] */
    struct moe_route route;
    struct moe_experts experts;
};

struct backend;

struct backend_ops {
    void (*destroy)(struct backend *);

    /* Tells what will be asked, so that scratch is allocated once. Called once, before the first begin. */
    int (*prepare)(struct backend *, const struct shape *, uint32_t batch, struct error *);

    /* Memory. Contents start undefined. label names it for debuggers. ERROR_FIT when there is none. */
    int (*alloc)(struct backend *, size_t bytes, const char *label, uint64_t *addr, struct error *);
    void (*release)(struct backend *, uint64_t addr); /* not between begin and submit */
    int (*weight_load)(struct backend *, const struct gguf_tensor *, struct weight *out, struct error *);

    /* Outside begin .. submit. upload and download wait for nothing but themselves. */
    int (*upload)(struct backend *, uint64_t dst, const void *src, size_t bytes, struct error *);
    int (*download)(struct backend *, void *dst, uint64_t src, size_t bytes, struct error *);
    /* Host memory that the device copies from by itself: an upload from it, of all that it will be asked for in a row,
     * returns at once and gives it back. Any thread may fill it. NULL: there is none, or none free. The first one asked
     * for tells the size of all, until rooms_end; before that there are no downloads. NULL both where it is all one. */
    void *(*room)(struct backend *, size_t bytes);
    void (*rooms_end)(struct backend *);

    int (*begin)(struct backend *, struct error *);  /* drops what was recorded and not submitted */
    int (*submit)(struct backend *, struct error *); /* runs what was recorded and waits for it */
    /* submit in two: between them the next batch may be recorded. Any other operation drops what is recorded; recorded()
     * tells it by another number, 0 for nothing. NULL where operations run when they are recorded. */
    int (*start)(struct backend *, struct error *);
    int (*finish)(struct backend *, struct error *);
    uint64_t (*recorded)(const struct backend *);

    /* Recorded. */
    void (*fill)(struct backend *, uint64_t dst, uint32_t word, size_t bytes); /* bytes: a multiple of 4 */
    void (*copy)(struct backend *, uint64_t dst, uint64_t src, size_t bytes);
    /* From the host, read when the batch is submitted; bytes: a multiple of 4, a few thousand at most. To the host: there
     * when submit returns 0; once a batch. */
    void (*put)(struct backend *, uint64_t dst, const void *src, size_t bytes);
    void (*fetch)(struct backend *, void *dst, uint64_t src, size_t bytes);
    void (*embed)(struct backend *, const struct weight *table, uint64_t ids /* u32 [n] */, uint64_t x /* [n][E] */,
                  uint32_t n);
    void (*rms_norm)(struct backend *, uint64_t x, uint64_t gain, uint64_t y, uint32_t n, uint32_t width, float eps);
    void (*matmul)(struct backend *, uint64_t x /* [n][n_in], the same for all */, const struct matmul_job *,
                   uint32_t count, uint32_t n);
    void (*norm_matmul)(struct backend *, const struct norm_matmul *);
    void (*swiglu)(struct backend *, uint64_t gate, uint64_t up, uint64_t y, uint32_t n, uint32_t width); /* y may = gate */
    void (*kda_conv)(struct backend *, const struct kda_conv *); /* conv, SiLU; q, k L2-normalised, q / sqrt(D) */
    void (*kda_gate)(struct backend *, const struct kda_gate *);
    void (*kda_delta)(struct backend *, const struct kda_delta *);
    void (*kda_out)(struct backend *, const struct kda_out *);
    void (*rope)(struct backend *, const struct rope *);
    void (*mla_store)(struct backend *, const struct mla_store *);
    void (*mla_attend)(struct backend *, const struct mla_attend *);
    void (*moe_route)(struct backend *, const struct moe_route *);
    void (*moe_experts)(struct backend *, const struct moe_experts *);

    /* Recorded, several of the above in fewer steps. NULL or false: not here, or not in this form, and nothing was
     * recorded; the caller then asks for them one by one. */
    bool (*kda_block)(struct backend *, const struct kda_block *);
    bool (*moe_block)(struct backend *, const struct moe_block *);

    /* As engine_profile_start and engine_profile_read. NULL: there is no clock on the device. */
    int (*profile_start)(struct backend *, struct engine_peaks *, struct error *);
    size_t (*profile_read)(struct backend *, struct engine_timing *out, size_t cap);
};

struct backend {
    const struct backend_ops *ops;
    char name[128];
    char id[16];
    uint64_t memory_free; /* when it was opened */
};

int cpu_backend_open(struct backend **out, uint32_t threads, struct error *error);
/* From now on its products round activations to signed bytes, three each, where the weights' format allows it. Right
 * after opening. */
void cpu_round_activations(struct backend *);
/* index: of the Vulkan physical device; UINT32_MAX = the best real GPU, ERROR_FIT when there is none. */
int gpu_backend_open(struct backend **out, uint32_t index, bool validate, struct error *error);
/* Lists Vulkan devices only. Without a loader *count is 0. */
int gpu_devices(struct engine_device *list, size_t cap, size_t *count, struct error *error);
/* Working memory on such a device that prepare will reserve for a batch. */
uint64_t gpu_scratch_bytes(const struct engine_device *, const struct shape *, uint32_t batch);
/* Validation messages so far (0 when validation is off). */
uint32_t gpu_validation_messages(const struct backend *);
/* Keeps compiled kernels in a folder (made when needed) from this run to the next. Right after opening. What cannot be
 * read or written is left: kernels are then compiled anew. */
void gpu_keep_kernels(struct backend *, const char *dir);
/* Whether products may round their factors to f16: on cooperative matrices they do. */
bool gpu_multiplies_halves(const struct backend *);
/* For tests, before prepare: a software device is from now on given the kernels of real GPUs, and memory of its own. */
void gpu_act_as_hardware(struct backend *);
/* The same, and products as on cooperative matrices, in plain arithmetic. False on a device that has such matrices. */
bool gpu_act_with_matrices(struct backend *);

#endif
