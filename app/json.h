/* SPDX-License-Identifier: MIT
 *
 * JSON written piece by piece into memory, then sent to stdout as a whole: a reader never sees half an object. All
 * control, bidirectional and other unsafe characters are \u escapes, broken UTF-8 becomes U+FFFD, so the text is valid
 * for any reader and harmless on a terminal.
 */
#ifndef LECTERN_APP_JSON_H
#define LECTERN_APP_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct json {
    char *text;
    size_t len, capacity;
    bool needs_comma, failed; /* failed: out of memory */
};

/* A key of NULL is for array items. open: '{' or '['. */
void json_open(struct json *, const char *key, char open);
void json_close(struct json *, char close);
void json_string(struct json *, const char *key, const char *text, size_t len);
void json_text(struct json *, const char *key, const char *text); /* NUL-terminated; NULL -> null */
void json_uint(struct json *, const char *key, uint64_t value);
void json_int(struct json *, const char *key, int64_t value);
void json_real(struct json *, const char *key, double value); /* not finite -> null */
void json_bool(struct json *, const char *key, bool value);
/* The items gathered in another json, in brackets. */
void json_raw(struct json *, const char *key, char open, const struct json *items, char close);
/* Plain bytes, for a text that comes in pieces and becomes a json_string later. */
void json_append(struct json *, const char *bytes, size_t n);
void json_hex(struct json *, const char *key, const uint8_t *bytes, size_t n);

/* Ends the text with a NUL and returns it (still the json's); NULL when out of memory. */
char *json_end(struct json *);
/* Writes the text and a newline to stdout and starts anew. Returns 0 or ERROR_FAILED. */
int json_send(struct json *);
void json_free(struct json *);

#endif
