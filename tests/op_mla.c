/* SPDX-License-Identifier: MIT
 *
 * Multi-head latent attention: rows as every backend stores them, and both forms of attention to those very rows,
 * against the equations in double precision, with guarded blocks and under the validation layers.
 *
 * op_mla --bench: how long a GPU takes for a layer of the 48B's shape, deep in a text.
 */
#include "tests/op_check.h"

#include "quant/gguf.h"

enum { LAYERS = 2, LAYER = 1, BLOCKS = 12 };

struct dims {
    uint32_t n_head, kv_lora, nope, rope, vdim;
};

struct timeline_rows {
    struct rows rows;
    struct check_buffer *blocks[BLOCKS], *table;
    double *want;  /* [tokens][R + P], exact */
    double *found; /* [tokens][R + P], what a backend stored */
    uint32_t tokens;
};

static const struct quant_format *row_format(enum engine_dtype dtype)
{
    return quant_format(dtype == ENGINE_F32 ? QUANT_F32 : dtype == ENGINE_F16 ? QUANT_F16 : QUANT_Q8_0);
}

static const char *named(const char *what, struct dims d, uint32_t n, uint32_t first)
{
    static char text[128];
    snprintf(text, sizeof text, "%s, n %u after %u, H %u, R %u, N %u, P %u, V %u", what, n, first, d.n_head, d.kv_lora,
             d.nope, d.rope, d.vdim);
    return text;
}

/* ------------------------------------------------------------------------------------------------------- rows */

static void rows_create(struct check *c, struct timeline_rows *r, struct dims d, enum engine_dtype dtype,
                        uint32_t tokens)
{
    uint64_t table[BLOCKS] = {0};
    const uint32_t width = d.kv_lora + d.rope;
    assert_true(tokens <= BLOCKS * STATE_SEGMENT);
    *r = (struct timeline_rows){.tokens = tokens};
    r->rows.dtype = dtype;
    r->rows.row_bytes = (uint32_t)quant_row_bytes(row_format(dtype), width);
    for (uint32_t i = 0; i * STATE_SEGMENT < tokens; i++) {
        r->blocks[i] = check_output(c, (size_t)LAYERS * STATE_SEGMENT * r->rows.row_bytes / sizeof(float));
        table[i] = r->blocks[i]->addr;
    }
    r->table = check_bytes(c, table, sizeof table);
    r->rows.table = r->table->addr;
    r->want = check_doubles(c, (size_t)tokens * width);
    r->found = check_doubles(c, (size_t)tokens * width);
}

static void exact_rows(struct timeline_rows *r, struct dims d, const float *c, const float *gain, uint32_t first,
                       uint32_t n)
{
    const uint32_t width = d.kv_lora + d.rope;
    for (uint32_t t = 0; t < n; t++) {
        double squares = 0;
        for (uint32_t i = 0; i < d.kv_lora; i++) squares += pow((double)c[t * width + i], 2);
        const double factor = 1 / sqrt(squares / d.kv_lora + 1e-5);
        for (uint32_t i = 0; i < width; i++)
            r->want[(size_t)(first + t) * width + i] =
                (double)c[t * width + i] * (i < d.kv_lora ? factor * (double)gain[i] : 1);
    }
}

/* Runs op, its sizes and its rows filled in. */
static void store_run(struct check *c, const struct timeline_rows *r, struct dims d, struct mla_store op)
{
    op.kv_lora = d.kv_lora;
    op.rope = d.rope;
    op.eps = 1e-5f;
    op.rows = &r->rows;
    check_begin(c);
    c->ops->mla_store(c->backend, &op);
    check_submit(c);
}

static void rows_store(struct check *c, struct timeline_rows *r, struct dims d, uint32_t first, uint32_t n)
{
    const uint32_t width = d.kv_lora + d.rope;
    struct check_buffer *raw = check_floats(c, (size_t)n * width, 2), *gain = check_floats(c, d.kv_lora, 1);
    exact_rows(r, d, raw->host, gain->host, first, n);
    store_run(c, r, d, (struct mla_store){.n = n, .first = first, .layer = LAYER, .c = raw->addr, .gain = gain->addr});
}

/* Reads found[] back. Rows of the other layer and of tokens not stored yet must be untouched. */
static void rows_read(struct check *c, struct timeline_rows *r, struct dims d)
{
    const uint32_t width = d.kv_lora + d.rope;
    float *row = malloc(width * sizeof *row);
    assert_non_null(row);
    for (uint32_t i = 0; i * STATE_SEGMENT < r->tokens; i++) {
        check_read(c, r->blocks[i], "blocks of rows");
        const unsigned char *bytes = (const unsigned char *)r->blocks[i]->result;
        const uint32_t stored = r->tokens - i * STATE_SEGMENT;
        for (uint32_t t = 0; t < LAYERS * STATE_SEGMENT; t++) {
            const unsigned char *from = bytes + (size_t)t * r->rows.row_bytes;
            if (t < LAYER * STATE_SEGMENT || t - LAYER * STATE_SEGMENT >= stored) {
                for (uint32_t k = 0; k < r->rows.row_bytes; k++) assert_int_equal(from[k], CHECK_PATTERN & 0xff);
                continue;
            }
            row_format(r->rows.dtype)->decode(from, row, width);
            for (uint32_t k = 0; k < width; k++)
                r->found[(size_t)(i * STATE_SEGMENT + t - LAYER * STATE_SEGMENT) * width + k] = (double)row[k];
        }
    }
    free(row);
}

static void rows_compare(const struct timeline_rows *r, struct dims d)
{
    /* Squared relative error of a value: rounding to 24 and to 11 bits, and to 127 levels of a block's maximum. */
    const double most = r->rows.dtype == ENGINE_F32 ? 1e-12 : r->rows.dtype == ENGINE_F16 ? 1e-7 : 1e-4;
    double wrong = 0, all = 0;
    for (size_t i = 0; i < (size_t)r->tokens * (d.kv_lora + d.rope); i++) {
        wrong += pow(r->found[i] - r->want[i], 2);
        all += pow(r->want[i], 2);
    }
    if (!(wrong <= most * all)) fail_msg("rows: NMSE %.3g, at most %.3g", wrong / all, most);
}

/* ------------------------------------------------------------------------------------------------------ weights */

struct stack {
    struct weight weight;
    float *exact; /* [n_mat][n_out][n_in], decoded */
    void *blocks;
};

static void stack_create(struct check *c, struct stack *s, const struct quant_format *format, uint32_t n_in,
                         uint32_t n_out, uint32_t n_mat)
{
    struct error error;
    const size_t rows = (size_t)n_out * n_mat, count = rows * n_in, bytes = rows * quant_row_bytes(format, n_in);
    s->exact = malloc(count * sizeof *s->exact);
    s->blocks = malloc(bytes);
    assert_true(s->exact && s->blocks && bytes);
    for (size_t i = 0; i < count; i++) s->exact[i] = check_normal(c) / sqrtf((float)n_in);
    format->encode(s->exact, NULL, s->blocks, count);
    format->decode(s->blocks, s->exact, count);
    const struct gguf_tensor tensor = {
        .name = {.bytes = "check", .len = 5},
        .format = format,
        .n_dims = 3,
        .ne = {n_in, n_out, n_mat, 1},
        .data = s->blocks,
        .bytes = bytes,
    };
    check_ok(c->ops->weight_load(c->backend, &tensor, &s->weight, &error), &error);
}

static void stack_destroy(struct check *c, struct stack *s)
{
    if (s->weight.addr != (uint64_t)(uintptr_t)s->blocks) c->ops->release(c->backend, s->weight.addr);
    free(s->exact);
    free(s->blocks);
}

/* ---------------------------------------------------------------------------------------------------- attention */

/* One query of one head over rows [0, seen). k_b [R][N], v_b [V][R]. */
static void attend_query(struct dims d, const double *rows, uint32_t seen, const float *k_b, const float *v_b,
                         const float *q, double *o)
{
    const uint32_t width = d.kv_lora + d.rope;
    double query[1024], latent[1024] = {0}, most = -INFINITY, total = 0;
    double *p = malloc(seen * sizeof *p);
    assert_true(p && width <= 1024);
    for (uint32_t r = 0; r < width; r++) {
        query[r] = r < d.kv_lora ? 0 : (double)q[d.nope + r - d.kv_lora];
        for (uint32_t i = 0; r < d.kv_lora && i < d.nope; i++) query[r] += (double)k_b[r * d.nope + i] * (double)q[i];
    }
    for (uint32_t s = 0; s < seen; s++) {
        p[s] = 0;
        for (uint32_t r = 0; r < width; r++) p[s] += query[r] * rows[(size_t)s * width + r];
        p[s] /= sqrt(d.nope + d.rope);
        most = fmax(most, p[s]);
    }
    for (uint32_t s = 0; s < seen; s++) {
        const double e = exp(p[s] - most);
        total += e;
        for (uint32_t r = 0; r < d.kv_lora; r++) latent[r] += e * rows[(size_t)s * width + r];
    }
    for (uint32_t i = 0; i < d.vdim; i++) {
        o[i] = 0;
        for (uint32_t r = 0; r < d.kv_lora; r++) o[i] += (double)v_b[i * d.kv_lora + r] * latent[r] / total;
    }
    free(p);
}

struct attend_case {
    struct dims d;
    enum engine_dtype dtype;
    enum quant_type k_type, v_type;
    uint32_t first, n;
    float loud; /* how much louder the queries are than elsewhere; 0 = not at all */
};

static void attend_all(struct check *c, const struct attend_case *a, const struct timeline_rows *r,
                       const struct stack *k_b, const struct stack *v_b)
{
    static const char *const names[] = {"auto", "absorbed", "expanded"};
    const struct dims d = a->d;
    const size_t queries = (size_t)a->n * d.n_head, q_width = d.nope + d.rope;
    struct check_buffer *q = check_floats(c, queries * q_width, 2 * (a->loud > 0 ? a->loud : 1));
    double *want = check_doubles(c, queries * d.vdim);
    for (size_t i = 0; i < queries; i++) {
        const size_t head = i % d.n_head, seen = a->first + i / d.n_head + 1;
        attend_query(d, r->found, (uint32_t)seen, k_b->exact + head * d.kv_lora * d.nope,
                     v_b->exact + head * d.vdim * d.kv_lora, q->host + i * q_width, want + i * d.vdim);
    }
    for (enum mla_form form = MLA_AUTO; form <= MLA_EXPANDED; form++) {
        struct check_buffer *o = check_output(c, queries * d.vdim);
        check_begin(c);
        c->ops->mla_attend(c->backend, &(struct mla_attend){.n = a->n,
                                                            .first = a->first,
                                                            .layer = LAYER,
                                                            .n_head = d.n_head,
                                                            .kv_lora = d.kv_lora,
                                                            .nope = d.nope,
                                                            .rope = d.rope,
                                                            .vdim = d.vdim,
                                                            .q = q->addr,
                                                            .k_b = &k_b->weight,
                                                            .v_b = &v_b->weight,
                                                            .rows = &r->rows,
                                                            .o = o->addr,
                                                            .form = form});
        check_submit(c);
        /* Weights and queries of 11 bits move a softmax by about as much. */
        const double most = c->halves && a->dtype == ENGINE_F16 ? 1e-5 : 1e-9;
        check_nmse(c, o, want, most, named(names[form], d, a->n, a->first));
    }
}

static void attend(struct check *c, const struct attend_case *a)
{
    struct timeline_rows r;
    struct stack k_b, v_b;
    rows_create(c, &r, a->d, a->dtype, a->first + a->n);
    if (a->first) rows_store(c, &r, a->d, 0, a->first);
    rows_store(c, &r, a->d, a->first, a->n);
    rows_read(c, &r, a->d);
    rows_compare(&r, a->d);
    stack_create(c, &k_b, quant_format(a->k_type), a->d.nope, a->d.kv_lora, a->d.n_head);
    stack_create(c, &v_b, quant_format(a->v_type), a->d.kv_lora, a->d.vdim, a->d.n_head);
    attend_all(c, a, &r, &k_b, &v_b);
    stack_destroy(c, &k_b);
    stack_destroy(c, &v_b);
    check_reset(c);
}

static const struct dims mini = {4, 256, 128, 64, 128}, tiny = {3, 128, 64, 32, 64}, odd = {1, 96, 40, 24, 56},
                         large = {32, 512, 128, 64, 128}, heads = {5, 128, 64, 64, 64}, square = {3, 128, 64, 64, 48};

static void test_positions(void **state)
{
    static const uint32_t firsts[] = {0, 1, 511, 512, 1000, 1500}, counts[] = {1, 3, 17, 130};
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++)
        for (size_t j = 0; j < sizeof counts / sizeof *counts; j++)
            attend(*state, &(struct attend_case){.d = tiny, ENGINE_F32, QUANT_F32, QUANT_F16, firsts[i], counts[j]});
}

static void test_shapes(void **state)
{
    static const struct dims shapes[] = {mini, odd, large};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        attend(*state, &(struct attend_case){.d = shapes[i], ENGINE_F32, QUANT_F32, QUANT_F32, 37, 1});
        attend(*state, &(struct attend_case){.d = shapes[i], ENGINE_F16, QUANT_F32, QUANT_F32, 5, 19});
    }
    /* Rows as cooperative matrices take them: heads that do not fill a tile, splits that end inside one. */
    static const uint32_t firsts[] = {0, 15, 63, 64, 700}, counts[] = {1, 2, 3};
    for (size_t i = 0; i < sizeof firsts / sizeof *firsts; i++)
        for (size_t j = 0; j < sizeof counts / sizeof *counts; j++)
            attend(*state, &(struct attend_case){.d = heads, ENGINE_F16, QUANT_F32, QUANT_F32, firsts[i], counts[j]});
    attend(*state, &(struct attend_case){.d = large, ENGINE_F16, QUANT_F32, QUANT_F32, 1498, 1});
    attend(*state, &(struct attend_case){.d = square, ENGINE_F16, QUANT_F32, QUANT_F16, 0, 67});
    attend(*state, &(struct attend_case){.d = square, ENGINE_F16, QUANT_F32, QUANT_F16, 1990, 130});
    /* A second range of expanded rows; maxima that rise by powers of two as more is seen. */
    attend(*state, &(struct attend_case){.d = heads, ENGINE_F16, QUANT_F32, QUANT_F32, 4090, 35});
    attend(*state, &(struct attend_case){.d = heads, ENGINE_F16, QUANT_F32, QUANT_F32, 500, 35, .loud = 2});
}

static void test_types(void **state)
{
    static const enum engine_dtype dtypes[] = {ENGINE_F32, ENGINE_F16, ENGINE_Q8_0};
    static const enum quant_type types[][2] = {
        {QUANT_F32, QUANT_BF16},    {QUANT_Q8_0, QUANT_Q8_0},   {QUANT_Q5_0, QUANT_Q4_K}, {QUANT_F16, QUANT_Q6_K},
        {QUANT_Q4_0, QUANT_Q3_K},   {QUANT_Q4_1, QUANT_Q2_K},   {QUANT_Q5_1, QUANT_Q5_K}, {QUANT_IQ4_NL, QUANT_IQ4_XS},
        {QUANT_MXFP4, QUANT_TQ2_0}, {QUANT_MXFP4, QUANT_TQ1_0}, {QUANT_Q8_0, QUANT_IQ2_S}};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        for (size_t j = 0; j < sizeof types / sizeof *types; j++)
            attend(*state, &(struct attend_case){.d = mini, dtypes[i], types[j][0], types[j][1], 70, 7});
}

/* ------------------------------------------------------------------------------------------------------- bench */

enum { DEPTH = 65536, MOST = 1024, TIMES = 5 };

static void bench_rows(struct check *c, struct timeline_rows *r, struct dims d)
{
    uint64_t table[(DEPTH + MOST) / STATE_SEGMENT];
    const uint32_t width = d.kv_lora + d.rope;
    struct check_buffer *raw = check_floats(c, (size_t)MOST * width, 1), *gain = check_floats(c, d.kv_lora, 1);
    *r = (struct timeline_rows){.rows = {.dtype = ENGINE_F16, .row_bytes = 2 * width}};
    const size_t block = (size_t)STATE_SEGMENT * r->rows.row_bytes, count = sizeof table / sizeof *table;
    const struct check_buffer *blocks = check_output(c, count * block / sizeof(float));
    for (size_t i = 0; i < count; i++) table[i] = blocks->addr + i * block;
    r->table = check_bytes(c, table, sizeof table);
    r->rows.table = r->table->addr;
    for (uint32_t first = 0; first < DEPTH + MOST; first += MOST)
        store_run(c, r, d, (struct mla_store){.n = MOST, .first = first, .c = raw->addr, .gain = gain->addr});
}

/* The mean of TIMES, in parts. */
static void bench_attend(struct check *c, const struct mla_attend *op)
{
    struct engine_timing timings[16];
    struct engine_peaks peaks;
    struct error error;
    check_begin(c);
    c->ops->mla_attend(c->backend, op); /* compiles */
    check_submit(c);
    check_ok(c->ops->profile_start(c->backend, &peaks, &error), &error);
    for (int i = 0; i < TIMES; i++) {
        check_begin(c);
        c->ops->mla_attend(c->backend, op);
        check_submit(c);
    }
    const size_t count = c->ops->profile_read(c->backend, timings, 16);
    printf("%u tokens after %u, of %.0f TFLOP/s:\n", op->n, op->first, peaks.flops_per_second * 1e-12);
    for (size_t i = 0; i < count; i++) {
        const struct engine_timing *t = &timings[i];
        if (!t->on_host)
            printf("  %-12s %8.3f ms %6.0f TFLOP/s\n", t->label, 1e3 * t->seconds / TIMES,
                   1e-12 * t->flops / t->seconds);
    }
}

static void bench_all(void **state)
{
    struct check *c = *state;
    struct timeline_rows r;
    struct stack k_b, v_b;
    const struct dims d = large;
    bench_rows(c, &r, d);
    stack_create(c, &k_b, quant_format(QUANT_Q8_0), d.nope, d.kv_lora, d.n_head);
    stack_create(c, &v_b, quant_format(QUANT_Q8_0), d.kv_lora, d.vdim, d.n_head);
    struct check_buffer *q = check_floats(c, (size_t)MOST * d.n_head * (d.nope + d.rope), 1);
    struct check_buffer *o = check_output(c, (size_t)MOST * d.n_head * d.vdim);
    for (uint32_t n = MOST / 2; n <= MOST; n *= 2)
        bench_attend(c, &(struct mla_attend){.n = n,
                                             .first = DEPTH,
                                             .n_head = d.n_head,
                                             .kv_lora = d.kv_lora,
                                             .nope = d.nope,
                                             .rope = d.rope,
                                             .vdim = d.vdim,
                                             .q = q->addr,
                                             .k_b = &k_b.weight,
                                             .v_b = &v_b.weight,
                                             .rows = &r.rows,
                                             .o = o->addr});
    stack_destroy(c, &k_b);
    stack_destroy(c, &v_b);
    check_reset(c);
}

static int bench(const struct check_plan *plan)
{
    struct check c = {.seed = 1};
    struct error error;
    if (gpu_backend_open(&c.backend, UINT32_MAX, false, &error)) return puts(error.text), CHECK_SKIP;
    return check_pass(&c, plan, CHECK_GPU) > 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_types),
    };
    const struct CMUnitTest timed[] = {cmocka_unit_test(bench_all)};
    const struct shape most = {
        .n_head = 32, .kv_lora = 512, .nope = 128, .rope = 64, .vdim = 128, .n_mla = LAYERS, .eps = 1e-5f};
    if (argc > 1 && !strcmp(argv[1], "--bench"))
        return bench(&(struct check_plan){.name = "op_mla", .tests = timed, .count = 1, .most = &most, .batch = MOST});
    return check_main(tests, sizeof tests / sizeof *tests, "op_mla", &most, 1500);
}
