# SPDX-License-Identifier: MIT
"""What is asked: documents made from held-out text with questions whose answers a program can check.

A set is a pure function of the text, the seed and its own name, so any machine asks the same. Names, things and words
of planted facts are others than the training's (tools/train/passage.py), and so are the texts.
"""
import lzma, os, random, re, sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
import passage  # noqa: E402

CHARACTERS = 3.5  # a token, about: what "1k tokens" means is told with the results
ABSENT = re.compile(r"\b(?:does|do|did|is|are|was)(?: not|n't) (?:be )?(?:mention|contain|say|state|appear|include|provide)"
                    r"|\bno mention\b|\bnot (?:mentioned|found|stated|in the)\b", re.I)


def read_documents(path):
    """A text file, plain or .xz; a line <|doc|> before each document where there are several."""
    opened = lzma.open if path.endswith(".xz") else open
    with opened(path, "rt", encoding="utf-8", errors="replace") as f: docs = [d.strip() for d in f.read().split("<|doc|>")]
    return [d for d in docs if len(d) > 400]


def flat(text): return " ".join(text.split()).strip(" \"'“”")


def is_denial(answer): return bool(ABSENT.search(answer))


class Document:
    """files: {path: text}; asks: [{kind, question, ...what it takes to judge}]"""

    def __init__(s, name, length, files, asks): s.name, s.length, s.files, s.asks = name, length, files, asks


def reading(docs, seed, length, number, n_asks):
    """A passage of about `length` tokens with planted facts. n_asks: {"fact": n, "quote": n, "absent": n}"""
    r = random.Random(f"{seed} reading {length} {number}")
    size = int(length * CHARACTERS)
    prose = [d for d in docs if len(d) > size * 1.2 and not passage.is_code(d)]
    if not prose: raise ValueError(f"No held-out document is long enough for {length} tokens.")
    while True:
        p = passage.Passage(r, passage.cut(r, r.choice(prose), size), passage.HELD_NAMES, passage.HELD_THINGS,
                            passage.HELD_WORDS)
        while len(p.facts) < n_asks["fact"]: p.plant(1)
        if p.index() and len(p.good) >= 4: break
    asks, seen = [], set()
    for who, thing, value in p.facts:
        q = r.choice([f"What is the {thing} of {who}?", f"What is {who}'s {thing}?"])
        asks.append({"kind": "fact", "question": q, "value": value})
    planted = {f"{who} {thing}" for who, thing, _ in p.facts}
    for _ in range(200):
        if sum(a["kind"] == "quote" for a in asks) >= n_asks["quote"]: break
        found = p.pick_quote()
        if not found or found[2] in seen or any(who in found[2] for who, _, _ in p.facts): continue
        seen.add(found[2])
        asks.append({"kind": "quote", "question": found[0], "sentence": flat(found[2])})
    other = r.choice(docs)
    words = sorted({w for w in re.findall(r"\b[a-z]{6,15}\b", other) if w not in p.text.lower() and len(set(w)) > 3})
    for i in range(n_asks["absent"]):
        who, thing = r.choice(passage.HELD_NAMES), r.choice(passage.HELD_THINGS)
        if i % 2 and f"{who} {thing}" not in planted: q = f"What is the {thing} of {who}?"
        elif words: q = f"What does it say about {r.choice(words)}?"
        else: continue
        asks.append({"kind": "absent", "question": q})
    return Document(f"reading {length} {number}", length, {"document.txt": p.text}, asks)


def codebase(docs, seed, number, n_files, n_asks):
    """A folder of source files; functions are asked for by their descriptions."""
    r = random.Random(f"{seed} code {number}")
    code = [d for d in docs if passage.is_code(d) and 600 < len(d) < 9000 and passage.functions(d)]
    if len(code) < n_files: raise ValueError("The held-out text has too little code.")
    files, asks = {}, []
    for d in r.sample(code, n_files):
        head, _, body = d.partition("\n")
        path = head[6:].strip()
        files[path] = body.strip() + "\n"
        for name, line, about in passage.functions(body): asks.append((path, name, line, about))
    everything = "\n".join(files.values())
    asks = [a for a in asks if everything.count(a[2]) == 1 and everything.count(a[3]) == 1]
    r.shuffle(asks)
    return Document(f"code {number}", 0, files, [
        {"kind": "code", "question": f"Which function is described like this: {about}?", "path": path, "line": line,
         "number": files[path][:files[path].index(line)].count("\n") + 1}
        for path, _, line, about in asks[:n_asks]])


def places(answer, files):
    """Where the lines that an answer quotes are: {(path, line number)}; of files the answer names, if it names any."""
    named = [p for p in files if p in answer or re.search(rf"(?<![\w/]){re.escape(os.path.basename(p))}", answer)]
    quotes = re.findall(r"[\"`“]([^\n\"`”]{6,})", answer) + answer.split("\n")
    found = set()
    for path in named or files:
        for i, line in enumerate(files[path].split("\n"), 1):
            if len(line.strip()) >= 6 and any(flat(line) == flat(q) for q in quotes): found.add((path, i))
        for i in re.findall(rf"{re.escape(os.path.basename(path))}:(\d+)", answer): found.add((path, int(i)))
    return found


def is_right(ask, answer, files):
    if ask["kind"] == "fact": return bool(re.search(rf"\b{re.escape(ask['value'])}\b", answer)) and not is_denial(answer)
    if ask["kind"] == "quote": return flat(answer) == ask["sentence"] or f'"{ask["sentence"]}"' in " ".join(answer.split())
    if ask["kind"] == "absent": return is_denial(answer)
    return places(answer, files) == {(ask["path"], ask["number"])}


def is_loop(answer):
    """Whether an answer ends in the same 20 to 400 characters three times, or the same few twelve times."""
    n = len(answer)
    return any(answer.endswith(answer[n - p:] * (3 if p >= 20 else 12)) for p in range(1, min(400, n // 3) + 1)
               if answer[n - p:].strip())
