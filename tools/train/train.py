#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Trains the built-in model on, in a stretch of minutes. Each stretch starts from the last one's GGUF.

    train.py --init MODEL.gguf --corpus TEXT.txt.xz ... --held TEXT.txt.xz [--stories FAIRYTALEQA.jsonl.xz] \\
        [--like SHIPPED.gguf] --out DIR --seconds 480
    train.py --processes N ...        on N GPUs of one host (where there are none, N processes)
Writes DIR/model.gguf.00 ... (a Q8_0 model in pieces of 15 MiB, to carry and to `cat` together) whenever the model is
the best so far on the held-out text, and appends to DIR/log.txt.
"""
import argparse, gc, math, multiprocessing, os, queue, random, sys, time
import numpy as np
import torch
import data, gguf, model, ops, ranks, stories
from tokenizer import Tokenizer

PIECE = 15 << 20
ROWS = (4096, 16384, 32768, 65536)  # lengths
TEXT_SHARE = (.4, .24, .14, .1)     # of the rows of each length are running text alone
# (until this share of the time, share of the batches that each row length has)
PHASES = [(.3, (.52, .22, .13, .13)), (1, (.30, .23, .22, .25))]
WARM_STEPS, LAST_RATE = 60, .03
SAME_STEPS = 200             # after so many all processes take the weights of the first: sums may round apart
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
    """Worker processes that make batches while the GPU trains on others: some of each row length lie ready."""
    READY = 3  # batches of the most frequent length a worker

    def __init__(s, a, tokenizer, docs, told, known, rank, n_ranks):
        fork = multiprocessing.get_context("fork")  # the text is shared
        s.queues, s.phase = [fork.Queue() for _ in a.rows], fork.Value("i", 0)
        s.workers = [fork.Process(target=s.work, args=(a, tokenizer, docs, told, known, rank * a.workers + i,
                                                       n_ranks * a.workers), daemon=True) for i in range(a.workers)]
        for w in s.workers: w.start()

    def work(s, a, tokenizer, docs, told, known, share, shares):
        parent = os.getppid()
        maker, text = data.Maker(tokenizer, docs, told, known, a.seed * 1000 + share, share, shares), dict(zip(a.rows, TEXT_SHARE))
        while os.getppid() == parent:
            part = PHASES[s.phase.value][1][:len(a.rows)]
            lacks = [q.qsize() / p for q, p in zip(s.queues, part)]
            i = min(range(len(lacks)), key=lambda i: lacks[i] + .01 * maker.r.random())
            if lacks[i] * max(part) >= s.READY * a.workers: time.sleep(.01)
            else: s.queues[i].put(maker.batch(a.rows[i], max(1, a.batch // a.rows[i]), text.get(a.rows[i], TEXT_SHARE[0])))

    def get(s, i):
        """One of row length i."""
        while True:
            try: return s.queues[i].get(timeout=60)
            except queue.Empty:
                if not all(w.is_alive() for w in s.workers): raise RuntimeError("a worker that makes batches died")

    def ready(s): return "/".join(str(q.qsize()) for q in s.queues)

    def stop(s):
        for w in s.workers: w.terminate()


def to_device(batch, device):
    """From pinned memory: a copy from any other would wait for all that the device has still to do."""
    ids, kinds, where = batch
    put = lambda x: (torch.from_numpy(x).pin_memory() if ops.FAST else torch.from_numpy(x)).to(device, non_blocking=True).long()
    return put(ids.astype(np.int32)), put(kinds), put(where)


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
        """maker None: does nothing, another process judges"""
        s.run, s.reader, s.rounding, s.log, s.out, s.best = run, reader, rounding, log, a.out, float("inf")
        s.held = []
        if not maker: return
        maker.disturbed = 0
        s.held = [[to_device(maker.batch(T, max(1, a.batch // T), .15), run.device) for _ in range(a.held_batches)]
                  for T in a.rows]

    def look(s, when, exact_too=False):
        if not s.held: return
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


class Clock:
    """What a step is to do: how far the time has run, which row length, whether to look at the held-out text. Process
    0 decides, so that all do the same."""

    def __init__(s, a, ranks_):
        s.a, s.ranks, s.r, s.step = a, ranks_, random.Random(a.seed), 0
        s.begin = s.looked = time.time()

    def next(s):
        """-> (share of the stretch, phase, index of the row length, whether to look first)"""
        now = time.time()
        if s.step == 1: s.begin = now  # kernels are compiled now
        f = s.step / s.a.steps if s.a.steps else (now - s.begin) / s.a.seconds
        look = now - s.looked > s.a.look_every
        f, look = s.ranks.decide(f, look)
        if look: s.looked = now
        s.step += 1
        phase = next((i for i, p in enumerate(PHASES) if f < p[0]), len(PHASES) - 1)
        return f, phase, s.r.choices(range(len(s.a.rows)), PHASES[phase][1][:len(s.a.rows)])[0], look


def train(a, run, batches, judge, clock, log):
    m, optimiser = run.m, Optimiser(run.m, a.lr)
    averaged = ranks.Average(clock.ranks, m)
    step, seen, logged = 0, 0, (0, time.time())
    f, batches.phase.value, length, _ = clock.next()
    ready = to_device(batches.get(length), run.device)
    gc.collect(), gc.freeze()  # Python's collector would walk all documents again and again
    while f < 1:
        rate = min(1, (step + 1) / WARM_STEPS) * (LAST_RATE + (1 - LAST_RATE) * (1 + math.cos(math.pi * f)) / 2)
        batch, rounds = ready, judge.rounding and f >= a.round_from

        def one():
            if rounds: judge.rounding.__enter__()
            total = run.loss(batch)
            total.backward()
            if rounds: judge.rounding.__exit__()
            averaged.gradients()
            optimiser.step(rate)
            return total

        if a.profile and step == 30: log(profiled(one))
        else: total = one()
        step += 1
        seen += batch[0].numel()
        if step in (1, 5, 20) or step % a.log_every == 0:
            loss, now = total.item(), time.time()
            speed, logged = (seen - logged[0]) / max(now - logged[1], 1e-9), (seen, now)  # since the last line
            log(f"step {step} loss {loss:.3f} rate {rate:.3f} rows {tuple(batch[0].shape)}"
                f"{' rounded' if rounds else ''} tok/s {speed:.0f} a process, {speed * clock.ranks.n:.0f} in all, seen "
                f"{seen * clock.ranks.n / 1e6:.1f}M ready {batches.ready()}")
        if step % SAME_STEPS == 0: averaged.weights()
        f, batches.phase.value, length, look = clock.next()
        if look: judge.look(f"at {f:.2f}")  # the others wait for its gradients meanwhile
        if f < 1: ready = to_device(batches.get(length), run.device)
    log(f"{step} steps, {seen * clock.ranks.n / 1e6:.0f} M tokens, "
        f"{seen * clock.ranks.n / max(time.time() - clock.begin, 1e-9):.0f} tok/s by the clock, looks included")
    judge.look("last", exact_too=True)


def options():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("--init", required=True, help="GGUF: shipped as Q5_K_M, or Q8_0")
    ap.add_argument("--corpus", nargs="+", required=True)
    ap.add_argument("--held", nargs="+", required=True, help="text that is only measured on")
    ap.add_argument("--stories", help="FairytaleQA, for training")
    ap.add_argument("--like", help="a quantised GGUF of the same shape: the last part of the stretch rounds weights so")
    ap.add_argument("--round-from", type=float, default=.4, help="share of the time after which it does")
    ap.add_argument("--out", required=True)
    ap.add_argument("--seconds", type=float, default=480, help="from the first step on")
    ap.add_argument("--steps", type=int, default=0, help="so many steps, whatever the time")
    ap.add_argument("--batch", type=int, default=65536, help="tokens a step and process")
    ap.add_argument("--rows", type=int, nargs="+", default=list(ROWS), help="row lengths")
    ap.add_argument("--held-batches", type=int, default=2, help="of each row length")
    ap.add_argument("--look-every", type=float, default=80, help="seconds between looks at the held-out text")
    ap.add_argument("--log-every", type=int, default=100, help="steps")
    ap.add_argument("--processes", type=int, default=1, help="that train together, a GPU each; torchrun starts its own")
    ap.add_argument("--workers", type=int, default=0, help="a process; 0: what cores there are, at most 12")
    ap.add_argument("--lr", type=float, default=8e-4)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--profile", action="store_true", help="print the kernels that cost most in one step")
    return ap.parse_args()


def logger(a, rank, start=time.time()):
    """Prints and appends to log.txt; a process that is not the first only prints what fails."""
    if rank: return lambda *x: None
    logfile = open(f"{a.out}/log.txt", "a")

    def log(*x):
        line = f"{time.time() - start:7.1f}s " + " ".join(map(str, x))
        print(line, flush=True)
        print(line, file=logfile, flush=True)

    return log


def main():
    a, all_of_us = options(), ranks.Ranks()
    if a.processes > 1 and all_of_us.n == 1: sys.exit(ranks.launch(a.processes))
    a.workers = a.workers or max(1, min(12, (os.cpu_count() or 2) // all_of_us.n - 2))
    os.makedirs(a.out, exist_ok=True)
    if ops.FAST: tune_little()
    log = logger(a, all_of_us.rank)
    log("train", " ".join(sys.argv[1:]))
    random.seed(a.seed), np.random.seed(a.seed), torch.manual_seed(a.seed)
    reader = gguf.Reader(a.init)
    tokenizer = Tokenizer(reader)
    docs, held = data.read_documents(a.corpus), data.read_documents(a.held)
    log(f"to train on: {len(docs)} documents, {sum(map(len, docs)) / 1e6:.1f} M characters; held out: {len(held)}")
    told, known = stories.read(a.stories) if a.stories else [], data.language(docs)
    batches = Batches(a, tokenizer, docs, [x for i, x in enumerate(told) if i % HELD_STORIES], known, all_of_us.rank, all_of_us.n)
    device = all_of_us.begin()
    m = model.from_gguf(reader).to(device)
    log(f"parameters {sum(p.numel() for p in m.parameters()) / 1e6:.1f} M on {device}, {all_of_us.n} processes")
    run = Run(m, device)
    rounding = model.Rounding(m, gguf.Reader(a.like)) if a.like else None
    maker = None if all_of_us.rank else data.Maker(tokenizer, held, told[::HELD_STORIES], known, a.seed)
    judge = Judge(a, run, maker, reader, rounding, log)
    judge.look("first", exact_too=True)
    train(a, run, batches, judge, Clock(a, all_of_us), log)
    batches.stop()
    if ops.FAST: log(f"memory {torch.cuda.max_memory_allocated() / 1e9:.0f} GB")
    all_of_us.end()


if __name__ == "__main__":
    main()
