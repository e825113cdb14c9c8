/* SPDX-License-Identifier: MIT
 *
 * A small UTF-8 decoder that judges each character. The ranges follow Unicode 15: Bidi_Control, the tags block, the
 * interlinear annotation marks and the noncharacters besides the control blocks.
 */
#include "app/sanitize.h"

#include <stdlib.h>
#include <string.h>

#define REPLACEMENT 0xfffdu

bool sanitize_is_safe(uint32_t c)
{
    if (c == '\n' || c == '\t') return true;
    if (c < 0x20 || (c >= 0x7f && c <= 0x9f)) return false;
    if (c == 0x61c || c == 0x200e || c == 0x200f) return false; /* ALM, LRM, RLM */
    if (c >= 0x2028 && c <= 0x202e) return false;               /* line and paragraph separator, embeddings */
    if (c >= 0x2066 && c <= 0x206f) return false;               /* isolates, deprecated format characters */
    if (c >= 0xfff9 && c <= 0xfffb) return false;               /* interlinear annotation */
    if (c == 0xfeff || (c >= 0xfdd0 && c <= 0xfdef) || (c & 0xfffe) == 0xfffe) return false;
    if (c >= 0xd800 && c <= 0xdfff) return false;
    return c < 0xe0000 || c >= 0xe0080 ? c <= 0x10ffff : false; /* tags */
}

/* What an unsafe character is shown as: C0 and DEL have pictures. */
static uint32_t safe_form(uint32_t c)
{
    if (sanitize_is_safe(c)) return c;
    if (c < 0x20) return 0x2400 + c;
    return c == 0x7f ? 0x2421 : REPLACEMENT;
}

static size_t put_character(uint32_t c, char *out)
{
    unsigned char *o = (unsigned char *)out;
    if (c < 0x80) {
        o[0] = (unsigned char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i; i--, c >>= 6) o[i] = (unsigned char)(0x80 | (c & 0x3f));
    o[0] = (unsigned char)((0xf00u >> n & 0xf0u) | c);
    return n;
}

/* Length of the character that a lead byte opens, 0 if none can. */
static unsigned lead_length(unsigned char b)
{
    if (b < 0x80) return 1;
    if (b >= 0xc2 && b <= 0xdf) return 2;
    if ((b & 0xf0) == 0xe0) return 3;
    return b >= 0xf0 && b <= 0xf4 ? 4 : 0;
}

/* May `next` follow the n bytes held? Rules out overlong forms, surrogates and what lies past U+10FFFF. */
static bool continues(const unsigned char *held, unsigned n, unsigned char next)
{
    if ((next & 0xc0) != 0x80) return false;
    if (n != 1) return true;
    switch (held[0]) {
    case 0xe0:
        return next >= 0xa0;
    case 0xed:
        return next < 0xa0;
    case 0xf0:
        return next >= 0x90;
    case 0xf4:
        return next < 0x90;
    default:
        return true;
    }
}

static uint32_t decode(const unsigned char *b, unsigned n)
{
    if (n == 1) return b[0];
    uint32_t c = b[0] & (0x7fu >> n);
    for (unsigned i = 1; i < n; i++) c = c << 6 | (b[i] & 0x3fu);
    return c;
}

/* One byte while nothing is held. */
static size_t begin_character(struct sanitizer *s, unsigned char b, char *out)
{
    unsigned n = lead_length(b);
    if (!n) return put_character(REPLACEMENT, out);
    if (n == 1 && b != '\r') return put_character(safe_form(b), out);
    s->held[0] = b;
    s->n_held = 1;
    return 0;
}

/* One byte while a CR or a part of a character is held. */
static size_t extend_character(struct sanitizer *s, unsigned char b, char *out)
{
    if (s->held[0] == '\r') {
        s->n_held = 0;
        size_t n = b == '\n' ? 0 : put_character(safe_form('\r'), out);
        return n + begin_character(s, b, out + n);
    }
    if (!continues(s->held, s->n_held, b)) {
        s->n_held = 0;
        size_t n = put_character(REPLACEMENT, out);
        return n + begin_character(s, b, out + n);
    }
    s->held[s->n_held++] = b;
    unsigned n = lead_length(s->held[0]);
    if (s->n_held < n) return 0;
    s->n_held = 0;
    return put_character(safe_form(decode(s->held, n)), out);
}

size_t sanitize_push(struct sanitizer *s, const char *bytes, size_t n, char *out)
{
    size_t written = 0;
    for (size_t i = 0; i < n; i++) {
        unsigned char b = (unsigned char)bytes[i];
        written += s->n_held ? extend_character(s, b, out + written) : begin_character(s, b, out + written);
    }
    return written;
}

size_t sanitize_end(struct sanitizer *s, char *out)
{
    if (!s->n_held) return 0;
    uint32_t c = s->held[0] == '\r' ? safe_form('\r') : REPLACEMENT;
    s->n_held = 0;
    return put_character(c, out);
}

char *sanitize_text(const char *bytes, size_t n, size_t *len)
{
    if (n > SIZE_MAX / 3 - 8) return NULL;
    char *out = malloc(SANITIZE_ROOM(n) + 1);
    if (!out) return NULL;
    struct sanitizer s = {0};
    size_t written = sanitize_push(&s, bytes, n, out);
    written += sanitize_end(&s, out + written);
    out[written] = 0;
    if (len) *len = written;
    return out;
}

void sanitize_line(const char *text, char *out, size_t cap)
{
    struct sanitizer s = {0};
    size_t used = 0;
    for (bool more = true; more; text++) {
        char piece[SANITIZE_ROOM(1)];
        more = *text != 0;
        size_t n = more ? sanitize_push(&s, text, 1, piece) : sanitize_end(&s, piece);
        if (n == 1 && (piece[0] == '\n' || piece[0] == '\t'))
            n = put_character(0x2400u + (unsigned char)piece[0], piece);
        if (used + n >= cap) break;
        memcpy(out + used, piece, n);
        used += n;
    }
    if (cap) out[used] = 0;
}
