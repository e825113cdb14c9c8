#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains the built-in model on, in a stretch of minutes. Each stretch starts from the last one's GGUF.

    train.py --init MODEL.gguf --corpus TEXT.txt.xz ... --held TEXT.txt.xz [--stories FAIRYTALEQA.jsonl.xz] \\
        [--like SHIPPED.gguf] --out DIR --seconds 480
Writes DIR/model.gguf.00 ... (a Q8_0 model in pieces of 15 MiB, to carry and to `cat` together) whenever the model is
the best so far on the held-out text, and appends to DIR/log.txt.
"""
import argparse, math, multiprocessing, os, queue, random, sys, time
import numpy as np
import torch
import data, gguf, model, ops, stories
from tokenizer import Tokenizer

PIECE = 15 << 20
ROWS = (4096, 16384, 32768, 65536)  # lengths
TEXT_SHARE = .22             # of the rows are running text alone
# (until this share of the time, share of the batches that each row length has)
PHASES = [(.4, (.60, .22, .10, .08)), (1, (.34, .26, .20, .20))]
WARM_STEPS, LAST_RATE = 60, .03
HELD_STORIES = 12            # one of so many is only measured on


def tune_little():
    """Two launch configurations a Triton kernel: trying all of flash-linear-attention's outlasts a short stretch."""
    from triton.runtime.autotuner import Autotuner
    full = Autotuner.__init__

    def lean(self, fn, arg_names, configs, *args, **kw):
        usual = [c for c in configs if c.num_warps == 4 and c.num_stages == 2] or \
            [c for c in configs if c.num_warps == 4] or list(configs)
        small = min(configs, key=lambda c: (sum(v for v in c.kwargs.values() if isinstance(v, int)), c.num_stages))
        full(self, fn, arg_names, usual[:1] + ([small] if small is not usual[0] else []), *args, **kw)

    Autotuner.__init__ = lean
    torch._dynamo.config.recompile_limit = 64


class Muon:
    """Momentum, orthogonalised by Newton-Schulz; equal shapes are done in one batch."""

    def __init__(s, params, lr, momentum=.95, decay=.1):
        s.lr, s.momentum, s.decay, s.groups = lr, momentum, decay, {}
        for p in params: s.groups.setdefault(p.shape[-2:], []).append(p)
        s.buffers = {p: torch.zeros_like(p) for p in params}

    @staticmethod
    def orthogonal(g):
        x = g.to(ops.KIND)
        x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
        tall = x.shape[-2] > x.shape[-1]
        if tall: x = x.transpose(-1, -2)
        for _ in range(5):
            a = x @ x.transpose(-1, -2)
            x = torch.baddbmm(x, torch.baddbmm(a, a, a, beta=-4.7750, alpha=2.0315), x, beta=3.4445)
        return x.transpose(-1, -2) if tall else x

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


class Optimiser:
    """Muon for the matrices, AdamW for the rest."""

    def __init__(s, m, lr):
        mats = [p for n, p in m.blocks.named_parameters()
                if p.ndim >= 2 and not any(x in n for x in ("conv", "router", ".beta"))]
        known = {id(p) for p in mats}
        rest = [p for p in m.parameters() if id(p) not in known]
        s.m, s.lr, s.muon = m, lr, Muon(mats, lr)
        s.adam = torch.optim.AdamW([{"params": [p for p in rest if p.ndim >= 2], "weight_decay": .01},
                                    {"params": [p for p in rest if p.ndim < 2], "weight_decay": 0}],
                                   lr=lr, betas=(.9, .95), **({"fused": True} if ops.FAST else {}))

    def step(s, factor):
        torch.nn.utils.clip_grad_norm_(s.m.parameters(), 1.0)
        for g in s.adam.param_groups: g["lr"] = s.lr * factor
        s.adam.step()
        s.adam.zero_grad(set_to_none=True)
        s.muon.step(factor)
        for b in s.m.blocks:
            if isinstance(b.ffn, model.MoE): b.ffn.balance(5e-4 * factor)


# ---------------------------------------------------------------------------------------------------------- batches
class Batches:
    """Worker processes that make batches while the GPU trains on others; what length, by the phase."""

    def __init__(s, a, tokenizer, docs, told, known):
        fork = multiprocessing.get_context("fork")  # the text is shared
        s.queue, s.phase = fork.Queue(2 * a.workers), fork.Value("i", 0)
        s.workers = [fork.Process(target=s.work, args=(a, tokenizer, docs, told, known, i), daemon=True)
                     for i in range(a.workers)]
        for w in s.workers: w.start()

    def work(s, a, tokenizer, docs, told, known, i):
        maker = data.Maker(tokenizer, docs, told, known, a.seed * 1000 + i, i, a.workers)
        while True:
            T = a.rows[maker.r.choices(range(len(a.rows)), PHASES[s.phase.value][1][:len(a.rows)])[0]]
            s.queue.put(maker.batch(T, max(1, a.batch // T), TEXT_SHARE))

    def get(s):
        while True:
            try: return s.queue.get(timeout=60)
            except queue.Empty:
                if not all(w.is_alive() for w in s.workers): raise RuntimeError("a worker that makes batches died")

    def stop(s):
        for w in s.workers: w.terminate()


def to_device(batch, device):
    ids, kinds, where = batch
    put = lambda x: torch.from_numpy(x.astype(np.int64)).to(device, non_blocking=True)
    return put(ids), put(kinds), put(where)


class Run:
    def __init__(s, m, device):
        s.m, s.device = m, device
        s.weight = torch.from_numpy(data.WEIGHT).to(device)

    def hidden(s, batch):
        """-> hidden rows, targets and kinds of the places that are learned."""
        ids, kinds, where = batch
        with ops.mixed(): h = s.m.hidden(ids[:, :-1])
        return h.index_select(0, where), ids[:, 1:].flatten()[where], kinds[:, 1:].flatten()[where]

    def loss(s, batch):
        h, t, k = s.hidden(batch)
        return model.loss(h, s.m.head.weight, t, s.weight[k])

    def measure(s, batches):
        """Sums over batches: {kind: [tokens, loss]} and {kind: [answers, answers right to the last token]}; teacher
        forcing and greedy answering agree on what is right to the last token."""
        losses, answers = {}, {}
        for batch in batches:
            with ops.unlearned(): h, t, k = s.hidden(batch)
            h = h.detach()
            lg = [torch.nn.functional.linear(x, s.m.head.weight.detach().to(h.dtype)).float() for x in h.split(16384)]
            c = torch.cat([torch.nn.functional.cross_entropy(x, y, reduction="none") for x, y in zip(lg, t.split(16384))])
            right = torch.cat([x.argmax(-1) for x in lg]) == t
            c, right, k, where = (x.cpu().numpy() for x in (c, right, k % data.BEGIN, batch[2]))
            for kind in np.unique(k).tolist():
                one = losses.setdefault(kind, [0, 0.0])
                one[0] += int((k == kind).sum())
                one[1] += float(c[k == kind].sum())
            starts = np.flatnonzero(np.diff(where, prepend=-2) != 1)
            for right1, k1 in zip(np.split(right, starts[1:]), np.split(k, starts[1:])):
                if k1[0] < data.ANSWERS: continue
                one = answers.setdefault(int(k1[0]), [0, 0])
                one[0] += 1
                one[1] += bool(right1[k1 == k1[0]].all())
        return losses, answers


def report(losses, answers):
    """-> (one line, score: less is better)."""
    per = lambda kinds: sum(losses[k][1] for k in kinds) / max(1, sum(losses[k][0] for k in kinds))
    text, answer = per([k for k in losses if k < data.ANSWERS]), per([k for k in losses if k >= data.ANSWERS])
    name = {i: k for k, i in data.ANSWER_KINDS.items()}
    exact = " ".join(f"{name[k]} {v[1]}/{v[0]}" for k, v in sorted(answers.items()))
    return f"text {text:.3f} answers {answer:.4f} exact: {exact}", text + 4 * answer


class Judge:
    """Measures on held-out documents, and keeps the model that did best."""

    def __init__(s, a, run, maker, reader, rounding, log):
        s.run, s.reader, s.rounding, s.log, s.out, s.best = run, reader, rounding, log, a.out, float("inf")
        maker.disturbed = 0
        s.held = [[to_device(maker.batch(T, max(1, a.batch // T), .15), run.device) for _ in range(a.held_batches)]
                  for T in a.rows]

    def look(s, when, exact_too=False):
        lines, score = [], 0
        for mode in ([False] if exact_too or not s.rounding else []) + ([True] if s.rounding else []):
            if mode: s.rounding.__enter__()
            lines, score = zip(*[report(*s.run.measure(b)) for b in s.held])
            if mode: s.rounding.__exit__()
            for b, line in zip(s.held, lines):
                s.log(f"held {when} rows of {b[0][0].shape[1] - 1}{', rounded' if mode else ''}: {line}")
        if sum(score) < s.best:
            s.best = sum(score)
            if when != "first": s.save()

    def save(s):
        path = f"{s.out}/model.gguf"
        raw = gguf.dump_model(s.reader.meta, model.to_tensors(s.run.m))
        for i in range(0, len(raw), PIECE):
            with open(f"{path}.{i // PIECE:02d}", "wb") as f: f.write(raw[i:i + PIECE])
        s.log(f"kept: {len(raw)} bytes, score {s.best:.4f}")


# ------------------------------------------------------------------------------------------------------------- loop
def profiled(f):
    with torch.profiler.profile() as p:
        f()
        torch.cuda.synchronize()
    return "\n" + p.key_averages().table(sort_by="cuda_time_total", row_limit=25, max_name_column_width=60)


def train(a, run, batches, judge, log):
    m, optimiser = run.m, Optimiser(run.m, a.lr)
    step = seen = phase = 0
    begin = looked = time.time()
    while True:
        f = step / a.steps if a.steps else (time.time() - begin) / a.seconds
        if f >= 1: break
        while f >= PHASES[phase][0]: phase += 1
        batches.phase.value = phase
        rate = min(1, (step + 1) / WARM_STEPS) * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * f)) / 2)
        batch = to_device(batches.get(), run.device)
        rounds = judge.rounding and f >= a.round_from

        def one():
            if rounds: judge.rounding.__enter__()
            total = run.loss(batch)
            total.backward()
            if rounds: judge.rounding.__exit__()
            optimiser.step(rate)
            return total

        if a.profile and step == 30: log(profiled(one))
        else: total = one()
        step += 1
        seen += batch[0].numel()
        if step == 1: begin, seen = time.time(), 0  # kernels are compiled now
        if step in (1, 5, 20) or step % a.log_every == 0:
            now = time.time()
            log(f"step {step} loss {total.item():.3f} rate {rate:.3f} rows {tuple(batch[0].shape)}"
                f"{' rounded' if rounds else ''} tok/s {seen / max(now - begin, 1e-9):.0f} seen {seen / 1e6:.1f}M "
                f"waiting {batches.queue.qsize()}")
        if time.time() - looked > a.look_every:
            judge.look(f"at {f:.2f}")
            looked = time.time()
    judge.look("last", exact_too=True)


def options():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--init", required=True, help="GGUF of F32, F16 or Q8_0 tensors")
    ap.add_argument("--corpus", nargs="+", required=True)
    ap.add_argument("--held", nargs="+", required=True, help="text that is only measured on")
    ap.add_argument("--stories", help="FairytaleQA, for training")
    ap.add_argument("--like", help="a quantised GGUF of the same shape: the last part of the stretch rounds weights so")
    ap.add_argument("--round-from", type=float, default=.4, help="share of the time after which it does")
    ap.add_argument("--out", required=True)
    ap.add_argument("--seconds", type=float, default=480, help="from the first step on")
    ap.add_argument("--steps", type=int, default=0, help="so many steps, whatever the time")
    ap.add_argument("--batch", type=int, default=65536, help="tokens a step")
    ap.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="row lengths")
    ap.add_argument("--held-batches", type=int, default=2, help="of each row length")
    ap.add_argument("--look-every", type=float, default=80, help="seconds between looks at the held-out text")
    ap.add_argument("--log-every", type=int, default=100, help="steps")
    ap.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 2))
    ap.add_argument("--lr", type=float, default=8e-4)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--profile", action="store_true", help="print the kernels that cost most in one step")
    return ap.parse_args()


def main():
    a = options()
    os.makedirs(a.out, exist_ok=True)
    if ops.FAST: tune_little()
    start, logfile = time.time(), open(f"{a.out}/log.txt", "a")

    def log(*x):
        line = f"{time.time() - start:7.1f}s " + " ".join(map(str, x))
        print(line, flush=True)
        print(line, file=logfile, flush=True)

    log("train", " ".join(sys.argv[1:]))
    random.seed(a.seed), np.random.seed(a.seed), torch.manual_seed(a.seed)
    reader = gguf.Reader(a.init)
    tokenizer = Tokenizer(reader)
    docs, held = data.read_documents(a.corpus), data.read_documents(a.held)
    log(f"to train on: {len(docs)} documents, {sum(map(len, docs)) / 1e6:.1f} M characters; held out: {len(held)}")
    told, known = stories.read(a.stories) if a.stories else [], data.language(docs)
    batches = Batches(a, tokenizer, docs, [x for i, x in enumerate(told) if i % HELD_STORIES], known)
    device = torch.device("cuda" if ops.FAST else "cpu")
    m = model.from_gguf(reader).to(device)
    log(f"parameters {sum(p.numel() for p in m.parameters()) / 1e6:.1f} M on {device}")
    run = Run(m, device)
    rounding = model.Rounding(m, gguf.Reader(a.like)) if a.like else None
    judge = Judge(a, run, data.Maker(tokenizer, held, told[::HELD_STORIES], known, a.seed), reader, rounding, log)
    judge.look("first", exact_too=True)
    train(a, run, batches, judge, log)
    batches.stop()
    if ops.FAST: log(f"memory {torch.cuda.max_memory_allocated() / 1e9:.0f} GB")


if __name__ == "__main__":
    main()
