/* SPDX-License-Identifier: MIT
 *
 * Bytes of a text file -> clean UTF-8: byte-order marks name UTF-8 and UTF-16; without one, valid UTF-8 is UTF-8 and
 * anything else Windows-1252 (which holds Latin-1's letters). NUL, known signatures of other formats and a crowd of
 * control characters mean binary.
 */
#include "app/doc.h"

#include <stdlib.h>
#include <string.h>

/* Windows-1252, 0x80 ... 0x9f; 0 = not assigned (WHATWG, https://encoding.spec.whatwg.org/index-windows-1252.txt, whose
 * five C1 leftovers are left out). */
static const uint16_t windows1252[32] = {
    0x20ac, 0,      0x201a, 0x0192, 0x201e, 0x2026, 0x2020, 0x2021, 0x02c6, 0x2030, 0x0160,
    0x2039, 0x0152, 0,      0x017d, 0,      0,      0x2018, 0x2019, 0x201c, 0x201d, 0x2022,
    0x2013, 0x2014, 0x02dc, 0x2122, 0x0161, 0x203a, 0x0153, 0,      0x017e, 0x0178,
};

static const struct {
    const char *bytes;
    size_t n;
    const char *what;
} signatures[] = {
    {"%PDF-", 5, "is a PDF; only text is read so far."},
    {"PK\003\004", 4, "is a zip container (EPUB, DOCX, ODT, ...); only text is read so far."},
    {"{\\rtf", 5, "is RTF; only text is read so far."},
    {"\x7f"
     "ELF",
     4, "is a program."},
    {"\x1f\x8b", 2, "is compressed."},
    {"BZh", 3, "is compressed."},
    {"\xfd"
     "7zXZ",
     5, "is compressed."},
    {"\x89PNG", 4, "is a picture."},
    {"\xff\xd8\xff", 3, "is a picture."},
    {"GIF8", 4, "is a picture."},
    {"GGUF", 4, "is a model file."},
};

const char *document_encoding_name(enum document_encoding e)
{
    static const char *const names[] = {"UTF-8", "UTF-16LE", "UTF-16BE", "Windows-1252"};
    return names[e];
}

/* ------------------------------------------------------------------------------------------------ what is it */

static bool is_utf8(const unsigned char *b, size_t n)
{
    for (size_t i = 0; i < n;) {
        unsigned char lead = b[i];
        size_t len = lead < 0x80                   ? 1
                     : lead >= 0xc2 && lead < 0xe0 ? 2
                     : (lead & 0xf0) == 0xe0       ? 3
                     : lead >= 0xf0 && lead < 0xf5 ? 4
                                                   : 0;
        if (!len || len > n - i) return false;
        for (size_t k = 1; k < len; k++)
            if ((b[i + k] & 0xc0) != 0x80) return false;
        if (len > 2) {
            unsigned char second = b[i + 1];
            if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second >= 0xa0)) return false;
            if ((lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second >= 0x90)) return false;
        }
        i += len;
    }
    return true;
}

static const char *binary_reason(const unsigned char *b, size_t n, bool valid)
{
    for (size_t i = 0; i < sizeof signatures / sizeof *signatures; i++)
        if (n >= signatures[i].n && !memcmp(b, signatures[i].bytes, signatures[i].n)) return signatures[i].what;
    if (n && memchr(b, 0, n)) return "is binary (it has NUL bytes).";
    if (valid) return NULL;
    size_t odd = 0;
    for (size_t i = 0; i < n; i++) odd += (b[i] < 0x20 && !strchr("\t\n\r\f\x1b", b[i])) || b[i] == 0x7f;
    return odd > n / 100 ? "is binary (it is full of control characters)." : NULL;
}

/* ------------------------------------------------------------------------------------------------ conversion */

struct writer {
    char *out;
    size_t len;
    bool after_cr;
};

/* One character; CR LF and CR become LF. */
static void write_character(struct writer *w, uint32_t c)
{
    bool joined = c == '\n' && w->after_cr;
    w->after_cr = c == '\r';
    if (joined) return;
    if (c == '\r') c = '\n';
    unsigned char *o = (unsigned char *)w->out + w->len;
    if (c < 0x80) {
        o[0] = (unsigned char)c;
        w->len += 1;
    } else if (c < 0x800) {
        o[0] = (unsigned char)(0xc0 | c >> 6);
        o[1] = (unsigned char)(0x80 | (c & 0x3f));
        w->len += 2;
    } else if (c < 0x10000) {
        o[0] = (unsigned char)(0xe0 | c >> 12);
        o[1] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        o[2] = (unsigned char)(0x80 | (c & 0x3f));
        w->len += 3;
    } else {
        o[0] = (unsigned char)(0xf0 | c >> 18);
        o[1] = (unsigned char)(0x80 | (c >> 12 & 0x3f));
        o[2] = (unsigned char)(0x80 | (c >> 6 & 0x3f));
        o[3] = (unsigned char)(0x80 | (c & 0x3f));
        w->len += 4;
    }
}

static void from_utf8(struct writer *w, const unsigned char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (b[i] == '\r' || b[i] == '\n') {
            write_character(w, b[i]);
            continue;
        }
        w->after_cr = false;
        w->out[w->len++] = (char)b[i];
    }
}

static void from_windows1252(struct writer *w, const unsigned char *b, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t c = b[i] >= 0x80 && b[i] < 0xa0 ? windows1252[b[i] - 0x80] : b[i];
        write_character(w, c ? c : 0xfffd);
    }
}

static void from_utf16(struct writer *w, const unsigned char *b, size_t n, bool big)
{
    for (size_t i = 0; i + 1 < n; i += 2) {
        uint32_t c = big ? (uint32_t)b[i] << 8 | b[i + 1] : (uint32_t)b[i + 1] << 8 | b[i];
        uint32_t low = 0;
        if (c >= 0xd800 && c < 0xdc00 && i + 3 < n)
            low = big ? (uint32_t)b[i + 2] << 8 | b[i + 3] : (uint32_t)b[i + 3] << 8 | b[i + 2];
        if (low >= 0xdc00 && low < 0xe000) {
            c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
            i += 2;
        } else if (c >= 0xd800 && c < 0xe000) {
            c = 0xfffd;
        }
        write_character(w, c);
    }
    if (n % 2) write_character(w, 0xfffd);
}

static size_t trimmed_length(const char *text, size_t n)
{
    while (n && strchr(" \t\n\v\f\r", text[n - 1])) n--;
    return n;
}

static enum document_encoding guess_encoding(const unsigned char *b, size_t n, size_t *mark)
{
    *mark = 2;
    if (n >= 2 && b[0] == 0xff && b[1] == 0xfe) return ENCODING_UTF16LE;
    if (n >= 2 && b[0] == 0xfe && b[1] == 0xff) return ENCODING_UTF16BE;
    *mark = n >= 3 && !memcmp(b, "\xef\xbb\xbf", 3) ? 3 : 0;
    return is_utf8(b + *mark, n - *mark) ? ENCODING_UTF8 : ENCODING_WINDOWS1252;
}

int document_clean(const unsigned char *bytes, size_t n, char **text, size_t *len, enum document_encoding *encoding,
                   struct error *error)
{
    size_t mark;
    *encoding = guess_encoding(bytes, n, &mark);
    bool wide = *encoding == ENCODING_UTF16LE || *encoding == ENCODING_UTF16BE;
    const char *reason = wide ? NULL : binary_reason(bytes, n, *encoding == ENCODING_UTF8);
    if (reason) return error_set(error, ERROR_INPUT, "%s", reason);
    if (*encoding == ENCODING_WINDOWS1252) mark = 0;
    bytes += mark;
    n -= mark;
    if (n > SIZE_MAX / 4) return error_set(error, ERROR_FAILED, "is too large for this machine.");
    struct writer w = {.out = malloc(3 * n + 4)};
    if (!w.out) return error_set(error, ERROR_FAILED, "does not fit into memory.");
    if (*encoding == ENCODING_UTF8)
        from_utf8(&w, bytes, n);
    else if (wide)
        from_utf16(&w, bytes, n, *encoding == ENCODING_UTF16BE);
    else
        from_windows1252(&w, bytes, n);
    if (w.len && memchr(w.out, 0, w.len)) {
        free(w.out);
        return error_set(error, ERROR_INPUT, "is binary (it has NUL characters).");
    }
    *len = trimmed_length(w.out, w.len);
    w.out[*len] = 0;
    char *fitted = realloc(w.out, *len + 1);
    *text = fitted ? fitted : w.out;
    return 0;
}
