#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
#
# split_gguf.py IN.gguf STEM COUNT: writes IN as STEM-00001-of-0000N.gguf and so on, the tensors dealt out in order.
import struct
import sys

ALIGN = 32
SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes of a value; 8 text, 9 array
data = open(sys.argv[1], "rb").read()
stem, count = sys.argv[2], int(sys.argv[3])
at = 0


def number(form):
    global at
    (value,) = struct.unpack_from("<" + form, data, at)
    at += struct.calcsize("<" + form)
    return value


def take_text():
    global at
    length = number("Q")  # first: it moves `at`
    at += length
    return data[at - length : at]


def skip_value(kind):
    global at
    if kind == 8:
        take_text()
    elif kind == 9:
        inner, n = number("I"), number("Q")
        for _ in range(n):
            skip_value(inner)
    else:
        at += SIZES[kind]


def pad(n):
    return b"\0" * (-n % ALIGN)


def text(s):
    return struct.pack("<Q", len(s)) + s


assert data[:4] == b"GGUF"
at = 4
version, n_tensors, n_pairs = number("I"), number("Q"), number("Q")
pairs_at = at
for _ in range(n_pairs):
    take_text()
    skip_value(number("I"))
pairs = data[pairs_at:at]
tensors = []
for _ in range(n_tensors):
    name = take_text()
    dims = [number("Q") for _ in range(number("I"))]
    tensors.append((name, dims, number("I"), number("Q")))
start = at + len(pad(at))
ends = [t[3] for t in tensors] + [len(data) - start]
size_of = {t[3]: min(e for e in ends if e > t[3]) - t[3] for t in tensors}
for part in range(count):
    mine = tensors[part * n_tensors // count : (part + 1) * n_tensors // count]
    split = text(b"split.no") + struct.pack("<IH", 2, part) + text(b"split.count") + struct.pack("<IH", 2, count)
    split += text(b"split.tensors.count") + struct.pack("<Ii", 5, n_tensors)
    head = (pairs if part == 0 else b"") + split
    n = (n_pairs if part == 0 else 0) + 3
    infos, body = b"", b""
    for name, dims, kind, offset in mine:
        infos += text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, len(body))
        body += data[start + offset : start + offset + size_of[offset]]
        body += pad(len(body))
    head = b"GGUF" + struct.pack("<IQQ", version, len(mine), n) + head + infos
    with open(f"{stem}-{part + 1:05}-of-{count:05}.gguf", "wb") as out:
        out.write(head + pad(len(head)) + body)
