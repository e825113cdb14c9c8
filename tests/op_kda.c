/* SPDX-License-Identifier: MIT
 *
 * Kimi Delta Attention: convolution, gates, delta rule and gated norm of every backend against the equations in double
 * precision (docs/model.md), on odd sizes, with guarded buffers and under the validation layers.
 */
#include "tests/op_check.h"

struct size {
    uint32_t n, n_head, dim;
};

static const uint32_t token_counts[] = {1, 2, 3, 11, 12, 13, 15, 16, 17, 31, 33, 63, 64, 65, 200, 513};
static const struct size shapes[] = {{0, 1, 64}, {0, 3, 64}, {0, 4, 128}, {0, 6, 96}, {0, 2, 32}};
/* Widths that fill no register and no team of lanes, with a token count for each way of computing. */
static const struct size narrow[] = {{1, 3, 40},   {17, 1, 72},  {70, 3, 72}, {5, 5, 80},   {33, 1, 80},
                                     {40, 3, 88},  {64, 1, 104}, {3, 3, 112}, {50, 1, 112}, {16, 1, 120},
                                     {65, 3, 120}, {20, 1, 136}, {37, 1, 160}};

static void each_size(struct check *c, void (*test)(struct check *, struct size))
{
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        for (size_t j = 0; j < sizeof token_counts / sizeof *token_counts; j++) {
            test(c, (struct size){token_counts[j], shapes[i].n_head, shapes[i].dim});
            check_reset(c);
        }
    for (size_t i = 0; i < sizeof narrow / sizeof *narrow; i++) {
        test(c, narrow[i]);
        check_reset(c);
    }
    test(c, (struct size){5, 32, 128});
    check_reset(c);
    test(c, (struct size){77, 32, 128});
}

/* For messages; valid until the next call. */
static const char *named(const char *what, struct size s)
{
    static char text[96];
    snprintf(text, sizeof text, "%s, n %u, H %u, D %u", what, s.n, s.n_head, s.dim);
    return text;
}

/* ------------------------------------------------------------------------------------------------ convolution */

static void conv_head(const struct size *s, uint32_t stream, uint32_t head, const float *x, const float *kernel,
                      const float *history, double *y)
{
    const uint32_t width = s->n_head * s->dim, from = head * s->dim;
    for (uint32_t t = 0; t < s->n; t++) {
        double squares = 0;
        for (uint32_t ch = from; ch < from + s->dim; ch++) {
            double sum = 0;
            for (uint32_t tap = 0; tap < 4; tap++) {
                const int64_t at = (int64_t)t + tap - 3;
                const float in = at >= 0 ? x[(size_t)at * width + ch] : history[ch * 3 + (uint32_t)(at + 3)];
                sum += (double)kernel[ch * 4 + tap] * (double)in;
            }
            y[(size_t)t * width + ch] = sum / (1 + exp(-sum));
            squares += pow(y[(size_t)t * width + ch], 2);
        }
        if (stream == 2) continue;
        const double scale = (stream ? 1 : 1 / sqrt(s->dim)) / sqrt(squares + 1e-6);
        for (uint32_t ch = from; ch < from + s->dim; ch++) y[(size_t)t * width + ch] *= scale;
    }
}

static void conv_run(struct check *c, struct size s, bool in_place)
{
    const uint32_t width = s.n_head * s.dim;
    const size_t count = (size_t)s.n * width;
    struct kda_conv op = {.n = s.n, .n_head = s.n_head, .dim = s.dim};
    struct check_buffer *x[3], *kernel[3], *y[3], *history = check_floats(c, 9ul * width, 1);
    for (uint32_t i = 0; i < 3; i++) {
        x[i] = check_floats(c, count, 1);
        kernel[i] = check_floats(c, 4ul * width, 0.5f);
        y[i] = in_place ? x[i] : check_output(c, count);
        op.x[i] = x[i]->addr;
        op.kernel[i] = kernel[i]->addr;
        op.y[i] = y[i]->addr;
    }
    op.history = history->addr;
    double *want = check_doubles(c, count), *after = check_doubles(c, 9ul * width);
    check_begin(c);
    c->ops->kda_conv(c->backend, &op);
    check_submit(c);
    for (uint32_t i = 0; i < 3; i++) {
        for (uint32_t h = 0; h < s.n_head; h++)
            conv_head(&s, i, h, x[i]->host, kernel[i]->host, history->host + 3ul * i * width, want);
        check_nmse(c, y[i], want, 1e-11, named(in_place ? "conv in place" : "conv", s));
        for (uint32_t ch = 0; ch < width; ch++)
            for (uint32_t age = 0; age < 3; age++) {
                const int64_t t = (int64_t)s.n - 3 + age;
                after[(i * width + ch) * 3 + age] = t >= 0 ? x[i]->host[(size_t)t * width + ch]
                                                           : history->host[(i * width + ch) * 3 + (uint32_t)(t + 3)];
            }
    }
    check_nmse(c, history, after, 0, named("history", s));
}

static void conv(struct check *c, struct size s)
{
    conv_run(c, s, false);
    conv_run(c, s, true);
}

/* ------------------------------------------------------------------------------------------------------ gates */

static void gate(struct check *c, struct size s)
{
    const uint32_t width = s.n_head * s.dim;
    const size_t count = (size_t)s.n * width;
    struct check_buffer *f = check_floats(c, count, 8), *dt = check_floats(c, width, 8);
    struct check_buffer *a = check_floats(c, s.n_head, 3), *beta = check_floats(c, (size_t)s.n * s.n_head, 4);
    for (uint32_t h = 0; h < s.n_head; h++) a->host[h] = -fabsf(a->host[h]);
    check_changed(c, a);
    double *want = check_doubles(c, count), *want_beta = check_doubles(c, (size_t)s.n * s.n_head);
    for (size_t i = 0; i < count; i++) {
        const double x = (double)f->host[i] + (double)dt->host[i % width];
        want[i] = (double)a->host[i % width / s.dim] * (x > 20 ? x : log1p(exp(x)));
    }
    for (size_t i = 0; i < (size_t)s.n * s.n_head; i++) want_beta[i] = 1 / (1 + exp(-(double)beta->host[i]));
    check_begin(c);
    c->ops->kda_gate(c->backend, &(struct kda_gate){s.n, s.n_head, s.dim, f->addr, dt->addr, a->addr, beta->addr});
    check_submit(c);
    check_nmse(c, f, want, 1e-11, named("gate", s));
    check_nmse(c, beta, want_beta, 1e-11, named("beta", s));
}

/* ------------------------------------------------------------------------------------------------- delta rule */

/* One head, one token after the other; state [key][value] is replaced. */
static void delta_head(const struct size *s, uint32_t head, struct check_buffer *const in[5], double *state, double *o)
{
    const uint32_t dim = s->dim;
    for (uint32_t t = 0; t < s->n; t++) {
        const size_t at = ((size_t)t * s->n_head + head) * dim;
        const float *q = in[0]->host + at, *k = in[1]->host + at, *v = in[2]->host + at, *g = in[3]->host + at;
        const double beta = (double)in[4]->host[(size_t)t * s->n_head + head];
        for (uint32_t i = 0; i < dim * dim; i++) state[i] *= exp((double)g[i / dim]);
        for (uint32_t j = 0; j < dim; j++) {
            double u = (double)v[j], sum = 0;
            for (uint32_t i = 0; i < dim; i++) u -= state[i * dim + j] * (double)k[i];
            for (uint32_t i = 0; i < dim; i++) {
                state[i * dim + j] += beta * (double)k[i] * u;
                sum += state[i * dim + j] * (double)q[i];
            }
            o[at + j] = sum;
        }
    }
}

/* Rows of unit length, as the convolution leaves them. */
static void normalise(struct check_buffer *b, size_t rows, uint32_t dim, float scale)
{
    for (size_t r = 0; r < rows; r++) {
        double squares = 0;
        for (uint32_t i = 0; i < dim; i++) squares += pow((double)b->host[r * dim + i], 2);
        for (uint32_t i = 0; i < dim; i++) b->host[r * dim + i] *= scale / (float)sqrt(squares + 1e-6);
    }
}

/* Decays of all strengths, channel by channel: none, weak, usual, and such that all is forgotten at once. */
static void set_decays(struct check_buffer *g, uint32_t width)
{
    static const float strengths[] = {0, 0.001f, 0.05f, 0.7f, 8, 50, 300};
    for (size_t i = 0; i < g->count; i++) g->host[i] = -fabsf(g->host[i]) * strengths[i % width % 7];
}

static void delta(struct check *c, struct size s)
{
    const size_t rows = (size_t)s.n * s.n_head, count = rows * s.dim, cells = (size_t)s.n_head * s.dim * s.dim;
    struct check_buffer *in[5] = {check_floats(c, count, 1), check_floats(c, count, 1), check_floats(c, count, 1),
                                  check_floats(c, count, 1), check_floats(c, rows, 0.5f)};
    /* The output may lie where the values are. */
    struct check_buffer *state = check_floats(c, cells, 1), *o = s.n % 2 ? in[2] : check_output(c, count);
    normalise(in[0], rows, s.dim, 1 / sqrtf((float)s.dim));
    normalise(in[1], rows, s.dim, 1);
    set_decays(in[3], s.n_head * s.dim);
    for (size_t i = 0; i < rows; i++) in[4]->host[i] = fabsf(in[4]->host[i]) / (0.5f + fabsf(in[4]->host[i]));
    for (uint32_t i = 0; i < 5; i++) check_changed(c, in[i]);
    double *want = check_doubles(c, count), *after = check_doubles(c, cells);
    for (size_t i = 0; i < cells; i++) after[i] = (double)state->host[i];
    for (uint32_t h = 0; h < s.n_head; h++) delta_head(&s, h, in, after + (size_t)h * s.dim * s.dim, want);
    check_begin(c);
    c->ops->kda_delta(c->backend, &(struct kda_delta){s.n, s.n_head, s.dim, in[0]->addr, in[1]->addr, in[2]->addr,
                                                      in[3]->addr, in[4]->addr, state->addr, o->addr});
    check_submit(c);
    check_nmse(c, o, want, 1e-9, named("delta", s));
    check_nmse(c, state, after, 1e-9, named("state", s));
}

/* ------------------------------------------------------------------------------------------------- gated norm */

static void out(struct check *c, struct size s)
{
    const size_t rows = (size_t)s.n * s.n_head, count = rows * s.dim;
    struct check_buffer *o = check_floats(c, count, 2), *gain = check_floats(c, s.dim, 1),
                        *z = check_floats(c, count, 3);
    double *want = check_doubles(c, count);
    for (size_t r = 0; r < rows; r++) {
        double squares = 0;
        for (uint32_t i = 0; i < s.dim; i++) squares += pow((double)o->host[r * s.dim + i], 2);
        const double factor = 1 / sqrt(squares / s.dim + 1e-5);
        for (uint32_t i = 0; i < s.dim; i++) {
            const size_t at = r * s.dim + i;
            want[at] = (double)o->host[at] * factor * (double)gain->host[i] / (1 + exp(-(double)z->host[at]));
        }
    }
    check_begin(c);
    c->ops->kda_out(c->backend, &(struct kda_out){s.n, s.n_head, s.dim, o->addr, gain->addr, z->addr, 1e-5f});
    check_submit(c);
    check_nmse(c, o, want, 1e-11, named("out", s));
}

static void test_conv(void **state)
{
    each_size(*state, conv);
}
static void test_gate(void **state)
{
    each_size(*state, gate);
}
static void test_delta(void **state)
{
    each_size(*state, delta);
}
static void test_out(void **state)
{
    each_size(*state, out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conv),
        cmocka_unit_test(test_gate),
        cmocka_unit_test(test_delta),
        cmocka_unit_test(test_out),
    };
    const struct shape most = {.n_head = 32, .kda_dim = 128, .conv_kernel = 4, .n_kda = 1};
    return check_main(tests, sizeof tests / sizeof *tests, "op_kda", &most, 513);
}
