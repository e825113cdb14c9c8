# SPDX-License-Identifier: MIT
"""Text and made-up conversations about it -> rows of token ids, each token with its kind.

A conversation is laid out exactly as lectern does: system turn, user turn = document(s), blank line, question; later
questions are new turns. Of several documents the first stands as if alone; together() has the words between them.

Half of the documents are disturbed: words and names are exchanged, the order of sentences too. Nothing can be known by
heart about such a text: the only way to its answers is to read them.
"""
import bisect, json, lzma, math, random, re
import numpy as np
from passage import Passage, WORDS, cut, is_code

SYSTEM = "You are a reading assistant. Answer from the document and quote it."
# Kinds of tokens. Text is learned as it comes; of a clean document a little; of the rest only the answers.
NOTHING, TEXT, DOCUMENT, ANSWERS = 0, 1, 2, 8
ANSWER_KINDS = {k: ANSWERS + i for i, k in enumerate(
    ["fact", "quote", "next", "ends", "absent", "file", "function", "story"])}
WEIGHT = np.zeros(256, np.float32)
WEIGHT[[TEXT, DOCUMENT]] = 1, .25
WEIGHT[ANSWERS:ANSWERS + len(ANSWER_KINDS)] = 4
CHARACTERS = 3.4  # a token of text, about


def read_documents(paths):
    out = []
    for p in paths:
        with lzma.open(p, "rt", encoding="utf-8", errors="ignore") as f:
            out += [d.strip() for d in f.read().split("<|doc|>")]
    return [d for d in out if len(d) > 400]


def read_stories(path):
    """FairytaleQA: [(story, [(question, answer)])], human questions."""
    out = []
    with lzma.open(path, "rt") as f:
        for x in map(json.loads, f):
            pairs = [(p["question"], p["answers"][0]) for p in x.get("qa") or x.get("qas") or x.get("questions") or []
                     if p.get("question") and p.get("answers") and p["answers"][0]]
            pairs = [(q[0].upper() + q[1:], a[0].upper() + a[1:] + ("" if a.endswith(".") else ".")) for q, a in pairs]
            text = "\n\n".join(x["sections"][k] for k in sorted(x["sections"], key=int))
            if pairs: out.append((text, pairs))
    return out


def disturb(r, text, other):
    """Exchanges a tenth of the words for those of another text, half of the names consistently; at times the order of
    the sentences."""
    words = re.findall(r"[A-Za-z]{4,}", other)
    if len(words) < 50: return text
    names = {}

    def exchange(m):
        w = m[0]
        if w[0].isupper():
            if w not in names: names[w] = r.choice(words).capitalize() if r.random() < .5 else w
            return names[w]
        return r.choice(words).lower() if r.random() < .1 else w

    text = re.sub(r"[A-Za-z]{4,}", exchange, text)
    if r.random() < .25:
        parts = re.split(r"(?<=[.!?])\s+", text)
        r.shuffle(parts)
        text = " ".join(parts)
    return text


def together(passages):
    """As app/prompt.c joins documents."""
    out = [passages[0].text.strip()]
    for i, p in enumerate(passages[1:]):
        out += [f"(The text above is {passages[0].path}.)"] * (i == 0) + [f"File: {p.path}", p.text.strip()]
    return "\n\n".join(out)


class Maker:
    """Makes rows from documents. Every worker process has its own, with its own share of the text."""

    def __init__(s, tokenizer, docs, stories, seed, share=0, shares=1, disturbed=.5):
        s.tokenizer, s.docs, s.stories, s.r, s.disturbed = tokenizer, docs, stories, random.Random(seed), disturbed
        s.code = [d for d in docs if is_code(d) and len(d) > 1500]
        s.big = [d for d in docs if len(d) > 3000]
        s.ends = np.cumsum([len(d) for d in s.big]).tolist()
        pieces = [(i, at) for i, d in enumerate(docs) for at in range(0, len(d), 60000)]
        random.Random(seed - share).shuffle(pieces)  # the same order in every worker
        s.pieces, s.next, s.rest = pieces[share::shares], 0, []

    def document(s):
        """A long one, as likely as it is long."""
        return s.big[bisect.bisect_right(s.ends, s.r.randrange(s.ends[-1]))]

    def text(s, n):
        """The next n tokens of running text; every piece comes once before any comes again."""
        while len(s.rest) < n:
            i, at = s.pieces[s.next % len(s.pieces)]
            s.next += 1
            s.rest += ([s.tokenizer.special["[BOS]"]] if at == 0 else []) + s.tokenizer.encode(s.docs[i][at:at + 60000])
        out, s.rest = s.rest[:n], s.rest[n:]
        return out

    # ------------------------------------------------------------------------------------------ conversations
    def passage(s, size, doc):
        """-> (passage, whether it was disturbed) or None."""
        r, text = s.r, cut(s.r, doc, size)
        code = is_code(doc)
        if code and not is_code(text): text = doc.split("\n", 1)[0] + "\n\n" + text
        disturbed = not code and r.random() < s.disturbed
        if not code and r.random() < .3: text = " ".join(text.split())
        other = cut(r, s.document(), max(4000, size // 4))
        if disturbed: text = disturb(r, text, other)
        p = Passage(r, text, pool=re.findall(r"\b[A-Za-z]{4,12}\b", other))
        if not code and r.random() < .6: p.plant(3 + size // 3000)
        return (p, disturbed) if p.index() else None

    def ask(s, p, pairs_of_file=None):
        """A question of any kind: (question, answer, kind) or None."""
        kinds = [(.3 if p.facts else 0, p.ask_fact, "fact"), (.55, p.ask_quote, "quote"), (.09, p.ask_next, "next"),
                 (.04, p.ask_ends, "ends"), (.35 if p.functions else 0, p.ask_function, "function"),
                 (.16, lambda: p.ask_absent(cut(s.r, s.document(), 8000)), "absent")]
        _, make, kind = s.r.choices(kinds, [w for w, _, _ in kinds])[0]
        found = make()
        return (*found, ANSWER_KINDS[kind]) if found else None

    def one_document(s, size):
        doc = s.r.choice(s.code) if s.code and s.r.random() < .15 else s.document()
        made = s.passage(size, doc)
        if not made: return None
        p, disturbed = made
        return p.text, disturbed, lambda: s.ask(p)

    def story(s, size):
        text, pairs = s.r.choice(s.stories)
        pairs = pairs[:]
        s.r.shuffle(pairs)
        return text[:size], False, lambda: (*pairs.pop(), ANSWER_KINDS["story"]) if pairs else None

    def files(s, size):
        """Several named documents; some answers name the file."""
        r, n, code = s.r, s.r.randint(2, 6), s.r.random() < .4
        passages, counts = [], {}
        for _ in range(n):
            made = s.passage(size // n, r.choice(s.code) if code and s.code else s.document())
            if not made: return None
            p = made[0]
            head, _, body = p.text.partition("\n")
            if is_code(p.text): p.path, p.text = head[6:].strip(), body.strip()
            else: p.path = "/".join(r.sample(WORDS, r.randint(1, 2))).lower() + r.choice([".txt", ".md", ".txt"])
            p.index()
            if p.path in [q.path for q in passages]: return None
            passages.append(p)
            for w, k in p.count.items(): counts[w] = counts.get(w, 0) + k
        for p in passages: p.count = counts  # rare in all files together

        def ask():
            p, k = r.choice(passages), r.random()
            if k < .2:
                found = p.ask_quote()
                w = p.rare(found[1], 1) if found else None
                return (r.choice([f"Which file mentions {w[0]}?", f"In which file does {w[0]} come up?"]),
                        f"{p.path}: {found[1]}", ANSWER_KINDS["file"]) if w else None
            if k < .26:
                return f"How does {p.path} begin?", f'"{p.sentences[0][:260]}"', ANSWER_KINDS["ends"]
            if k < .40:
                found = p.ask_quote()
                w = p.rare(found[1], 2) if found else None
                return (f"What does {p.path} say about {' and '.join(w)}?", found[1], ANSWER_KINDS["quote"]) if w else None
            return s.ask(p)

        return together(passages), True, ask

    def conversation(s, room):
        """[(ids, kind), ...] of at most `room` tokens, or None."""
        r, encode, special = s.r, s.tokenizer.encode, s.tokenizer.special
        size = int(CHARACTERS * math.exp(r.uniform(math.log(250), math.log(room * .78))))
        k = r.random()
        made = s.story(size) if s.stories and k < .08 and size < 60000 else s.files(size) if k < .28 else s.one_document(size)
        if not made: return None
        text, disturbed, ask = made

        def turn(role): return [special[f"<|im_{role}|>"], *encode(role), special["<|im_middle|>"]]

        end = [special["<|im_end|>"]]
        head = [special["[BOS]"]] + turn("system") + encode(SYSTEM) + end + turn("user")
        parts = [(head, NOTHING), (encode(text.rstrip() + "\n\n"), NOTHING if disturbed else DOCUMENT)]
        left = room - len(head) - len(parts[1][0])
        wanted = r.randint(2, 8 + len(parts[1][0]) // 60)
        for tries in range(2 * wanted):
            found = ask()
            if not found: continue
            question = (turn("user") if len(parts) > 2 else []) + encode(found[0]) + end + turn("assistant")
            answer = encode(found[1]) + end
            left -= len(question) + len(answer)
            if left < 0: break
            parts += [(question, NOTHING), (answer, found[2])]
            wanted -= 1
            if not wanted: break
        return parts if len(parts) > 2 else None

    # ---------------------------------------------------------------------------------------------------- rows
    def row(s, T, text_only):
        """T + 1 ids and their kinds: conversations, the rest running text."""
        parts, room, tries = [], T + 1, 0
        while not text_only and room > min(600, T // 2) and tries < 4:
            made = s.conversation(room)
            tries += made is None
            for ids, kind in made or []:
                parts.append((ids, kind))
                room -= len(ids)
        parts.append((s.text(room), TEXT))
        ids = np.concatenate([np.array(p, np.uint16) for p, _ in parts])
        return ids, np.concatenate([np.full(len(p), k, np.uint8) for p, k in parts])

    def batch(s, T, B, text_share):
        """-> ids [B, T + 1], kinds [B, T + 1], where: the places in [B * T] whose next token is learned."""
        rows = [s.row(T, s.r.random() < text_share) for _ in range(B)]
        ids, kinds = np.stack([a for a, _ in rows]), np.stack([k for _, k in rows])
        return ids, kinds, np.flatnonzero(WEIGHT[kinds[:, 1:]].ravel()).astype(np.int32)
