#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measures what a model can do through the `lectern` program: the table of models/README.md, for any GGUF.

    measure.py MODEL.gguf --held TEXT.txt[.xz] --out NAME [--quick] [--jobs N] [--lectern PROGRAM]
    measure.py --plot PLOT.svg NAME.json [OTHER.json ...]
Writes NAME.jsonl (one line an answer, as they come: run again to go on after an interruption), then NAME.json (the
figures, each with its number of samples and 95 % interval) and NAME.svg. Python's own library suffices.
"""
import argparse, concurrent.futures, json, math, os, shutil, subprocess, sys, tempfile, threading
import plain, plot, sets

# length in tokens -> (documents, in --quick; questions of each kind a document)
READINGS = {1000: (24, 8, {"fact": 4, "quote": 5, "absent": 3}), 8000: (8, 2, {"fact": 4, "quote": 5, "absent": 3}),
            32000: (3, 1, {"fact": 6, "quote": 6, "absent": 3}), 64000: (2, 1, {"fact": 8, "quote": 0, "absent": 0})}
CODE = (10, 3, 6, 5)  # documents, in --quick; files, questions a document
PLAIN = {1000: (16, 5, 3), 6000: (8, 3, 4)}  # length -> documents, in --quick; questions of each kind
FOLLOW_UPS = 3        # a document of the two shorter lengths: asked again after another question


class Failed(Exception): pass


class Program:
    """lectern with the options of every call."""

    def __init__(s, a):
        s.program = a.lectern
        s.options = ["--model", os.path.abspath(a.model), "--device", a.device, "--temp", "0", "--quiet",
                     "--max-tokens", str(a.most_tokens)]
        if a.threads: s.options += ["--threads", str(a.threads)]

    def __call__(s, *arguments, cwd=None):
        done = subprocess.run([s.program, *arguments, *s.options], cwd=cwd, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)
        if done.returncode: raise Failed(f"{s.program} {arguments[0]}: {done.stderr.strip()}")
        return json.loads(done.stdout.strip().split("\n")[-1])


class Results:
    """Lines on disk; what is there is not asked again."""

    def __init__(s, path, head):
        s.lines, s.lock, s.path = [], threading.Lock(), path
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f: s.lines = [json.loads(x) for x in f if x.endswith("\n")]
        if s.lines and s.lines[0] != head: raise Failed(f"{path} holds another model's or set's answers: {s.lines[0]}")
        with open(path, "w", encoding="utf-8") as f:  # a line cut off by an interruption goes
            for x in s.lines or [head]: f.write(json.dumps(x) + "\n")
        s.lines = s.lines[1:]
        s.done = {(x["document"], x["ask"], x["turn"]) for x in s.lines}

    def add(s, line):
        with s.lock, open(s.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(line) + "\n")
            s.lines.append(line)
            s.done.add((line["document"], line["ask"], line["turn"]))


def ask_document(program, d, results):
    """Every question on its own, then some of them once more as the second of a chat."""
    again = [i for i, a in enumerate(d.asks) if a["kind"] in ("fact", "quote")] if 0 < d.length <= 8000 else []
    again = again[::max(1, len(again) // FOLLOW_UPS)][:FOLLOW_UPS]
    wanted = [(i, 1) for i in range(len(d.asks))] + [(i, 2) for i in again]
    wanted = [w for w in wanted if (d.name, *w) not in results.done]
    if not wanted: return
    with tempfile.TemporaryDirectory(prefix="measure-") as folder:
        for path, text in d.files.items():
            os.makedirs(os.path.dirname(os.path.join(folder, "files", path)), exist_ok=True)
            with open(os.path.join(folder, "files", path), "w", encoding="utf-8") as f: f.write(text)
        what = list(d.files) if len(d.files) == 1 else ["."]

        def ask(question, store, *more):
            return program("ask", *what, "-q", question, "--json", "--data-dir", os.path.join(folder, store), *more,
                           cwd=os.path.join(folder, "files"))

        for i, turn in wanted:
            if turn == 2:
                shutil.rmtree(os.path.join(folder, "chat"), ignore_errors=True)
                if os.path.exists(os.path.join(folder, "store")):  # the document has been read there
                    shutil.copytree(os.path.join(folder, "store"), os.path.join(folder, "chat"))
                first = d.asks[(i + 1) % len(d.asks)]["question"]
                ask(first, "chat", "--continue")
            got = ask(d.asks[i]["question"], "chat" if turn == 2 else "store", *(["--continue"] if turn == 2 else []))
            judge = plain if d.asks[i]["kind"] in plain.HERE + plain.NOT_HERE else sets
            results.add({"document": d.name, "length": d.length, "ask": i, "turn": turn, "kind": d.asks[i]["kind"],
                         "question": d.asks[i]["question"], "answer": got["answer"], "tokens": got["answer_tokens"],
                         "prompt": got["prompt_tokens"], "right": judge.is_right(d.asks[i], got["answer"], d.files),
                         "denied": sets.is_denial(got["answer"]),
                         "loop": got.get("ended") == "repeated" or sets.is_loop(got["answer"])})
            tell(f"{len(results.lines)} answers")


def tell(text):
    if sys.stderr.isatty(): print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


# ---------------------------------------------------------------------------------------------------------- figures
def share(values):
    """Wilson's 95 % interval of a share."""
    n, k = len(values), sum(values)
    if not n: return None
    z, p = 1.96, k / n
    middle, half = p + z * z / 2 / n, z * math.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    return {"value": round(p, 4), "n": n, "low": round(max(0, (middle - half) / (1 + z * z / n)), 4),
            "high": round(min(1, (middle + half) / (1 + z * z / n)), 4)}


def short(length): return f"{length // 1000}k" if length >= 1000 else str(length)


def figures(lines, lengths, most_tokens):
    first = [x for x in lines if x["turn"] == 1]
    out = {}
    for kind in ("fact", "quote"):
        for length in lengths:
            some = [x["right"] for x in first if (x["kind"], x["length"]) == (kind, length)]
            if some: out[f"{kind} {short(length)}"] = share(some)
    out["absent said to be absent"] = share([x["right"] for x in first if x["kind"] == "absent"])
    out["present not denied"] = share([not x["denied"] for x in first if x["kind"] in ("fact", "quote")])
    out["function found"] = share([x["right"] for x in first if x["kind"] == "code"])
    for name, kinds in (("plain question, by rule", ["plain"]), ("who is: quoted", ["person"]),
                        ("plain question, by hand", ["novel"]), ("not in the novel: denied", plain.NOT_HERE)):
        out[name] = share([x["right"] for x in first if x["kind"] in kinds])
    out["in the novel: not denied"] = share([not x["denied"] for x in first if x["kind"] in plain.HERE])
    out["loops over novels"] = share([x["loop"] for x in first if x["kind"] in plain.HERE + plain.NOT_HERE])
    second = {(x["document"], x["ask"]): x["right"] for x in lines if x["turn"] == 2}
    out["asked first"] = share([x["right"] for x in first if (x["document"], x["ask"]) in second])
    out["asked as a follow-up"] = share(list(second.values()))
    out["greedy loops"] = share([x["loop"] for x in lines])
    out["ran to the limit"] = share([x["tokens"] >= most_tokens for x in lines])
    return {k: v for k, v in out.items() if v}


def loss_per_byte(program, docs, seed, characters):
    """Nats a byte over pieces of the held-out documents, by `lectern perplexity`."""
    r = sets.random.Random(f"{seed} loss")
    pieces = [sets.passage.cut(r, r.choice(docs), 4000) for _ in range(characters // 4000)]
    text = "\n\n".join(pieces)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as f:
        f.write(text)
        f.flush()
        got = program("perplexity", f.name, "--json", "--chunk", "1024")
    tokens_per_byte = got["text_tokens"] / got["text_bytes"]
    value = math.log(got["perplexity"]) * tokens_per_byte
    half = 1.96 * got["perplexity_error"] / got["perplexity"] * tokens_per_byte
    return {"value": round(value, 4), "n": got["scored"], "low": round(value - half, 4), "high": round(value + half, 4)}


def documents(a, docs):
    number = lambda many, few: range(min(few if a.quick else many, a.documents))
    for length in a.lengths:
        many, few, n_asks = READINGS[min((n for n in READINGS if n >= length), default=max(READINGS))]
        for i in number(many, few): yield sets.reading(docs, a.seed, length, i, n_asks)
    for length in a.plain:
        many, few, n_asks = PLAIN[min((n for n in PLAIN if n >= length), default=max(PLAIN))]
        for i in number(many, few): yield plain.made(docs, a.seed, length, i, n_asks)
    yield from plain.novels(docs)
    many, few, n_files, n_asks = CODE
    for i in number(many, few): yield sets.codebase(docs, a.seed, i, min(n_files, a.files), n_asks)


def measure(a):
    docs = sets.read_documents(a.held)
    program = Program(a)
    head = {"model": os.path.basename(a.model), "bytes": os.path.getsize(a.model), "seed": a.seed}
    results = Results(a.out + ".jsonl", head)
    with concurrent.futures.ThreadPoolExecutor(a.jobs) as pool:
        waiting = [pool.submit(ask_document, program, d, results) for d in documents(a, docs)]
        try:
            for w in concurrent.futures.as_completed(waiting): w.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    tell("")
    table = {"loss, nats a byte": loss_per_byte(program, docs, a.seed, min(80000 if a.quick else 800000, a.documents * 8000))}
    table.update(figures(results.lines, a.lengths, a.most_tokens))
    prompts = {}
    for x in results.lines: prompts.setdefault(short(x["length"]) if x["length"] else "code", []).append(x["prompt"])
    whole = {**head, "quick": a.quick, "answers": len(results.lines), "figures": table,
             "prompt tokens": {k: round(sum(v) / len(v)) for k, v in prompts.items()}}
    with open(a.out + ".json", "w", encoding="utf-8") as f: json.dump(whole, f, indent=1)
    plot.write(a.out + ".svg", [whole])
    for name, v in table.items(): print(f"{name:26} {v['value']:.3f}  ({v['low']:.3f} to {v['high']:.3f}, {v['n']} samples)")


def main():
    ap = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    ap.add_argument("model", nargs="+", help="GGUF; with --plot: result files")
    ap.add_argument("--held", help="text that the model was not trained on: UTF-8, plain or .xz, <|doc|> between documents")
    ap.add_argument("--out", help="where results go, without suffix")
    ap.add_argument("--quick", action="store_true", help="about a quarter of the questions")
    ap.add_argument("--documents", type=int, default=1000, help="at most so many of each kind")
    ap.add_argument("--lengths", type=int, nargs="+", default=list(READINGS), help="of documents, in tokens")
    ap.add_argument("--plain", type=int, nargs="*", default=list(PLAIN), help="lengths of novels, in tokens")
    ap.add_argument("--files", type=int, default=CODE[2], help="at most so many in a codebase")
    ap.add_argument("--most-tokens", type=int, default=200, help="of an answer")
    ap.add_argument("--jobs", type=int, default=1, help="documents at the same time")
    ap.add_argument("--threads", type=int, default=0, help="threads of each; 0: the cores shared among --jobs")
    ap.add_argument("--device", default="cpu")
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--lectern", default="lectern", help="the program")
    ap.add_argument("--plot", metavar="SVG", help="only draw results that are there")
    a = ap.parse_args()
    try:
        if a.plot: return plot.write(a.plot, [json.load(open(p, encoding="utf-8")) for p in a.model])
        if len(a.model) != 1 or not a.held or not a.out: ap.error("one model, --held and --out are needed")
        a.model = a.model[0]
        if not a.threads and a.jobs > 1: a.threads = max(1, (os.cpu_count() or 1) // a.jobs)
        measure(a)
    except (Failed, ValueError, OSError) as e: sys.exit(f"measure: {e}")


if __name__ == "__main__": main()
