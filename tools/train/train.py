#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains the built-in model on, in a stretch of minutes. Each stretch starts from the last one's GGUF.

    train.py --init MODEL.gguf --corpus TEXT.txt.xz ... --held TEXT.txt.xz [--stories FAIRYTALEQA.jsonl.xz] --out DIR --seconds 480
Needs one NVIDIA GPU, torch >= 2.9, tokenizers and flash-linear-attention. Writes DIR/model.gguf (Q8_0: the checkpoint
and what `lectern quantize` starts from), DIR/model.gguf.00 ... (pieces of 15 MiB, to carry) and appends to DIR/log.txt.
"""
import argparse, math, os, random, sys, time
from multiprocessing import Pool
import numpy as np
import torch
from triton.runtime.autotuner import Autotuner
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
import data, gguf, model

torch._dynamo.config.recompile_limit = 64
PIECE = 15 << 20
LETTERS = r"\p{Lm}\p{Lo}\p{M}"
TAIL = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
PATTERN = "|".join([  # Moonshot's kimi-k2 splitter
    r"[\p{Han}]+",
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{LETTERS}&&[^\p{{Han}}]]*[\p{{Ll}}{LETTERS}&&[^\p{{Han}}]]+{TAIL}",
    rf"[^\r\n\p{{L}}\p{{N}}]?[\p{{Lu}}\p{{Lt}}{LETTERS}&&[^\p{{Han}}]]+[\p{{Ll}}{LETTERS}&&[^\p{{Han}}]]*{TAIL}",
    r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])
# (share of the time, row length, rows a step, most characters of a document)
STAGES = [(.50, 4096, 16, 13000), (.32, 16384, 4, 54000), (.18, 32768, 2, 110000)]


def tokenizer_of(reader):
    tokens, kinds = reader.get("tokenizer.ggml.tokens"), reader.get("tokenizer.ggml.token_type")
    merges = [tuple(m.split(" ")) for m in reader.get("tokenizer.ggml.merges")]
    t = Tokenizer(models.BPE(vocab={s: i for i, s in enumerate(tokens) if kinds[i] == 1}, merges=merges))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(PATTERN), "isolated"),
                                               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    return t, {s: i for i, s in enumerate(tokens) if kinds[i] == 3}


def tune_little():
    """Two launch configurations a Triton kernel: trying all of flash-linear-attention's outlasts a short stretch."""
    full = Autotuner.__init__

    def lean(self, fn, arg_names, configs, *args, **kw):
        usual = [c for c in configs if c.num_warps == 4 and c.num_stages == 2] or \
            [c for c in configs if c.num_warps == 4] or list(configs)
        small = min(configs, key=lambda c: (sum(v for v in c.kwargs.values() if isinstance(v, int)), c.num_stages))
        full(self, fn, arg_names, usual[:1] + ([small] if small is not usual[0] else []), *args, **kw)

    Autotuner.__init__ = lean


class Muon:
    """Momentum, orthogonalised by Newton-Schulz; equal shapes are done in one batch."""

    def __init__(s, params, lr, momentum=.95, decay=.1):
        s.lr, s.momentum, s.decay, s.groups = lr, momentum, decay, {}
        for p in params: s.groups.setdefault(p.shape[-2:], []).append(p)
        s.buffers = {p: torch.zeros_like(p) for p in params}

    @staticmethod
    @torch.compile
    def orthogonal(g):
        x = g.bfloat16()
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        tall = x.size(-2) > x.size(-1)
        if tall: x = x.mT
        for _ in range(5):
            a = x @ x.mT
            x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
        return x.mT if tall else x

    @torch.no_grad()
    def step(s, factor):
        lr = s.lr * factor
        for shape, params in s.groups.items():
            flat = []
            for p in params:
                b = s.buffers[p].lerp_(p.grad, 1 - s.momentum)
                flat.append(p.grad.lerp(b, s.momentum).reshape(-1, *shape))
                p.grad = None
            u = s.orthogonal(torch.cat(flat)) * (.2 * math.sqrt(max(shape)))
            for p, x in zip(params, u.split([len(f) for f in flat])):
                p.mul_(1 - lr * s.decay).add_(x.reshape(p.shape).to(p.dtype), alpha=-lr)


def make_rows(pool, a, tokenizer, special, stream, stage, n, seed, stories):
    """n conversations of a stage over data.DOCS (the pool's processes were forked with it), packed into rows."""
    _, T, _, most = STAGES[stage]
    jobs = ((seed * 10**8 + stage * 10**7 + i, most) for i in range(n))
    made = [x for x in pool.imap_unordered(data.sample, jobs, chunksize=32) if x]
    if stories: made += data.stories(stories, n // 12, most, random.Random(seed))
    random.Random(seed).shuffle(made)
    rows = data.pack(data.encode(tokenizer, made, special), stream, T, n * (most // 11) // 4 // T, seed + stage)
    return [torch.from_numpy(x) for x in rows]


def text_stream(docs, tokenizer, special, seed):
    parts = []
    for i in range(0, len(docs), 1000):
        parts += [np.array([special["[BOS]"]] + e.ids, np.int16) for e in tokenizer.encode_batch_fast(docs[i:i + 1000])]
    random.Random(seed).shuffle(parts)
    return np.concatenate(parts)


def build_rows(a, tokenizer, special, log):
    """Rows of each stage to train on, enough for the time at the expected speed, and rows of unseen documents."""
    out = []
    for paths, held in ((a.corpus, False), (a.held, True)):
        docs = data.read_documents(paths)
        random.Random(a.seed).shuffle(docs)
        stream = text_stream(docs, tokenizer, special, a.seed)
        data.DOCS[:] = [d for d in docs if len(d) > 3000]
        log("held out:" if held else "to train on:", len(docs), "documents,", len(stream), "tokens of text")
        with Pool(os.cpu_count()) as pool:
            sets = []
            for stage, (share, T, B, most) in enumerate(STAGES):
                n = 3 * B * T // (most // 11) if held else \
                    max(64, int(a.seconds * share * a.speed) * 4 // 5 // (most // 11))
                rows = make_rows(pool, a, tokenizer, special, stream, stage, n, a.seed + held, not held and a.stories)
                if held: rows = [r[:B] for r in rows]
                log(f"  stage {stage}: rows {tuple(rows[0].shape)}, {rows[1].float().mean():.1%} answer tokens")
                sets.append(rows)
        out.append(sets)
    return out


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--init", required=True)
    ap.add_argument("--corpus", nargs="+", required=True)
    ap.add_argument("--held", nargs="+", required=True, help="text that is only measured on")
    ap.add_argument("--stories")
    ap.add_argument("--out", required=True)
    ap.add_argument("--seconds", type=float, default=480)
    ap.add_argument("--speed", type=float, default=450e3, help="expected tokens/s, to make enough data")
    ap.add_argument("--lr", type=float, default=1.5e-3)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--profile", action="store_true", help="print the kernels that cost most in one step")
    a = ap.parse_args()
    os.makedirs(a.out, exist_ok=True)
    tune_little()
    start, logfile = time.time(), open(f"{a.out}/log.txt", "a")

    def log(*x):
        line = f"{time.time() - start:7.1f}s " + " ".join(map(str, x))
        print(line, flush=True)
        print(line, file=logfile, flush=True)

    log("train", " ".join(sys.argv[1:]))
    random.seed(a.seed), np.random.seed(a.seed), torch.manual_seed(a.seed)
    reader = gguf.Reader(a.init)
    tokenizer, special = tokenizer_of(reader)
    stages, held = build_rows(a, tokenizer, special, log)
    held = [(x.cuda().long(), k.cuda()) for x, k in held]
    m = model.from_gguf(reader).cuda()
    log("parameters", sum(p.numel() for p in m.parameters()) / 1e6, "M")

    mats = [p for n, p in m.blocks.named_parameters()
            if p.ndim >= 2 and not any(x in n for x in ("conv", "router", ".beta"))]
    known = {id(p) for p in mats}
    rest = [p for p in m.parameters() if id(p) not in known]
    muon = Muon(mats, a.lr)
    adam = torch.optim.AdamW([{"params": [p for p in rest if p.ndim >= 2], "weight_decay": .01},
                              {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0}],
                             lr=a.lr, betas=(.9, .95), fused=True)

    def forward(x, mask):
        with torch.autocast("cuda", torch.bfloat16): h = m.hidden(x[:, :-1]).flatten(0, 1)
        return h, x[:, 1:].flatten(), mask[:, 1:].flatten()

    @torch.no_grad()
    def evaluate(stage):
        h, t, k = forward(*held[stage])
        k = k.bool()
        lg = torch.nn.functional.linear(h[k], m.head.weight.to(h.dtype)).float()
        lm = model.loss(h, m.head.weight, t, (~k).float()).item()
        c = torch.nn.functional.cross_entropy(lg, t[k]).item()
        return f"text {lm:.3f} answers {c:.3f} right {(lg.argmax(-1) == t[k]).float().mean().item():.3f}"

    step, seen, t1 = 0, 0, time.time()
    at = [0] * len(STAGES)
    bounds = np.cumsum([s[0] for s in STAGES])
    last_stage = -1
    while True:
        f = (time.time() - t1) / a.seconds
        if f >= 1: break
        stage = int(np.searchsorted(bounds, f, side="right").clip(max=len(STAGES) - 1))
        if stage != last_stage:
            log(f"stage {stage} begins:", evaluate(stage))
            last_stage = stage
        X, M = stages[stage]
        B = STAGES[stage][2]
        i = at[stage]
        at[stage] = (i + B) % max(1, len(X) - B)
        x, mask = X[i:i + B].cuda(non_blocking=True).long(), M[i:i + B].cuda(non_blocking=True)
        if a.profile and step == 30: prof = torch.profiler.profile(); prof.__enter__()
        h, t, k = forward(x, mask)
        total = model.loss(h, m.head.weight, t, 1 + 5.0 * k.float())
        total.backward()
        torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
        lr = min(1, (step + 1) / 50) * min(1, (1 - f) / .6)
        for g in adam.param_groups: g["lr"] = a.lr * lr
        adam.step()
        adam.zero_grad(set_to_none=True)
        muon.step(lr)
        for b in m.blocks:
            if isinstance(b.ffn, model.MoE): b.ffn.balance(5e-4 * lr)
        if a.profile and step == 30:
            torch.cuda.synchronize()
            prof.__exit__(None, None, None)
            log("\n" + prof.key_averages().table(sort_by="cuda_time_total", row_limit=25, max_name_column_width=60))
        step += 1
        if step == 2:  # kernels are compiled now
            torch.cuda.synchronize()
            t1, seen = time.time(), -x.numel()
        seen += x.numel()
        if step in (1, 5, 20) or step % 100 == 0:
            log(f"step {step} loss {total.item():.3f} lr {lr:.2f} tok/s {seen / (time.time() - t1):.0f} "
                f"seen {seen / 1e6:.0f}M mem {torch.cuda.max_memory_allocated() / 1e9:.0f}GB")
    for i in range(len(STAGES)): log(f"final {step} {seen} stage {i}:", evaluate(i))
    path = f"{a.out}/model.gguf"
    gguf.write(path, reader.meta, model.to_tensors(m))
    raw = open(path, "rb").read()
    for i in range(0, len(raw), PIECE): open(f"{path}.{i // PIECE:02d}", "wb").write(raw[i:i + PIECE])
    log("saved", len(raw), "bytes")


if __name__ == "__main__":
    main()
