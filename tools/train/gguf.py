# SPDX-License-Identifier: MIT
"""The little of GGUF that training needs: read a model's metadata and tensors, write them again as Q8_0. Read are the
types that a model shipped as Q5_K_M or Q8_0 is made of (docs/quantization.md has their layouts).

A Q8_0 file is also the training checkpoint: at 8.5 bits a weight it is small enough to carry between short sessions,
and rounding to it costs less than one optimiser step.
"""
import mmap, os, struct
import numpy as np

F32, F16, Q5_1, Q8_0, Q5_K, Q6_K = 0, 1, 7, 8, 13, 14
SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


def half(b): return b.copy().view(np.float16).astype(np.float32)


def unpack_q8_0(b): return b[:, 2:].copy().view(np.int8) * half(b[:, :2])


def unpack_q5_1(b):
    high = np.unpackbits(b[:, 4:8], axis=1, bitorder="little")
    return (np.concatenate([b[:, 8:] & 15, b[:, 8:] >> 4], 1) | high << 4) * half(b[:, :2]) + half(b[:, 2:4])


def unpack_q5_k(b):
    s, high, low = b[:, 4:16], b[:, 16:48], b[:, 48:]
    scale = np.concatenate([s[:, :4] & 63, s[:, 8:] & 15 | s[:, :4] >> 6 << 4], 1) * half(b[:, :2])
    least = np.concatenate([s[:, 4:8] & 63, s[:, 8:] >> 4 | s[:, 4:8] >> 6 << 4], 1) * half(b[:, 2:4])
    q = np.stack([low[:, i // 2 * 32:i // 2 * 32 + 32] >> i % 2 * 4 & 15 | (high >> i & 1) << 4 for i in range(8)], 1)
    return q * scale[..., None] - least[..., None]


def unpack_q6_k(b):
    scale = (b[:, 192:208].copy().view(np.int8) * half(b[:, 208:]))[..., None]
    q = [b[:, h * 64 + i % 2 * 32:h * 64 + i % 2 * 32 + 32] >> i // 2 * 4 & 15 | (b[:, 128 + h * 32:160 + h * 32] >> 2 * i & 3) << 4
         for h in range(2) for i in range(4)]
    return (np.stack(q, 1).reshape(-1, 16, 16).astype(np.float32) - 32) * scale


# type: (weights a block, bytes a block, its bytes [n, bytes] -> weights)
BLOCKS = {Q5_1: (32, 24, unpack_q5_1), Q8_0: (32, 34, unpack_q8_0), Q5_K: (256, 176, unpack_q5_k), Q6_K: (256, 210, unpack_q6_k)}


class Reader:
    """meta: key -> (kind, value); tensors: name -> float32 array in numpy order (the reverse of ggml's ne)."""

    def __init__(self, path):
        fd = os.open(path, os.O_RDONLY)
        self.b = memoryview(mmap.mmap(fd, 0, prot=mmap.PROT_READ))
        os.close(fd)
        if bytes(self.b[:4]) != b"GGUF": raise ValueError(f"{path} is not a GGUF file")
        n_tensors, n_pairs = struct.unpack_from("<QQ", self.b, 8)
        self.at = 24
        self.meta = {}
        for _ in range(n_pairs):
            key = self.text()
            kind = self.take("I")
            self.meta[key] = (kind, self.value(kind))
        self.info = {}
        for _ in range(n_tensors):
            name = self.text()
            ne = [self.take("Q") for _ in range(self.take("I"))]
            self.info[name] = (ne, self.take("I"), self.take("Q"))
        self.base = self.at + -self.at % self.get("general.alignment", 32)

    def take(self, f):
        v, = struct.unpack_from("<" + f, self.b, self.at)
        self.at += struct.calcsize("<" + f)
        return v

    def text(self):
        n = self.take("Q")
        s = bytes(self.b[self.at:self.at + n]).decode("utf-8", "surrogateescape")
        self.at += n
        return s

    def value(self, kind):
        if kind == STRING: return self.text()
        if kind == ARRAY:
            element, n = self.take("I"), self.take("Q")
            return element, [self.value(element) for _ in range(n)]
        return self.take(SCALARS[kind])

    def get(self, key, default=None):
        kind, v = self.meta.get(key, (None, default))
        return v[1] if kind == ARRAY else v

    def tensor(self, name):
        ne, kind, offset = self.info[name]
        n, p = int(np.prod(ne)), self.base + offset
        if kind == F32: a = np.frombuffer(self.b, np.float32, n, p)
        elif kind == F16: a = np.frombuffer(self.b, np.float16, n, p).astype(np.float32)
        elif kind in BLOCKS:
            weights, size, unpack = BLOCKS[kind]
            a = unpack(np.frombuffer(self.b, np.uint8, n // weights * size, p).reshape(-1, size)).ravel()
        else: raise ValueError(f"{name} has type {kind}, which training cannot read")
        return a.reshape(ne[::-1])


def pack_q8_0(a):
    """float array, last dimension a multiple of 32 -> bytes of Q8_0 blocks (f16 scale, 32 int8)."""
    b = a.reshape(-1, 32).astype(np.float32)
    scale = (np.abs(b).max(1) / 127).astype(np.float16)
    q = np.rint(b / np.maximum(scale.astype(np.float32), 1e-12)[:, None]).clip(-127, 127).astype(np.int8)
    return np.concatenate([scale.view(np.uint8).reshape(-1, 2), q.view(np.uint8)], 1).tobytes()


def dump(kind, v):
    s = lambda t: (lambda b: struct.pack("<Q", len(b)) + b)(t.encode("utf-8", "surrogateescape"))
    if kind == STRING: return s(v)
    if kind == ARRAY: return struct.pack("<IQ", v[0], len(v[1])) + b"".join(dump(v[0], x) for x in v[1])
    return struct.pack("<" + SCALARS[kind], v)


def dump_model(meta, tensors):
    """tensors: name -> (float32 array in numpy order, keep_f32). Everything else goes to Q8_0. -> the file's bytes"""
    meta = dict(meta)
    meta["general.file_type"] = (4, 7)
    head, info, blobs, offset = b"", b"", [], 0
    for key, (kind, v) in meta.items(): head += dump(STRING, key) + struct.pack("<I", kind) + dump(kind, v)
    for name, (a, keep) in tensors.items():
        kind, data = (F32, a.astype(np.float32).tobytes()) if keep or a.shape[-1] % 32 else (Q8_0, pack_q8_0(a))
        ne = a.shape[::-1]
        info += dump(STRING, name) + struct.pack(f"<I{len(ne)}QIQ", len(ne), *ne, kind, offset)
        data += b"\0" * (-len(data) % 32)
        blobs.append(data)
        offset += len(data)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(meta)) + head + info
    return head + b"\0" * (-len(head) % 32) + b"".join(blobs)
