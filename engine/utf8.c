/* SPDX-License-Identifier: MIT
 *
 * UTF-8: a strict decoder, and the stream that turns token bytes into whole characters (engine.h: utf8_stream).
 * Source: The Unicode Standard 15.0, table 3-7 (well-formed byte sequences), and section 3.9 on U+FFFD substitution of
 * maximal subparts.
 */
#include <string.h>

#include "engine/engine.h"
#include "engine/utf8.h"

static const char replacement[3] = {'\xEF', '\xBF', '\xBD'}; /* U+FFFD */

/* Bytes of the character that starts with this byte; 0 when none does. */
static unsigned utf8_length(unsigned char lead)
{
    if (lead < 0x80) return 1;
    if (lead < 0xC2) return 0;
    if (lead < 0xE0) return 2;
    if (lead < 0xF0) return 3;
    return lead < 0xF5 ? 4 : 0;
}

/* Whether byte number `at` (1, 2, 3) of a character starting with `lead` may be `byte`. */
static bool utf8_continues(unsigned char lead, unsigned at, unsigned char byte)
{
    unsigned char low = 0x80, high = 0xBF;
    if (at == 1 && lead == 0xE0) low = 0xA0;
    if (at == 1 && lead == 0xED) high = 0x9F;
    if (at == 1 && lead == 0xF0) low = 0x90;
    if (at == 1 && lead == 0xF4) high = 0x8F;
    return byte >= low && byte <= high;
}

size_t utf8_decode(const char *text, size_t len, uint32_t *code)
{
    const unsigned char *byte = (const unsigned char *)text;
    unsigned n = utf8_length(byte[0]);
    *code = UTF8_INVALID;
    if (n == 0 || n > len) return 1;
    uint32_t value = n == 1 ? byte[0] : byte[0] & (0x7Fu >> n);
    for (unsigned i = 1; i < n; i++) {
        if (!utf8_continues(byte[0], i, byte[i])) return 1;
        value = value << 6 | (byte[i] & 0x3Fu);
    }
    *code = value;
    return n;
}

/* Feeds one byte; the output so far is `at` bytes. Returns its new length. */
static size_t utf8_stream_byte(struct utf8_stream *stream, unsigned char byte, char *out, size_t at)
{
    if (stream->n_held > 0 && !utf8_continues(stream->held[0], stream->n_held, byte)) {
        memcpy(out + at, replacement, sizeof replacement);
        at += sizeof replacement;
        stream->n_held = 0;
    }
    if (stream->n_held == 0 && utf8_length(byte) == 0) {
        memcpy(out + at, replacement, sizeof replacement);
        return at + sizeof replacement;
    }
    stream->held[stream->n_held++] = byte;
    if (stream->n_held < utf8_length(stream->held[0])) return at;
    memcpy(out + at, stream->held, stream->n_held);
    at += stream->n_held;
    stream->n_held = 0;
    return at;
}

size_t utf8_stream_push(struct utf8_stream *stream, const char *bytes, size_t n, char *out)
{
    size_t at = 0;
    for (size_t i = 0; i < n; i++) at = utf8_stream_byte(stream, (unsigned char)bytes[i], out, at);
    return at;
}

size_t utf8_stream_end(struct utf8_stream *stream, char *out)
{
    if (stream->n_held == 0) return 0;
    memcpy(out, replacement, sizeof replacement);
    stream->n_held = 0;
    return sizeof replacement;
}
