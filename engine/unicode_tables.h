/* SPDX-License-Identifier: MIT
 *
 * Character classes of the pre-tokeniser, for every code point. The tables are written by tools/make_unicode_tables.py
 * from the Unicode Character Database.
 */
#ifndef LECTERN_ENGINE_UNICODE_TABLES_H
#define LECTERN_ENGINE_UNICODE_TABLES_H

#include <stdint.h>

enum unicode_class {
    UNICODE_LETTER = 1, /* \p{L} */
    UNICODE_NUMBER = 2, /* \p{N} */
    UNICODE_SPACE = 4,  /* White_Space, which is \s */
    UNICODE_HAN = 8,    /* Script=Han */
    UNICODE_HEAD = 16,  /* [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]] */
    UNICODE_TAIL = 32,  /* [\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]] */
};

extern const unsigned char unicode_block_of[0x110000 / 128];
extern const unsigned char unicode_class_of[]; /* 128 classes a block */

/* The classes (bits of enum unicode_class) of a code point below 0x110000. */
static inline unsigned unicode_class(uint32_t code)
{
    return unicode_class_of[unicode_block_of[code >> 7] * 128u + (code & 127u)];
}

#endif
