/* SPDX-License-Identifier: MIT
 *
 * Where the codebook of each IQ format begins in the device's table of all, in 16-bit codes (quant/iq_codebook.h): read
 * by C and by GLSL.
 */
#ifndef LECTERN_SHADERS_CODEBOOKS_H
#define LECTERN_SHADERS_CODEBOOKS_H

#define CODEBOOK_IQ2_XXS 0
#define CODEBOOK_IQ2_XS 256
#define CODEBOOK_IQ2_S 768
#define CODEBOOK_IQ3_XXS 1792
#define CODEBOOK_IQ3_S 2048
#define CODEBOOK_IQ1 2560
#define CODEBOOK_CODES 4608

#endif
