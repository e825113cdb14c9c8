/* SPDX-License-Identifier: MIT
 *
 * The searches that encoders share: the step (and offset) that make the nearest weights in weighted squared error.
 * w may be NULL (all ones). Inputs that are not finite are the caller's to replace (see fit_clean). Private to quant/.
 */
#ifndef LECTERN_QUANT_FIT_H
#define LECTERN_QUANT_FIT_H

#include <stddef.h>
#include <stdint.h>

enum { FIT_MOST = 256 }; /* weights in one fit */

/* Copies n (<= FIT_MOST) weights with NaN as 0 and infinities as the largest half, and importance (NULL = ones; what is
 * not a positive number becomes 0; all zero becomes all ones). Every encoder starts with it: later arithmetic is
 * finite. Importance is multiplied by sqrt(1 + x^2 / mean x^2): measured on a trained model, an error of the large
 * weights does more harm than their share of the squared error tells (docs/quantization.md). The form is llama.cpp's. */
void fit_clean(const float *in, const float *importance, float *x, float *w, size_t n);

/* Nearest whole number within lo..hi. */
int fit_round(float v, int lo, int hi);

/* x[i] ~ d * q[i], q in lo..hi (lo <= 0 < hi). Returns d (of either sign) and leaves the levels in q. */
float fit_step(const float *x, const float *w, size_t n, int lo, int hi, int8_t *q);

/* x[i] ~ d * q[i] - m, q in 0..hi, d >= 0, m >= 0 unless any_sign. Returns d; *m and q as found. */
struct fit_line {
    float d, m;
};
struct fit_line fit_affine(const float *x, const float *w, size_t n, int hi, int any_sign, uint8_t *q);

/* Levels for a fixed line, 0..hi. Returns the weighted squared error. */
float fit_line_levels(const float *x, const float *w, size_t n, struct fit_line line, int hi, uint8_t *q);

/* Levels for a fixed step: q[i] = nearest of lo..hi to x[i] / d (0 when d is 0). Returns the weighted squared error. */
float fit_levels(const float *x, const float *w, size_t n, float d, int lo, int hi, int8_t *q);

/* The best d for fixed levels, least squares; 0 when the levels are all 0. */
float fit_best_step(const float *x, const float *w, size_t n, const int8_t *q);

#endif
