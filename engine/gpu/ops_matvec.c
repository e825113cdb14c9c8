/* SPDX-License-Identifier: MIT
 *
 * y = W x for a few tokens, many matrices in one dispatch. One token on hardware: activations, with a norm over them
 * where one is asked for, staged in shared memory (matvec_one.comp). Else from registers (matvec.comp), and a norm is a
 * dispatch of its own. How rows are divided is chosen here and nowhere else.
 */
#include "engine/gpu/gpu.h"
#include "shaders/params_decode.h"

enum {
    RUN = 32,
    MOST_TOKENS = 8,
    FULL = 1536,       /* subgroups that keep a large card's memory busy */
    SLOTS = 9,         /* of a staged run, at most (shaders/staged.glsl) */
    STAGE_STEP = 256,  /* staging memory comes in few sizes: each is a kernel of its own */
    PARTS_FULL = 2304, /* subgroups that do the same with parts (shaders/parted.glsl) */
    PARTS_MOST = 16,   /* subgroups of a workgroup, at most; as many as PARTS_GOOD are good */
    PARTS_GOOD = 8,
    TEAM_LEAST = 4, /* narrower than TEAM_GOOD only so as to waste fewer lanes */
    TEAM_GOOD = 8,
    PARTS_AHEAD = 4, /* loads under way, but one of runs of more bytes than WIDE_RUN: they take too many registers */
    WIDE_RUN = 40,
    STEPS_MOST = 32,
};

/* --------------------------------------------------------------------------------------------------- choosing */

bool gpu_one_serves(const struct gpu *gpu, uint32_t n)
{
    return n == 1 && !gpu->caps.is_software && gpu->caps.group_max >= GPU_ONE_GROUP;
}

/* Wider teams while there are too few rows to fill the card, two rows a team when there are more than enough. */
struct gpu_teams gpu_teams_choose(const struct gpu *gpu, uint64_t rows, uint32_t n_in)
{
    const uint32_t subgroup = gpu->caps.subgroup, runs = gpu_div_up(n_in, RUN);
    struct gpu_teams t = {.team = 8, .rows = 1};
    while (t.team < subgroup && t.team < runs && rows * t.team / subgroup < FULL) t.team *= 2;
    if (rows * t.team / subgroup >= 2 * FULL) t.rows = 2;
    return t;
}

uint32_t gpu_stage_size(const struct gpu *gpu, uint32_t n_in, uint32_t vectors)
{
    const uint64_t other = 1024, most = (gpu->caps.shared_bytes - other) / 16;
    const uint64_t least = (uint64_t)vectors * SLOTS * (gpu_div_up(n_in, RUN) | 1);
    const uint64_t stepped = (least + STAGE_STEP - 1) / STAGE_STEP * STAGE_STEP;
    return (uint32_t)(stepped <= most ? stepped : least <= most ? least : 0);
}

/* Teams that leave few lanes without a run, of many subgroups rather than few; rows for as many subgroups as keep a
 * large card's memory busy. */
struct gpu_parts gpu_parts_choose(const struct gpu *gpu, const struct weight *w, uint64_t rows, uint32_t vectors)
{
    const uint32_t subgroup = gpu->caps.subgroup, runs = gpu_div_up(w->n_in, RUN);
    uint32_t most = gpu->caps.group_max / subgroup, least = UINT32_MAX, subgroups = 1;
    struct gpu_parts p = {.ahead = w->row_bytes / runs > WIDE_RUN ? 1 : PARTS_AHEAD};
    if (most > PARTS_MOST) most = PARTS_MOST;
    for (uint32_t team = subgroup; team >= TEAM_LEAST; team /= 2) {
        const uint64_t parts = gpu_div_up(runs, team), wanted = vectors * parts;
        if (wanted > most && p.team) break;
        if (parts * team >= least && (subgroups >= PARTS_GOOD || team < TEAM_GOOD)) continue;
        least = (uint32_t)parts * team;
        subgroups = wanted < most ? (uint32_t)wanted : most;
        p.team = team;
    }
    p.group = subgroups * subgroup;
    p.steps = gpu_div_up(rows, gpu_div_up(PARTS_FULL, subgroups) * (subgroup / p.team));
    if (p.steps > STEPS_MOST) p.steps = STEPS_MOST;
    if (p.steps < p.ahead) p.ahead = p.steps;
    p.rows = p.steps * (subgroup / p.team);
    return p;
}

/* More rows share the loads of x; many rows and columns together are too many registers. */
uint32_t gpu_matvec_rows(const struct gpu *gpu, uint32_t columns)
{
    return gpu->caps.is_software && columns < 4 ? 8 : 4;
}

/* ----------------------------------------------------------------------------------------------------- batches */

/* Jobs that share a dispatch: of one format, in reach of the first. */
struct batch {
    const struct matmul_job *jobs[MATVEC_JOBS];
    uint32_t count;
    uint64_t w, y; /* the lowest addresses */
    uint64_t rows;
    struct matvec_jobs at;
};

bool gpu_in_reach(uint64_t a, uint64_t b, uint64_t unit)
{
    const uint64_t distance = a > b ? a - b : b - a;
    return distance % unit == 0 && distance / unit < UINT32_MAX / 2;
}

static bool batch_takes(const struct batch *b, const struct matmul_job *job)
{
    const struct matmul_job *first = b->jobs[0];
    if (!b->count) return true;
    return b->count < MATVEC_JOBS && job->w->format == first->w->format &&
           gpu_in_reach(job->w->addr, first->w->addr, 16) && gpu_in_reach(job->y, first->y, sizeof(float));
}

static void batch_add(struct batch *b, const struct matmul_job *job)
{
    if (!b->count || job->w->addr < b->w) b->w = job->w->addr;
    if (!b->count || job->y < b->y) b->y = job->y;
    b->jobs[b->count++] = job;
    b->rows += job->w->n_out;
}

/* What all dispatches of a batch have in common: places of the jobs, groups of so many rows, what is written. */
static void batch_fill(struct batch *b, uint32_t n, uint32_t group_rows, struct gpu_dispatch *d)
{
    const struct weight *first = b->jobs[0]->w;
    for (uint32_t i = 0; i < b->count; i++) {
        const struct matmul_job *job = b->jobs[i];
        b->at.w_at[i] = (uint32_t)((job->w->addr - b->w) / 16);
        b->at.y_at[i] = (uint32_t)((job->y - b->y) / sizeof(float));
        b->at.n_out[i] = job->w->n_out;
        b->at.adds |= (uint32_t)job->add << i;
        d->groups[0] += gpu_div_up(job->w->n_out, group_rows);
        d->writes[1 + i] = gpu_floats(job->y, (uint64_t)n * job->w->n_out);
    }
    b->at.n_in = first->n_in;
    b->at.row_bytes = (uint32_t)first->row_bytes;
    d->bytes = (double)b->rows * (double)first->row_bytes;
    d->flops = 2.0 * n * (double)b->rows * first->n_in;
}

/* -------------------------------------------------------------------------------------------------- dispatches */

static void dispatch_one(struct gpu *gpu, const struct norm_matmul *op, struct batch *b)
{
    const struct weight *first = b->jobs[0]->w;
    const struct gpu_teams teams = gpu_teams_choose(gpu, b->rows, first->n_in);
    const bool whole = gpu_is_whole(first, op->x) && op->gain % 16 == 0;
    struct gpu_dispatch d = {
        .label = op->gain ? "norm matvec" : "matvec",
        .shader = gpu_variant(SHADER_MATVEC_ONE_F32, first->format),
        .spec = {GPU_ONE_GROUP, gpu->caps.subgroup, whole, teams.team, teams.rows, gpu_stage_size(gpu, first->n_in, 1),
                 op->gain != 0},
        .n_spec = 7,
        .reads = {gpu_floats(op->x, first->n_in), gpu_floats(op->gain, op->gain ? first->n_in : 0)},
        .writes = {gpu_floats(op->a, op->a ? first->n_in : 0)},
    };
    batch_fill(b, 1, GPU_ONE_GROUP / teams.team * teams.rows, &d);
    const struct params_matvec_one params = {
        .x = op->x, .gain = op->gain, .a = op->a, .w = b->w, .y = b->y, .jobs = b->at, .eps = op->eps};
    d.params = &params;
    d.params_bytes = sizeof params;
    gpu_dispatch(gpu, &d);
}

static void dispatch_few(struct gpu *gpu, const struct norm_matmul *op, struct batch *b)
{
    const struct weight *first = b->jobs[0]->w;
    const uint32_t n = op->n, columns = n > 4 ? 8 : n > 2 ? 4 : n; /* few variants: each is compiled when first used */
    const uint32_t rows = gpu_matvec_rows(gpu, columns);
    const uint32_t subgroup = gpu->caps.subgroup, group = gpu->caps.is_software ? subgroup : 128;
    struct gpu_dispatch d = {
        .label = "matvec",
        .shader = gpu_variant(SHADER_MATVEC_F32, first->format),
        .spec = {group, subgroup, gpu_is_whole(first, op->x), columns, rows},
        .n_spec = 5,
        .reads = {gpu_floats(op->x, (uint64_t)n * first->n_in)},
    };
    batch_fill(b, n, group / subgroup * rows, &d);
    const struct params_matvec params = {.x = op->x, .w = b->w, .y = b->y, .jobs = b->at, .n = n};
    d.params = &params;
    d.params_bytes = sizeof params;
    gpu_dispatch(gpu, &d);
}

bool gpu_matvec(struct gpu *gpu, const struct norm_matmul *op)
{
    const bool one = gpu_one_serves(gpu, op->n) && gpu_stage_size(gpu, op->jobs[0].w->n_in, 1);
    if (op->n > MOST_TOKENS || (op->gain && !one)) return false;
    struct norm_matmul rest = *op;
    uint64_t done = 0;
    for (uint32_t i = 0; i < op->count; i++) {
        struct batch b = {.count = 0};
        if (done >> i & 1) continue;
        for (uint32_t j = i; j < op->count; j++) {
            if (done >> j & 1 || !batch_takes(&b, &op->jobs[j])) continue;
            batch_add(&b, &op->jobs[j]);
            done |= 1ull << j;
        }
        if (one)
            dispatch_one(gpu, &rest, &b);
        else
            dispatch_few(gpu, &rest, &b);
        rest.a = 0; /* written once */
    }
    return true;
}

void gpu_norm_matmul(struct backend *b, const struct norm_matmul *op)
{
    if (gpu_matvec(gpu_of(b), op)) return;
    gpu_rms_norm(b, op->x, op->gain, op->a, op->n, op->jobs[0].w->n_in, op->eps);
    gpu_matmul(b, op->a, op->jobs, op->count, op->n);
}
