/* SPDX-License-Identifier: MIT
 *
 * Text made safe for a terminal, whatever its source: model, document, file name, error message. Newline and tab pass;
 * every other C0 control and DEL becomes its picture (ESC -> U+241B); CR before LF vanishes; C1 controls, bidirectional
 * controls, line separators, tags, noncharacters and broken UTF-8 become U+FFFD. The state holds what is incomplete, so
 * that a character split over two pieces is judged whole.
 */
#ifndef LECTERN_APP_SANITIZE_H
#define LECTERN_APP_SANITIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sanitizer {
    unsigned char held[4]; /* bytes of an incomplete character, or a CR */
    unsigned n_held;
};

/* Most bytes that n bytes can become, what was held included. */
#define SANITIZE_ROOM(n) (3 * ((n) + 4))

/* Feeds n bytes, writes safe UTF-8 to out (room for SANITIZE_ROOM(n)) and returns its length. Zero-initialise. */
size_t sanitize_push(struct sanitizer *, const char *bytes, size_t n, char *out);
size_t sanitize_end(struct sanitizer *, char *out);

/* A whole text at once, NUL-terminated; free(). NULL when out of memory. */
char *sanitize_text(const char *bytes, size_t n, size_t *len);
/* The same for one line into a fixed buffer: newline and tab become pictures too; cut at a character. */
void sanitize_line(const char *text, char *out, size_t cap);

/* Is this code point shown as it is? */
bool sanitize_is_safe(uint32_t code_point);

#endif
