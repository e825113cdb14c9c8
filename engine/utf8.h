/* SPDX-License-Identifier: MIT
 *
 * Reading UTF-8 strictly: no overlong forms, no surrogates, nothing above U+10FFFF.
 */
#ifndef LECTERN_ENGINE_UTF8_H
#define LECTERN_ENGINE_UTF8_H

#include <stddef.h>
#include <stdint.h>

#define UTF8_INVALID 0xFFFFFFFFu /* what utf8_decode gives for a byte that belongs to no character */

/* Decodes the character at text[0, len), len > 0, into *code and returns its bytes. A byte which starts no valid
 * character is one step of its own: UTF8_INVALID, 1. */
size_t utf8_decode(const char *text, size_t len, uint32_t *code);

#endif
