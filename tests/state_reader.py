#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Another reader of lectern's stored states, written from docs/state-format.md and store/schema.sql alone.

    state_reader.py DIR [IDS]

Walks every snapshot of DIR/lectern.db with its chain of row segments and its tail, verifies checksums and header fields,
and prints one line a piece: token range, dtype, and for the numbers in it their sum and a sum that depends on their order
(the i-th number times i % 97 + 1). IDS, a file of u32 LE, lets it also verify the hash chain and the hashes of the ids.
"""
import hashlib
import os
import sqlite3
import struct
import sys

F32, F16, Q8_0 = 0, 1, 8
SEGMENT, HEADER = 512, 176


def sha(*pieces):
    return hashlib.sha256(b"".join(pieces)).digest()


def poly1305(key, message):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    a = 0
    for i in range(0, len(message), 16):
        a = (a + int.from_bytes(message[i:i + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    return ((a + int.from_bytes(key[16:], "little")) % (1 << 128)).to_bytes(16, "little")


def need(condition, what):
    if not condition:
        sys.exit(f"state_reader: {what}")


def read_blob(db, blob, kind, name):
    size, = db.execute("SELECT size FROM blob WHERE id = ? AND kind = ?", (blob, kind)).fetchone()
    data = b""
    rows = db.execute("SELECT id, sum, bytes FROM part WHERE id >= ? AND id < ? ORDER BY id", (blob * 1024, (blob + 1) * 1024))
    for ordinal, (part, tag, piece) in enumerate(rows):
        key = sha(b"lectern-part-1", name, struct.pack("<II", kind, ordinal))
        need(part == blob * 1024 + ordinal and tag == poly1305(key, piece), f"part {part} has a wrong checksum")
        data += piece
    need(len(data) == size, f"blob {blob} has {len(data)} of {size} bytes")
    return data


def decode(data, dtype):
    if dtype == Q8_0:
        blocks = struct.iter_unpack("<e32b", data)
        return [block[0] * q for block in blocks for q in block[1:]]
    return struct.unpack(f"<{len(data) // 4}f" if dtype == F32 else f"<{len(data) // 2}e", data)


def told(what, numbers):
    ordered = sum(x * (i % 97 + 1) for i, x in enumerate(numbers))
    print(f"  {what} {len(numbers)} sum {sum(numbers):.17g} ordered {ordered:.17g}")


def read_piece(data, kind, first, count, ids):
    magic, version, is_kind, key, is_first, is_count, hashed = struct.unpack_from("<8sII32sQQ32s", data)
    dims = struct.unpack_from("<8I", data, 96)
    size, zero = struct.unpack_from("<QQ", data, 128)
    payload = data[HEADER:]
    need((magic, is_kind, zero) == (b"LCTNSTAT", kind, 0) and version in (1, 2), "a header is not of version 1 or 2")
    need((is_first, is_count, size) == (first, count, len(payload)), "a piece has another range")
    old, new = sha(data[:144], payload), poly1305(sha(b"lectern-piece-2", data[:144]), payload) + bytes(16)
    need(data[144:176] == (old if version == 1 else new), "a piece has a wrong checksum")
    need(not ids or hashed == sha(ids[:4 * (first + count)]), "a piece is of another text")
    name = "rows" if kind == 1 else "snapshot"
    print(f"{name} first {first} count {count} dims {' '.join(map(str, dims))} version {version} checksum {data[144:176].hex()}")
    if kind == 1:
        need(size == count * dims[0] * dims[3], "rows have the wrong size")
        told("rows", decode(payload, dims[2]))
        return key
    layers, heads, width, dtype, taps, vocabulary = dims[:6]
    state = layers * heads * width * width * (4 if dtype == F32 else 2)
    history = layers * 3 * heads * width * taps * 4
    need(size == state + history + 4 * vocabulary, "a snapshot has the wrong size")
    told("state", decode(payload[:state], dtype))
    told("history", decode(payload[state:state + history], F32))
    told("logits", decode(payload[state + history:], F32))
    return key


def read_state(db, row, ids):
    snapshot, head, tail, segment, position, tail_blob, blob = row
    path = []
    while segment:
        digest, parent, rows = db.execute("SELECT hash, parent, blob FROM segment WHERE id = ?", (segment,)).fetchone()
        path.insert(0, (digest, rows))
        segment = parent
    full = len(path) * SEGMENT
    need(full == position - position % SEGMENT and len(tail) == 4 * (position - full), "a chain has the wrong length")
    need(not ids or tail == ids[4 * full:4 * position], "a snapshot is of another text")
    print(f"state at {position}")
    keys = set()
    for i, (digest, rows) in enumerate(path):
        keys.add(read_piece(read_blob(db, rows, 0, digest), 1, i * SEGMENT, SEGMENT, ids))
    name = sha(b"lectern-snapshot-1", head, tail)
    if tail:
        keys.add(read_piece(read_blob(db, tail_blob, 1, name), 1, full, position - full, ids))
    keys.add(read_piece(read_blob(db, blob, 2, name), 2, 0, position, ids))
    need(len(keys) == 1, "the pieces are of several models")
    chain = sha(b"lectern-chain-1", keys.pop())
    for i, (digest, _) in enumerate(path):
        chain = sha(chain, ids[4 * i * SEGMENT:4 * (i + 1) * SEGMENT]) if ids else digest
        need(digest == chain, "the hash chain is broken")
    need(head == chain, "a snapshot hangs at another chain")


def main():
    db = sqlite3.connect(f"file:{os.path.join(sys.argv[1], 'lectern.db')}?mode=ro", uri=True)
    ids = open(sys.argv[2], "rb").read() if len(sys.argv) > 2 else b""
    need(db.execute("PRAGMA user_version").fetchone() == (1,), "the store is not of version 1")
    query = "SELECT id, hash, tail, segment, position, tail_blob, blob FROM snapshot ORDER BY position"
    for row in db.execute(query).fetchall():
        read_state(db, row, ids)


main()
