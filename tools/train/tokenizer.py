# SPDX-License-Identifier: MIT
"""The byte-level BPE of a GGUF behind Moonshot's kimi-k2 splitter, in plain Python.

Words repeat, so each is merged once and remembered: about a million tokens a second.
"""
import re, sys, unicodedata

HAN = [(0x2E80, 0x2E99), (0x2E9B, 0x2EF3), (0x2F00, 0x2FD5), (0x3005, 0x3005), (0x3007, 0x3007), (0x3021, 0x3029),
       (0x3038, 0x303B), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFA6D), (0xFA70, 0xFAD9), (0x16FF0, 0x16FF1),
       (0x20000, 0x2A6DF), (0x2A700, 0x2EBE0), (0x2F800, 0x2FA1D), (0x30000, 0x323AF)]


CATEGORY = [unicodedata.category(chr(code)) for code in range(sys.maxunicode + 1)]


def ranges(wanted):
    """The code points for which wanted(category, code) holds, as the inside of a character class."""
    out, first = [], None
    for code in range(sys.maxunicode + 2):
        inside = code <= sys.maxunicode and wanted(CATEGORY[code], code)
        if inside and first is None: first = code
        if not inside and first is not None:
            out.append(re.escape(chr(first)) + ("-" + re.escape(chr(code - 1)) if code - 1 > first else ""))
            first = None
    return "".join(out)


def splitter():
    han = {code for a, b in HAN for code in range(a, b + 1)}
    other = {"Lm", "Lo", "Mn", "Mc", "Me"}
    capital, small = other | {"Lu", "Lt"}, other | {"Ll"}
    upper = ranges(lambda c, code: c in capital and code not in han)
    lower = ranges(lambda c, code: c in small and code not in han)
    letter, number = ranges(lambda c, _: c[0] == "L"), ranges(lambda c, _: c[0] == "N")
    before, tail = rf"[^\r\n{letter}{number}]?", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    return re.compile("|".join([
        "[" + ranges(lambda _, code: code in han) + "]+",
        rf"{before}[{upper}]*[{lower}]+{tail}", rf"{before}[{upper}]+[{lower}]*{tail}",
        rf"[{number}]{{1,3}}", rf" ?[^\s{letter}{number}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"]))


def byte_letters():
    """GPT-2's way of writing any byte as a visible letter."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(rest)) for b in range(256)]


class Tokenizer:
    def __init__(s, reader):
        tokens, kinds = reader.get("tokenizer.ggml.tokens"), reader.get("tokenizer.ggml.token_type")
        s.special = {t: i for i, t in enumerate(tokens) if kinds[i] == 3}
        s.ids = {t: i for i, t in enumerate(tokens) if kinds[i] == 1}
        s.ranks = {tuple(m.split(" ")): i for i, m in enumerate(reader.get("tokenizer.ggml.merges"))}
        s.letters, s.find, s.known = byte_letters(), splitter().findall, {}

    def merge(s, word):
        parts = [s.letters[b] for b in word.encode("utf-8", "surrogatepass")]
        while len(parts) > 1:
            rank, at = min((s.ranks.get(pair, 1 << 30), i) for i, pair in enumerate(zip(parts, parts[1:])))
            if rank == 1 << 30: break
            parts[at:at + 2] = [parts[at] + parts[at + 1]]
        return [s.ids[p] for p in parts]

    def encode(s, text):
        """Ids of a text; special tokens in it are text."""
        out, known = [], s.known
        for word in s.find(text):
            ids = known.get(word)
            if ids is None:
                ids = s.merge(word)
                if len(known) < 1 << 20: known[word] = ids
            out += ids
        return out
