#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Whether the network here and lectern compute the same: check.py MODEL.gguf LOGITS TOKENS, where LOGITS is what
`lectern logits MODEL --tokens TOKENS --out LOGITS --device cpu` wrote. Prints the normalised squared error; exit code 1
when it is above 1e-6 (1e-3 on a GPU, whose activations are bfloat16)."""
import sys
import numpy as np
import torch
import gguf, model, ops


def main(path, logits, tokens):
    n, n_vocab = np.fromfile(logits, np.int32, 2)
    want = np.fromfile(logits, np.float32, offset=8).reshape(n, n_vocab).astype(float)
    ids = torch.tensor([[int(x) for x in open(tokens).read().split()]])
    m = model.from_gguf(gguf.Reader(path))
    if ops.FAST: m, ids = m.cuda(), ids.cuda()
    with torch.no_grad(), ops.mixed():
        got = torch.nn.functional.linear(m.hidden(ids).float(), m.head.weight.float()).cpu().numpy()
    error = ((got - want) ** 2).sum() / (want ** 2).sum()
    print(f"normalised squared error {error:.2e} over {n} tokens")
    return int(error > (1e-3 if ops.FAST else 1e-6))


if __name__ == "__main__": sys.exit(main(*sys.argv[1:]))
