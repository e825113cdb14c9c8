/* SPDX-License-Identifier: MIT
 *
 * Rotary positions (RoPE, arXiv 2104.09864; with YaRN, arXiv 2309.00071): by which angle each pair of channels turns at
 * each position. Angles are computed here, in double precision and on the host, so that a far position is as exact as
 * a near one and every device turns by the same numbers; the operation `rope` of ops.h only applies them.
 */
#ifndef LECTERN_ENGINE_ROTATION_H
#define LECTERN_ENGINE_ROTATION_H

#include <stdint.h>

enum { ROTATION_MOST = 1024 }; /* channels */

struct rotation {
    uint32_t width;                 /* P, even; 0: nothing turns */
    float magnitude;                /* what turned channels are multiplied by */
    double step[ROTATION_MOST / 2]; /* radians a token, of the pair of channels 2i and 2i + 1 */
};

struct rotation_params {
    uint32_t width;
    float base;
    float factor;      /* YaRN: how much longer texts may be than those of the first training; 1 = no YaRN */
    uint32_t original; /* tokens of the first training */
    float fast, slow;  /* turns within `original` from which on a pair keeps its pace, up to which it is slowed down */
    float magnitude;
};

void rotation_init(struct rotation *, const struct rotation_params *);
/* Cosine and sine, times magnitude, of positions first .. first + n - 1: out [n][P / 2][2]. */
void rotation_fill(const struct rotation *, uint32_t first, uint32_t n, float *out);

#endif
