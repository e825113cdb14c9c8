/* SPDX-License-Identifier: MIT
 *
 * Kimi Delta Attention on the GPU: short convolution, gates, the delta rule (token by token for few tokens, in chunks
 * for many), gated norm. Equations: docs/model.md; kernels: shaders/kda_*.comp.
 */
#include "engine/gpu/gpu.h"
#include "shaders/params_kda.h"

#include <math.h>

enum {
    CONV_SEGMENT = 32, /* tokens a team of the convolution walks over; more than 2 */
    DELTA_SPAN = 256,  /* tokens whose chunk records are made at once; a multiple of KDA_CHUNK */
    DELTA_SPANS = 2,   /* in scratch memory at once: one is made while the other is walked over */
    WALK_GROUP = 256,  /* of kda_walk */
    STEP_MOST = 16,    /* tokens that go one after the other: a chunk would be mostly padding */
};

/* Invocations that work together in a kernel, see shaders/lanes.glsl. */
static uint32_t lanes(const struct gpu *gpu)
{
    return gpu->caps.subgroup < 32 ? gpu->caps.subgroup : 32;
}

static uint64_t halo_bytes(uint32_t n, uint32_t width)
{
    return (uint64_t)gpu_div_up(n, CONV_SEGMENT) * 9 * width * sizeof(float);
}

static uint64_t record_bytes(uint32_t n, uint32_t n_head, uint32_t dim)
{
    return (uint64_t)gpu_div_up(n, KDA_CHUNK) * n_head * KDA_RECORD(dim) * sizeof(float);
}

/* Of a workgroup of kda_chunk, the kernel that takes most: three times 16 rows of D, padded; beta; A_kk. */
static uint64_t shared_bytes(uint32_t dim)
{
    return 3ull * KDA_CHUNK * (dim / 4 + 1) * 16 + 4 * KDA_CHUNK + 4 * KDA_CHUNK * KDA_CHUNK;
}

int gpu_kda_prepare(struct gpu *gpu, const struct shape *shape, uint32_t n, struct error *error)
{
    if (!shape->n_kda) return 0;
    if (shared_bytes(shape->kda_dim) > gpu->caps.shared_bytes)
        return error_set(error, ERROR_MODEL,
                         "KDA heads of %u need more shared memory than %s has; --device cpu runs them.", shape->kda_dim,
                         gpu->caps.name);
    const uint64_t halo = halo_bytes(n, shape->n_head * shape->kda_dim);
    const uint32_t span = DELTA_SPAN * DELTA_SPANS;
    const uint64_t records = record_bytes(n < span ? n : span, shape->n_head, shape->kda_dim);
    return gpu_scratch_reserve(gpu, GPU_SCRATCH_KDA, halo > records ? halo : records, error);
}

/* ------------------------------------------------------------------------------------------------ convolution */

/* y may be x: puts aside what the segments read of their neighbours. */
static struct gpu_range conv_halo(struct gpu *gpu, const struct kda_conv *op)
{
    const uint32_t width = op->n_head * op->dim, segments = gpu_div_up(op->n, CONV_SEGMENT);
    const uint64_t bytes = (uint64_t)op->n * width * sizeof(float);
    const struct gpu_range halo = {gpu->scratch[GPU_SCRATCH_KDA].addr, halo_bytes(op->n, width)};
    const struct params_kda_halo params = {
        .x = {op->x[0], op->x[1], op->x[2]},
        .history = op->history,
        .halo = halo.addr,
        .width = width,
        .segment = CONV_SEGMENT,
    };
    gpu_dispatch(
        gpu,
        &(struct gpu_dispatch){
            .label = "kda halo",
            .shader = SHADER_KDA_HALO,
            .spec = {64, gpu->caps.subgroup},
            .n_spec = 2,
            .params = &params,
            .params_bytes = sizeof params,
            .groups = {gpu_div_up(3 * width, 64), 3, segments},
            .reads = {{op->x[0], bytes}, {op->x[1], bytes}, {op->x[2], bytes}, gpu_floats(op->history, 9ull * width)},
            .writes = {halo},
        });
    return halo;
}

void gpu_kda_conv(struct backend *backend, const struct kda_conv *op)
{
    struct gpu *gpu = gpu_of(backend);
    const uint32_t width = op->n_head * op->dim, segments = gpu_div_up(op->n, CONV_SEGMENT);
    const uint32_t teams = 64 / lanes(gpu);
    const uint64_t bytes = (uint64_t)op->n * width * sizeof(float);
    const struct gpu_range history = gpu_floats(op->history, 9ull * width);
    const struct gpu_range prior = segments > 1 ? conv_halo(gpu, op) : history;
    const struct params_kda_conv params = {
        .x = {op->x[0], op->x[1], op->x[2]},
        .kernel = {op->kernel[0], op->kernel[1], op->kernel[2]},
        .y = {op->y[0], op->y[1], op->y[2]},
        .prior = prior.addr,
        .history = op->history,
        .n = op->n,
        .n_head = op->n_head,
        .segment = CONV_SEGMENT,
        .scale = 1 / sqrtf((float)op->dim),
    };
    struct gpu_dispatch d = {
        .label = "kda conv",
        .shader = SHADER_KDA_CONV,
        .spec = {64, gpu->caps.subgroup, op->dim},
        .n_spec = 3,
        .params = &params,
        .params_bytes = sizeof params,
        .groups = {gpu_div_up(3ull * op->n_head * segments, teams)},
        .reads = {prior},
        .writes = {history},
    };
    for (uint32_t i = 0; i < 3; i++) {
        d.reads[1 + 2 * i] = (struct gpu_range){op->x[i], bytes};
        d.reads[2 + 2 * i] = gpu_floats(op->kernel[i], 4ull * width);
        d.writes[1 + i] = (struct gpu_range){op->y[i], bytes};
    }
    gpu_dispatch(gpu, &d);
}

/* ------------------------------------------------------------------------------------------------------ gates */

void gpu_kda_gate(struct backend *backend, const struct kda_gate *op)
{
    struct gpu *gpu = gpu_of(backend);
    const uint32_t width = op->n_head * op->dim;
    const struct gpu_range f = gpu_floats(op->f, (uint64_t)op->n * width);
    const struct gpu_range beta = gpu_floats(op->beta, (uint64_t)op->n * op->n_head);
    const struct params_kda_gate params = {op->f, op->dt, op->a, op->beta, op->n, op->n_head};
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "kda gate",
                          .shader = SHADER_KDA_GATE,
                          .spec = {64, gpu->caps.subgroup, op->dim},
                          .n_spec = 3,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(width, 64), op->n},
                          .reads = {f, beta, gpu_floats(op->dt, width), gpu_floats(op->a, op->n_head)},
                          .writes = {f, beta},
                      });
}

void gpu_kda_out(struct backend *backend, const struct kda_out *op)
{
    struct gpu *gpu = gpu_of(backend);
    const uint64_t rows = (uint64_t)op->n * op->n_head;
    const struct gpu_range o = gpu_floats(op->o, rows * op->dim);
    const struct params_kda_out params = {op->o, op->gain, op->z, (uint32_t)rows, op->eps};
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "kda out",
                          .shader = SHADER_KDA_OUT,
                          .spec = {64, gpu->caps.subgroup, op->dim},
                          .n_spec = 3,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(rows, 64 / lanes(gpu))},
                          .reads = {o, gpu_floats(op->gain, op->dim), gpu_floats(op->z, rows * op->dim)},
                          .writes = {o},
                      });
}

/* ------------------------------------------------------------------------------------------------- delta rule */

/* The token range [first, first + n) of a delta operation. */
static struct kda_delta delta_part(const struct kda_delta *op, uint32_t first, uint32_t n)
{
    struct kda_delta part = *op;
    const uint64_t skip = (uint64_t)first * op->n_head * op->dim * sizeof(float);
    part.n = n;
    part.q += skip;
    part.k += skip;
    part.v += skip;
    part.g += skip;
    part.o += skip;
    part.beta += (uint64_t)first * op->n_head * sizeof(float);
    return part;
}

static void delta_step(struct gpu *gpu, const struct kda_delta *op)
{
    const uint32_t width = lanes(gpu), teams = gpu->caps.subgroup < 32 ? 4 : 8;
    const uint32_t per = gpu->caps.subgroup < 32 ? 4 : 1;
    const uint64_t count = (uint64_t)op->n * op->n_head * op->dim;
    const struct gpu_range state = gpu_floats(op->state, (uint64_t)op->n_head * op->dim * op->dim);
    const struct params_kda_step params = {op->q, op->k, op->v, op->g, op->beta, op->state, op->o, op->n, op->n_head};
    gpu_dispatch(gpu,
                 &(struct gpu_dispatch){
                     .label = "kda step",
                     .shader = SHADER_KDA_STEP,
                     .spec = {width * teams, gpu->caps.subgroup, op->dim, per},
                     .n_spec = 4,
                     .params = &params,
                     .params_bytes = sizeof params,
                     .groups = {gpu_div_up(op->dim, width * per), op->n_head},
                     .reads = {gpu_floats(op->q, count), gpu_floats(op->k, count), gpu_floats(op->v, count),
                               gpu_floats(op->g, count), gpu_floats(op->beta, (uint64_t)op->n * op->n_head), state},
                     .writes = {state, gpu_floats(op->o, count)},
                 });
}

static void delta_chunk(struct gpu *gpu, const struct kda_delta *op, struct gpu_range records)
{
    const uint64_t count = (uint64_t)op->n * op->n_head * op->dim;
    const struct params_kda_chunk params = {op->q, op->k, op->v, op->g, op->beta, records.addr, op->n, op->n_head};
    const bool wide = !gpu->caps.is_software && gpu->caps.group_max >= 256;
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "kda chunk",
                          .shader = SHADER_KDA_CHUNK,
                          .spec = {wide ? 256 : 64, gpu->caps.subgroup, op->dim, wide ? 4 : 1},
                          .n_spec = 4,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {op->n_head, gpu_div_up(op->n, KDA_CHUNK)},
                          .reads = {gpu_floats(op->q, count), gpu_floats(op->k, count), gpu_floats(op->v, count),
                                    gpu_floats(op->g, count), gpu_floats(op->beta, (uint64_t)op->n * op->n_head)},
                          .writes = {records},
                          /* A_kk, A_qk, U and W: a token meets half a chunk in each. */
                          .flops = 4.0 * KDA_CHUNK * (double)count,
                      });
}

/* Of a workgroup of kda_walk: W, q exp(G), k exp(G_last - G), exp(G_last), the state's columns; A_qk, V'. */
static bool walks(const struct gpu *gpu, uint32_t dim)
{
    const uint32_t bytes = 4 * (dim * (2 * KDA_CHUNK + KDA_CHUNK + 1 + 32) + KDA_CHUNK * (KDA_CHUNK + 32));
    return !gpu->caps.is_software && bytes <= gpu->caps.shared_bytes && WALK_GROUP <= gpu->caps.group_max;
}

static void delta_scan(struct gpu *gpu, const struct kda_delta *op, struct gpu_range records)
{
    const bool walk = walks(gpu, op->dim);
    const uint32_t width = lanes(gpu), teams = gpu->caps.subgroup < 32 ? 1 : 8;
    const uint32_t per = gpu->caps.subgroup < 32 ? 4 : 1;
    const struct gpu_range state = gpu_floats(op->state, (uint64_t)op->n_head * op->dim * op->dim);
    const struct params_kda_scan params = {records.addr, op->state, op->o, op->n, op->n_head};
    gpu_dispatch(gpu, &(struct gpu_dispatch){
                          .label = "kda scan",
                          .shader = walk ? SHADER_KDA_WALK : SHADER_KDA_SCAN,
                          .spec = {walk ? WALK_GROUP : width * teams, gpu->caps.subgroup, op->dim, walk ? 0 : per},
                          .n_spec = 4,
                          .params = &params,
                          .params_bytes = sizeof params,
                          .groups = {gpu_div_up(op->dim, walk ? 32 : width * per), op->n_head},
                          .reads = {records, state},
                          .writes = {state, gpu_floats(op->o, (uint64_t)op->n * op->n_head * op->dim)},
                          .flops = 2.0 * op->n * op->n_head * op->dim * (3.0 * op->dim + KDA_CHUNK / 2.0),
                      });
}

void gpu_kda_delta(struct backend *backend, const struct kda_delta *op)
{
    struct gpu *gpu = gpu_of(backend);
    if (op->n <= STEP_MOST) {
        delta_step(gpu, op);
        return;
    }
    struct kda_delta part[DELTA_SPANS];
    struct gpu_range records[DELTA_SPANS];
    const uint32_t spans = gpu_div_up(op->n, DELTA_SPAN);
    for (uint32_t i = 0; i <= spans; i++) {
        const uint32_t at = i % DELTA_SPANS, before = (i + DELTA_SPANS - 1) % DELTA_SPANS, first = i * DELTA_SPAN;
        if (i < spans) {
            const uint64_t place = at * record_bytes(DELTA_SPAN, op->n_head, op->dim);
            part[at] = delta_part(op, first, op->n - first < DELTA_SPAN ? op->n - first : DELTA_SPAN);
            records[at] = (struct gpu_range){gpu->scratch[GPU_SCRATCH_KDA].addr + place,
                                             record_bytes(part[at].n, op->n_head, op->dim)};
            delta_chunk(gpu, &part[at], records[at]);
        }
        if (i > 0) delta_scan(gpu, &part[before], records[before]);
    }
}
