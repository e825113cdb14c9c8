/* SPDX-License-Identifier: MIT
 *
 * The forward pass: one batch of tokens through all layers, by the operations of ops.h. docs/model.md has the
 * equations.
 */
#ifndef LECTERN_ENGINE_GRAPH_H
#define LECTERN_ENGINE_GRAPH_H

#include "engine/model.h"

/* Where a timeline's state lies. */
struct graph_state {
    uint64_t kda;     /* [n_kda][H][D][D] */
    uint64_t history; /* [n_kda][3][H*D][3] */
    struct rows rows;
};

struct graph_step {
    const struct graph_state *state;
    const uint32_t *ids;
    uint32_t first, n;
    float *logits; /* [vocabulary] */
};

/* The step after the last one, recorded while that ran. */
struct graph_ahead {
    struct graph_step step;
    uint64_t batch; /* the backend's number of the recording; 0 = none */
    uint32_t id;    /* where the device will take its token from */
};

/* Activations, one row a token. Letters as in ops.h; KDA and MLA layers share what both need. */
struct graph {
    struct backend *backend;
    const struct model *model;
    uint32_t batch;
    uint64_t buffers;        /* the memory that the following lie in */
    uint64_t ids;            /* u32 [batch] */
    uint64_t x, a;           /* [batch][E]: the residual stream, and a normalised copy of it */
    uint64_t q, k, v;        /* [batch][H*D]; q, as far as into k, also [batch][H*(N+P)]; v is o */
    uint64_t f_a, f;         /* [batch][D], [batch][H*D]: decay */
    uint64_t g_a, z;         /* [batch][D], [batch][H*D]: output gate; z is k */
    uint64_t beta;           /* [batch][H] */
    uint64_t c;              /* [batch][R+P] */
    uint64_t turns;          /* [batch][P/2][2]: cosine and sine of each position and pair */
    float *turns_host;       /* the same, on their way there */
    uint64_t q_a, q_n;       /* [batch][Q]: compressed queries, and normalised */
    uint64_t o;              /* [batch][max(H*D, H*V)] */
    uint64_t gate, up;       /* [batch][max(FF, FS)] */
    uint64_t router;         /* [batch][X] */
    uint64_t chosen, weight; /* u32 [batch][K], [batch][K] */
    uint64_t logits;         /* [LOGIT_ROWS][vocabulary] */
    struct graph_ahead ahead;
};

enum { LOGIT_ROWS = 16 }; /* logits made at a time when those of every token are wanted */

/* Bytes graph_open allocates. */
uint64_t graph_bytes(const struct shape *, uint32_t batch);
int graph_open(struct graph *, struct backend *, const struct model *, uint32_t batch, struct error *error);
void graph_close(struct graph *); /* accepts zeroed and half-built */

/* Evaluates ids at positions [first, first + n), n <= batch, and downloads the last token's logits. On failure the
 * state is undefined. At first = 0 the state is zeroed first. */
int graph_eval(struct graph *, const struct graph_step *, struct error *error);

/* Logits of all n tokens of the batch evaluated last: [n][vocabulary]. */
int graph_all_logits(struct graph *, uint32_t n, float *logits, struct error *error);

#endif
