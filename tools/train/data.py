# SPDX-License-Identifier: MIT
"""Text and made-up conversations about it -> rows of token ids with a mask on the answers.

A conversation is laid out exactly as lectern does: system turn, user turn = document(s), blank line, question; later
questions are new turns. Several documents are each named ("File: PATH", blank line, text). Answers can be checked by a
program: a planted fact, a sentence quoted by its rare words, the sentence that follows, the beginning, the end, which
file says it, or that the document does not mention a thing.
"""
import json, lzma, math, random, re
import numpy as np

SYSTEM = "You are a reading assistant. Answer from the document and quote it."
NAMES = """Ada Boris Clara Dmitri Elena Farid Greta Hugo Ingrid Jonas Kavya Lukas Mira Nadia Oskar Priya Quentin Rosa
Stefan Tamar Ursula Viktor Wanda Xavier Yusuf Zofia Amara Bruno Celia Davor Esther Felix Gita Hana Ivan Jun Kofi Leila
Mateo Noor Olga Pavel Rana Sofia Tomas Uma Vera Willem Yara Zeno""".split()
THINGS = """secret number|favourite colour|locker code|lucky word|home town|ship name|train number|password|room number|
horse's name|birthday month|account number|garden gate code|meeting place|library card number|parcel number|nickname|
seat number|bicycle colour|key phrase|hotel|phone extension""".replace("\n", "").split("|")
WORDS = """amber cobalt crimson violet copper falcon harbor meadow orchid pepper quartz raven saffron timber walnut willow
zephyr lantern marble thistle Lisbon Oslo Cairo Quito Perth Turin Kyoto Dakar Havana Riga juniper basalt heron cedar
indigo topaz Bergen Malaga Tunis Leeds""".split()
SENTENCE = re.compile(r"(?<=[.!?;])[\"”’')]*\s+|\n\s*\n")


def read_documents(paths):
    out = []
    for p in paths:
        with lzma.open(p, "rt", encoding="utf-8", errors="ignore") as f:
            out += [d.strip() for d in f.read().split("<|doc|>")]
    return [d for d in out if len(d) > 400]


def planted_value(r, thing):
    numeric = any(w in thing for w in ("number", "code", "extension"))
    return str(r.randint(100, 99999)) if numeric else r.choice(WORDS)


class Passage:
    """A stretch of a document with what can be asked about it."""

    def __init__(s, r, text):
        s.r = r
        s.text = " ".join(text.split()) if r.random() < .4 else text
        s.facts = []

    def plant(s, most):
        parts = s.text.split(". ")
        for _ in range(s.r.randint(1, most)):
            who, thing = s.r.choice(NAMES), s.r.choice(THINGS)
            if any(f[:2] == (who, thing) for f in s.facts): continue
            s.facts.append((who, thing, planted_value(s.r, thing)))
            parts.insert(s.r.randrange(len(parts) + 1), "The {1} of {0} is {2}".format(*s.facts[-1]))
        s.text = ". ".join(parts)

    def index(s):
        s.sentences = [" ".join(x.split()) for x in SENTENCE.split(s.text)]
        s.good = [i for i, x in enumerate(s.sentences) if 30 <= len(x) <= 260 and x[:1].isalpha()]
        s.count = {}
        for w in re.findall(r"[a-z]{4,}", s.text.lower()): s.count[w] = s.count.get(w, 0) + 1
        return len(s.good) >= 4

    def rare(s, sentence, most):
        ws = [w for w in re.findall(r"[A-Za-z]{4,}", sentence) if s.count.get(w.lower(), 0) == 1]
        ws = list(dict.fromkeys(ws))
        return s.r.sample(ws, min(len(ws), s.r.randint(1, most)))

    # Each question returns (question, answer) or None when the passage has nothing for it.
    def ask_fact(s):
        if not s.facts: return None
        who, thing, value = s.r.choice(s.facts)
        return s.r.choice([f"What is the {thing} of {who}?", f"What is {who}'s {thing}?", f"Tell me the {thing} of {who}.",
                           f"Do you know {who}'s {thing}?", f"I need the {thing} of {who}."]), \
            f"The {thing} of {who} is {value}."

    def ask_quote(s):
        sentence = s.sentences[s.r.choice(s.good)]
        ws = s.rare(sentence, 3)
        if not ws: return None
        a, b = ws[0], " and ".join(ws)
        return s.r.choice([f"What does it say about {b}?", f"Quote the sentence that mentions {b}.",
                           f"Where is {a} mentioned?", f"Find the passage about {b}.", f"What do we learn about {a}?",
                           f"Which sentence has the word {a}?", f"Quote the sentence with {b}."]), f'"{sentence}"'

    def ask_next(s):
        i = s.r.choice(s.good)
        if i + 1 >= len(s.sentences) or not 10 <= len(s.sentences[i + 1]) < 260: return None
        return s.r.choice([f'What comes right after "{s.sentences[i]}"?', f'Continue: "{s.sentences[i]}"']), \
            f'"{s.sentences[i + 1]}"'

    def ask_ends(s):
        if s.r.random() < .6:
            return s.r.choice(["How does the document begin?", "What is the first sentence?"]), f'"{s.sentences[0][:260]}"'
        if not 10 <= len(s.sentences[-1]) <= 260: return None
        return s.r.choice(["How does the document end?", "What is the last sentence?"]), f'"{s.sentences[-1]}"'

    def ask_absent(s, other):
        if s.facts and s.r.random() < .4:
            who, thing = s.r.choice(NAMES), s.r.choice(THINGS)
            if any(f[:2] == (who, thing) for f in s.facts): return None
            return f"What is the {thing} of {who}?", f"The document does not mention the {thing} of {who}."
        ws = [w for w in set(re.findall(r"[a-z]{6,}", other.lower())) if w not in s.count]
        if not ws: return None
        w = s.r.choice(sorted(ws))
        return s.r.choice([f"What does it say about {w}?", f"Where is {w} mentioned?", f"Find the passage about {w}.",
                           f"Quote the sentence that mentions {w}."]), f"The document does not mention {w}."

    def questions(s, n, other):
        kinds = [(.22 if s.facts else 0, s.ask_fact), (.48, s.ask_quote), (.12, s.ask_next), (.04, s.ask_ends),
                 (.14, lambda: s.ask_absent(other))]
        asks = s.r.choices([f for _, f in kinds], [w for w, _ in kinds], k=n)
        return [qa for qa in (f() for f in asks) if qa]


def chat(text, pairs):
    """-> [(text, is_answer), ...]"""
    out = [(f"[BOS]<|im_system|>system<|im_middle|>{SYSTEM}<|im_end|>", 0)]
    for i, (q, a) in enumerate(pairs):
        body = f"{text.rstrip()}\n\n{q}" if i == 0 else q
        out += [(f"<|im_user|>user<|im_middle|>{body}<|im_end|><|im_assistant|>assistant<|im_middle|>", 0),
                (a + "<|im_end|>", 1)]
    return out


def cut(r, doc, size):
    at = r.randrange(0, max(1, len(doc) - size))
    if at: at = doc.find(" ", at) + 1
    return doc[at:at + size].strip()


def files_sample(r, docs, size):
    """Several named documents; some answers name the file."""
    n = r.randint(2, 4)
    passages, names = [], []
    for _ in range(n):
        p = Passage(r, cut(r, r.choice(docs), size // n))
        if r.random() < .5: p.plant(2)
        if not p.index(): return None
        name = "/".join(r.sample(WORDS, r.randint(1, 2))).lower() + r.choice([".txt", ".md", ".c", ".txt"])
        if name in names: return None
        passages.append(p)
        names.append(name)
    pairs, whole = [], "\n\n".join(f"File: {a}\n\n{p.text.strip()}" for a, p in zip(names, passages))
    counts = {}
    for p in passages:
        for w, k in p.count.items(): counts[w] = counts.get(w, 0) + k
    for _ in range(r.randint(2, 8)):
        p = r.choice(passages)
        p.count = counts  # rare in all files together
        k = r.random()
        if k < .45 and (qa := p.ask_quote()):
            w = p.rare(qa[1], 1)
            if k < .25 and w:
                pairs.append((f"Which file mentions {w[0]}?", f"{names[passages.index(p)]}: {qa[1]}"))
            else: pairs.append(qa)
        elif k < .75 and (qa := p.ask_fact()): pairs.append(qa)
        elif k < .85: pairs.append((f"How does {names[passages.index(p)]} begin?", f'"{p.sentences[0][:260]}"'))
        elif qa := p.ask_absent(r.choice(docs)[:20000]): pairs.append(qa)
    return chat(whole, pairs) if pairs else None


DOCS = []  # shared with forked workers


def sample(args):
    """(seed, most characters) -> a conversation or None."""
    seed, most = args
    r = random.Random(seed)
    size = int(math.exp(r.uniform(math.log(most / 16), math.log(most))))
    if r.random() < .15: return files_sample(r, DOCS, size)
    p = Passage(r, cut(r, r.choice(DOCS), size))
    if r.random() < .5: p.plant(5)
    if not p.index(): return None
    pairs = p.questions(r.randint(3, 12), r.choice(DOCS)[:20000])
    return chat(p.text, pairs) if pairs else None


def stories(path, n, most, r):
    """Human questions (FairytaleQA): a story's sections with some of its own question-answer pairs."""
    with lzma.open(path, "rt") as f: rows = [json.loads(line) for line in f]
    out = []
    for _ in range(n):
        x = r.choice(rows)
        pairs = x.get("qa") or x.get("qas") or x.get("questions") or []
        text = "\n\n".join(x["sections"][k] for k in sorted(x["sections"], key=int))[:most]
        chosen = []
        for p in r.sample(pairs, min(len(pairs), r.randint(2, 6))):
            q, a = p.get("question"), (p.get("answers") or [""])[0]
            if q and a: chosen.append((q[0].upper() + q[1:], a[0].upper() + a[1:] + ("" if a.endswith(".") else ".")))
        if chosen: out.append(chat(text, chosen))
    return out


def encode(tokenizer, samples, special):
    """-> [(ids int16, answer mask uint8)]; special tokens are spliced in as ids, never parsed from text."""
    split = re.compile("(" + "|".join(map(re.escape, special)) + ")")
    flat, plan = [], []
    for s in samples:
        row = []
        for text, answer in s:
            for part in filter(None, split.split(text)):
                row.append((special.get(part), answer, len(flat)))
                if part not in special: flat.append(part)
        plan.append(row)
    encoded = [e.ids for e in tokenizer.encode_batch_fast(flat)]
    out = []
    for row in plan:
        ids, mask = [], []
        for known, answer, at in row:
            part = [known] if known is not None else encoded[at]
            ids += part
            mask += [answer] * len(part)
        out.append((np.array(ids, np.int16), np.array(mask, np.uint8)))
    return out


def pack(samples, stream, T, n_text, seed):
    """Rows of T + 1 ids: whole conversations, the rest of each row (and n_text whole rows) from the text stream."""
    rows, masks, cur, curm, at = [], [], [], [], 0
    rng = np.random.default_rng(seed)

    def text(n):
        nonlocal at
        if at + n > len(stream): at = int(rng.integers(0, 1000))
        at += n
        return stream[at - n:at]

    def close():
        nonlocal cur, curm
        n = T + 1 - sum(map(len, cur))
        rows.append(np.concatenate(cur + [text(n)]))
        masks.append(np.concatenate(curm + [np.zeros(n, np.uint8)]))
        cur, curm = [], []

    for ids, mask in samples:
        if len(ids) > T + 1: continue
        if sum(map(len, cur)) + len(ids) > T + 1: close()
        cur.append(ids)
        curm.append(mask)
    if cur: close()
    for _ in range(n_text):
        rows.append(text(T + 1))
        masks.append(np.zeros(T + 1, np.uint8))
    order = rng.permutation(len(rows))
    return np.stack(rows)[order], np.stack(masks)[order]
