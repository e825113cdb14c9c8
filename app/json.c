/* SPDX-License-Identifier: MIT
 *
 * The JSON writer.
 */
#include "app/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "app/console.h"
#include "app/sanitize.h"
#include "quant/error.h"

static void put(struct json *j, const char *bytes, size_t n)
{
    if (j->failed) return;
    if (n > j->capacity - j->len) {
        size_t capacity = j->capacity ? j->capacity : 256;
        while (capacity - j->len < n && capacity <= SIZE_MAX / 4) capacity *= 2;
        char *text = capacity - j->len < n ? NULL : realloc(j->text, capacity);
        if (!text) {
            j->failed = true;
            return;
        }
        j->text = text;
        j->capacity = capacity;
    }
    memcpy(j->text + j->len, bytes, n);
    j->len += n;
}

static void put_escape(struct json *j, uint32_t c)
{
    char escape[16];
    if (c == '\n' || c == '\t' || c == '\r')
        snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
    else if (c == '"' || c == '\\')
        snprintf(escape, sizeof escape, "\\%c", (int)c);
    else if (c < 0x10000)
        snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
    else
        snprintf(escape, sizeof escape, "\\u%04x\\u%04x", (unsigned)(0xd800 + ((c - 0x10000) >> 10)),
                 (unsigned)(0xdc00 + (c & 0x3ff)));
    put(j, escape, strlen(escape));
}

/* Decodes one character of at most `left` bytes; *c = U+FFFD and 1 byte where it is broken. */
static size_t next_character(const unsigned char *b, size_t left, uint32_t *c)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = b[0] < 0x80                   ? 1
               : b[0] >= 0xc2 && b[0] < 0xe0 ? 2
               : (b[0] & 0xf0) == 0xe0       ? 3
               : (b[0] & 0xf8) == 0xf0       ? 4
                                             : 0;
    *c = 0xfffd;
    if (!n || n > left) return 1;
    uint32_t value = n == 1 ? b[0] : b[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((b[i] & 0xc0) != 0x80) return 1;
        value = value << 6 | (b[i] & 0x3fu);
    }
    if (value < least[n] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000)) return 1;
    *c = value;
    return n;
}

static void put_string(struct json *j, const char *text, size_t len)
{
    put(j, "\"", 1);
    for (size_t i = 0; i < len;) {
        uint32_t c;
        size_t n = next_character((const unsigned char *)text + i, len - i, &c);
        bool broken = c == 0xfffd && n == 1;
        if (broken)
            put(j, "\xef\xbf\xbd", 3);
        else if (c == '"' || c == '\\' || c == '\n' || c == '\t' || !sanitize_is_safe(c))
            put_escape(j, c);
        else
            put(j, text + i, n);
        i += n;
    }
    put(j, "\"", 1);
}

static void put_key(struct json *j, const char *key)
{
    if (j->needs_comma) put(j, ", ", 2);
    j->needs_comma = true;
    if (!key) return;
    put_string(j, key, strlen(key));
    put(j, ": ", 2);
}

void json_open(struct json *j, const char *key, char open)
{
    put_key(j, key);
    put(j, &open, 1);
    j->needs_comma = false;
}

void json_close(struct json *j, char close)
{
    put(j, &close, 1);
    j->needs_comma = true;
}

void json_string(struct json *j, const char *key, const char *text, size_t len)
{
    put_key(j, key);
    put_string(j, text, len);
}

void json_text(struct json *j, const char *key, const char *text)
{
    put_key(j, key);
    if (text)
        put_string(j, text, strlen(text));
    else
        put(j, "null", 4);
}

void json_uint(struct json *j, const char *key, uint64_t value)
{
    char digits[32];
    put_key(j, key);
    put(j, digits, (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)value));
}

void json_int(struct json *j, const char *key, int64_t value)
{
    char digits[32];
    put_key(j, key);
    put(j, digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)value));
}

void json_real(struct json *j, const char *key, double value)
{
    char digits[40];
    put_key(j, key);
    if (!isfinite(value))
        put(j, "null", 4);
    else
        put(j, digits, (size_t)snprintf(digits, sizeof digits, "%.6g", value));
}

void json_bool(struct json *j, const char *key, bool value)
{
    put_key(j, key);
    put(j, value ? "true" : "false", value ? 4 : 5);
}

void json_hex(struct json *j, const char *key, const uint8_t *bytes, size_t n)
{
    static const char digits[] = "0123456789abcdef";
    put_key(j, key);
    put(j, "\"", 1);
    for (size_t i = 0; i < n; i++) put(j, (char[]){digits[bytes[i] >> 4], digits[bytes[i] & 15]}, 2);
    put(j, "\"", 1);
}

void json_raw(struct json *j, const char *key, char open, const struct json *items, char close)
{
    json_open(j, key, open);
    if (items->len) put(j, items->text, items->len);
    json_close(j, close);
}

void json_append(struct json *j, const char *bytes, size_t n)
{
    put(j, bytes, n);
}

char *json_end(struct json *j)
{
    put(j, "", 1);
    return j->failed ? NULL : j->text;
}

int json_send(struct json *j)
{
    put(j, "\n", 1);
    bool good = !j->failed && console_write(j->text, j->len);
    j->len = 0;
    j->needs_comma = false;
    return good ? 0 : ERROR_FAILED;
}

void json_free(struct json *j)
{
    free(j->text);
    *j = (struct json){0};
}
