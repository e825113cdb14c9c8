/* SPDX-License-Identifier: MIT
 *
 * Push constants of the kernels: read by C and by GLSL. At most 128 bytes a struct; addresses first, so that both
 * languages lay them out alike (GLSL's std430 rounds the size up to 8, as C does).
 */
#ifndef LECTERN_SHADERS_PARAMS_H
#define LECTERN_SHADERS_PARAMS_H

#ifndef GL_core_profile
#include <stdint.h>
#endif

struct params_embed {
    uint64_t table, ids, x;
    uint32_t n_in, row_bytes, n_vocab;
};

struct params_rms_norm {
    uint64_t x, gain, y;
    uint32_t width;
    float eps;
};

struct params_swiglu {
    uint64_t gate, up, y;
    uint32_t count;
};

struct params_matvec {
    uint64_t w, x, y;
    uint32_t n_in, n_out, row_bytes, add;
};

#endif
