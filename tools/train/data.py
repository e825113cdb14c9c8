# SPDX-License-Identifier: MIT
"""Text and made-up conversations about it -> rows of token ids, each token with its kind.

A conversation is laid out exactly as lectern does: system turn, user turn = document(s), blank line, question; later
questions are new turns. Of several documents the first stands as if alone; together() has the words between them.

Half of the documents are disturbed: words and names are exchanged, the order of sentences too. Nothing can be known by
heart about such a text: the only way to its answers is to read them.
"""
import bisect, lzma, math, random, re
import numpy as np
import planted, prose, stories
from passage import SENTENCE, Passage, WORDS, cut, functions, is_code

SYSTEM = "You are a reading assistant. Answer from the document and quote it."
# Kinds of tokens. Text is learned as it comes; of a clean document a little; of the rest only the answers.
NOTHING, TEXT, DOCUMENT, ANSWERS = 0, 1, 2, 8
ANSWER_KINDS = {k: ANSWERS + i for i, k in enumerate(
    ["fact", "quote", "next", "ends", "absent", "file", "function", "story", "person", "plain"])}
BEGIN, BEGIN_TOKENS = 64, 4  # added to the kind of the tokens that a quote begins with: what is hard is to find it
FIRST_TOKENS = {ANSWER_KINDS["fact"]: 16, ANSWER_KINDS["story"]: 4, ANSWER_KINDS["plain"]: 4}
WEIGHT = np.zeros(256, np.float32)
WEIGHT[[TEXT, DOCUMENT]] = 1, .25
WEIGHT[ANSWERS:ANSWERS + len(ANSWER_KINDS)] = 4
WEIGHT[BEGIN + ANSWERS:BEGIN + ANSWERS + len(ANSWER_KINDS)] = 12
CHARACTERS = 3.4  # a token of text, about
LONG = .4  # of the conversations that have the room are about a document nearly as long
# What conversations are about, as running sums: a story with people's questions, a tree of code, several files, planted
# facts; the rest: one document.
STORIES, TREES, FILES, NEEDLES = .12, .26, .36, .56


def read_documents(paths):
    out = []
    for p in paths:
        with lzma.open(p, "rt", encoding="utf-8", errors="ignore") as f:
            out += [d.strip() for d in f.read().split("<|doc|>")]
    return [d for d in out if len(d) > 400]


def language(docs):
    """How often each small word occurs in a sample of the text."""
    known = {}
    for d in docs[::max(1, len(docs) // 400)]:
        for w in re.findall(r"\b[a-z]{2,}\b", d[:20000]): known[w] = known.get(w, 0) + 1
    return known


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


def twins(r, text, words):
    """Some sentences stand once more elsewhere, a third of their words exchanged: a quote must not drift into those."""
    parts = SENTENCE.split(text)
    some = [x for x in parts if 40 <= len(x) <= 260]
    for x in r.sample(some, min(len(some), r.randint(1, 4))):
        other = re.sub(r"[A-Za-z]{4,}", lambda m: r.choice(words).lower() if r.random() < .33 else m[0], x)
        parts.insert(r.randrange(len(parts) + 1), prose.capital(other))
    return " ".join(parts)


def together(passages):
    """As app/prompt.c joins documents."""
    out = [passages[0].text.strip()]
    for i, p in enumerate(passages[1:]):
        out += [f"(The text above is {passages[0].path}.)"] * (i == 0) + [f"File: {p.path}", p.text.strip()]
    return "\n\n".join(out)


class Maker:
    """Makes rows from documents. Every worker process has its own, with its own share of the text."""

    def __init__(s, tokenizer, docs, told, known, seed, share=0, shares=1, disturbed=.5):
        """told: stories; known: language()"""
        s.tokenizer, s.docs, s.told, s.known = tokenizer, docs, told, known
        s.r, s.disturbed = random.Random(seed), disturbed
        s.common = set(sorted(known, key=known.get)[-500:])
        s.code = [d for d in docs if is_code(d) and len(d) > 1500]
        s.files_of_code = [d for d in docs if is_code(d) and 500 < len(d) < 12000]
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
        r, whole = s.r, s.r.random() < .15
        text = doc[:size].strip() if whole else cut(r, doc, size)
        code = is_code(doc)
        if code and not is_code(text): text = doc.split("\n", 1)[0] + "\n\n" + text
        disturbed = not code and r.random() < s.disturbed
        if not code and r.random() < .3: text = " ".join(text.split())
        other = cut(r, s.document(), max(4000, size // 4))
        pool = re.findall(r"\b[A-Za-z]{4,12}\b", other)
        if disturbed: text = disturb(r, text, other)
        if disturbed and len(pool) > 50 and r.random() < .4: text = twins(r, text, pool)
        p = Passage(r, text, pool=pool)
        p.headless = not whole or code
        if not code and len(pool) > 50 and not p.heading and r.random() < (.7 if whole else .08): planted.head(r, p)
        if not code and r.random() < .5: p.plant(3 + size // 3000)
        return (p, disturbed) if p.index() else None

    def prose_of(s, p):
        """Plain questions about a passage: made once, given out one by one."""
        if not hasattr(p, "plain"):
            z = prose.Prose(s.r, p.text, p.sentences, s.known)
            p.plain, p.persons = prose.unique(z.clauses()) + prose.unique(z.speeches()), z.persons()
            s.r.shuffle(p.plain), s.r.shuffle(p.persons)
        return p

    def ask_plain(s, p): return s.prose_of(p).plain.pop() if s.prose_of(p).plain else None

    def ask_person(s, p):
        if not s.prose_of(p).persons: return None
        name, sentence = p.persons.pop()
        question, name = prose.ask_person(s.r, name)
        return question, f'On {name}: "{sentence}"'

    def ask_stranger(s, p):
        """About a person of another text, by a name that does not stand in this one."""
        r, text = s.r, cut(s.r, s.document(), 6000)
        z = prose.Prose(r, text, [x.strip() for x in SENTENCE.split(text)], s.known)
        asks = [(q, n) for n in z.names for q, _ in z.clauses() if n in q and r.random() < .7] or \
            [prose.ask_person(r, n) for n in z.names]
        asks = [(q, n) for q, n in asks if not any(w.lower() in p.count or w in p.text for w in n.split()[-1:])]
        if not asks: return None
        q, name = r.choice(asks)
        return q, f"The document does not mention {name}."

    def ask_absent(s, p):
        return s.ask_stranger(p) if s.r.random() < .5 else p.ask_absent(cut(s.r, s.document(), 8000))

    def ask(s, p, alone=True):
        """A question of any kind: (question, answer, kind) or None; not alone: where other documents lie beside it."""
        is_prose = not p.functions
        kinds = [(.25 if p.facts else 0, p.ask_fact, "fact"), (.5, p.ask_quote, "quote"), (.06, p.ask_next, "next"),
                 (.1 * alone, p.ask_ends, "ends"), (.35 if p.functions else 0, p.ask_function, "function"),
                 (.15, lambda: s.ask_absent(p), "absent"), (.16 * is_prose, lambda: s.ask_person(p), "person"),
                 (.22 * is_prose, lambda: s.ask_plain(p), "plain")]
        _, make, kind = s.r.choices(kinds, [w for w, _, _ in kinds])[0]
        found = make()
        return (*found, ANSWER_KINDS[kind]) if found else None

    def one_document(s, size):
        doc = s.r.choice(s.code) if s.code and s.r.random() < .15 else s.document()
        made = s.passage(size, doc)
        if not made: return None
        p, disturbed = made
        return p.text, disturbed, lambda: s.ask(p)

    def needles(s, size):
        """Facts of many forms in real or made-up prose; every third question about one is of what is not there."""
        r, text = s.r, cut(s.r, s.document(), size)
        if is_code(text): return None
        pool = [w for w in re.findall(r"\b[A-Za-z]{4,12}\b", cut(r, s.document(), 12000)) if w.lower() not in s.common]
        if len(pool) < 60: return None
        made_up = r.random() < .45
        if made_up: text = planted.made_up(r, r.sample(pool, min(len(pool), r.randint(60, 400))), size)
        elif r.random() < .4: text = disturb(r, text, cut(r, s.document(), 12000))
        elif r.random() < .4: text = " ".join(text.split())
        p = Passage(r, text, pool=pool)
        facts = planted.Planted(r, p)
        p.text = facts.plant(p.text, int(math.exp(r.uniform(math.log(2 + size / 30000), math.log(8 + size / 700)))))
        if not p.index(): return None

        def ask():
            k = r.random()
            found = facts.ask() if k < .55 else facts.ask_absent() if k < .75 else None
            return (*found, ANSWER_KINDS["fact" if k < .55 else "absent"]) if found else s.ask(p)

        return p.text, True, ask

    def story(s, size):
        """What people asked; at times among other documents."""
        r, change = s.r, lambda text: text
        if s.disturbed and r.random() < .75:
            words = re.findall(r"\b[a-z]{4,9}\b", cut(r, s.document(), 20000))
            if len(words) > 100: change = stories.exchange(r, words, s.known)
        alone = size < 3000 or r.random() < .65
        told = r.choice(s.told)
        story = stories.Story(r, told, size if alone else size // 3, change)
        p = Passage(r, story.text)
        p.path = re.sub(r"\W+", r.choice(["-", "_", " "]), told["title"]).strip("-_ ").lower() + r.choice([".txt", ".md"])
        if not p.index(): return None
        p.functions, all_of_them = [], [p]
        for _ in range(0 if alone else r.randint(1, 3)):
            made = s.passage(size // 4, s.document())
            if not made: continue
            made[0].path = "/".join(r.sample(WORDS, r.randint(1, 2))).lower() + ".txt"
            all_of_them.append(made[0])
        r.shuffle(all_of_them)

        def ask():
            k = r.random()
            if k < .62:
                found = story.ask()
                if found and not alone and r.random() < .3: found = (f"{p.path}: {found[0]}", found[1])
                return (*found, ANSWER_KINDS["story"]) if found else None
            if k < .76:
                found = story.ask_other(r.choice(s.told)) if alone else None
                return (*found, ANSWER_KINDS["absent"]) if found else None
            return s.ask(p) if alone else None

        return together(all_of_them) if not alone else p.text, True, ask

    def tree(s, size):
        """Whole files of code; functions are asked for by what is said of them."""
        r, passages, room = s.r, [], size
        for doc in r.sample(s.files_of_code, min(len(s.files_of_code), 12)):
            if len(doc) > room: continue
            head, _, body = doc.partition("\n")
            p = Passage(r, body.strip())
            p.path = head[6:].strip()
            if p.path in [q.path for q in passages]: continue
            p.index()
            passages.append(p)
            room -= len(doc)
        if not any(p.functions for p in passages) or len(passages) < 2: return None
        text = together(passages)
        strange = [f for d in r.sample(s.code, min(4, len(s.code))) for f in functions(d)]
        for p in passages:
            p.functions = [f for f in p.functions if text.count(f[1]) == 1 and text.count(f[2]) == 1]

        def ask():
            k = r.random()
            if k < .1 and strange:
                _, line, about = r.choice(strange)
                if line in text or about in text: return None
                return f"Which function is described like this: {about}?", "The document does not mention such a function.", \
                    ANSWER_KINDS["absent"]
            p = r.choice(passages)
            found = p.ask_function() if k < .85 else None
            if not found and k > .85:
                found = p.ask_quote()
                if found and any(text.count(w) != 1 for w in found[1][3:found[1].index(': "')].split(" and ")): return None
            return (*found, ANSWER_KINDS["function" if k < .85 else "quote"]) if found else None

        return text, True, ask

    def files(s, size):
        """Several named documents; some answers name the file."""
        r, n, code = s.r, s.r.randint(2, min(6, max(2, size // 600))), s.r.random() < .3
        passages, counts = [], {}
        for _ in range(n):
            made = s.passage(size // n, r.choice(s.code) if code and s.code else s.document())
            if not made: continue
            p = made[0]
            head, _, body = p.text.partition("\n")
            if is_code(p.text): p.path, p.text = head[6:].strip(), body.strip()
            else: p.path = "/".join(r.sample(WORDS, r.randint(1, 2))).lower() + r.choice([".txt", ".md", ".txt"])
            p.index()
            if p.path in [q.path for q in passages]: continue
            passages.append(p)
            for w, k in p.count.items(): counts[w] = counts.get(w, 0) + k
        if len(passages) < 2: return None
        for p in passages: p.count = counts  # rare in all files together

        def ask():
            p, k = r.choice(passages), r.random()
            if k < .40:
                found = p.pick_quote()
                w = p.rare(found[2], 2) if found else None
                if not w: return None
                words = " and ".join(w)
                if k < .2: return (r.choice([f"Which file mentions {words}?", f"In which file does {words} come up?"]),
                                   f'On {words}: "{found[2]}" ({p.path})', ANSWER_KINDS["file"])
                return f"What does {p.path} say about {words}?", f'On {words}: "{found[2]}"', ANSWER_KINDS["quote"]
            if k < .46: return f"How does {p.path} begin?", f'"{p.sentences[0][:260]}"', ANSWER_KINDS["ends"]
            return s.ask(p, alone=False)

        return together(passages), True, ask

    def conversation(s, room):
        """[(ids, kind), ...] of at most `room` tokens, or None."""
        r, encode, special = s.r, s.tokenizer.encode, s.tokenizer.special
        most = room * (.94 if r.random() < .2 else .78)
        size = r.uniform(.3, 1) * most if room > 8000 and r.random() < LONG else math.exp(r.uniform(math.log(150), math.log(most)))
        size, k = int(CHARACTERS * size), r.random()
        make = s.story if k < STORIES and s.told and size < 60000 else s.tree if k < TREES and s.files_of_code and size > 2000 \
            else s.files if k < FILES else s.needles if k < NEEDLES + .1 * (room > 20000) else s.one_document
        made = make(size)
        if not made: return None
        text, disturbed, ask = made

        def turn(role): return [special[f"<|im_{role}|>"], *encode(role), special["<|im_middle|>"]]

        end = [special["<|im_end|>"]]
        head = [special["[BOS]"]] + turn("system") + encode(SYSTEM) + end + turn("user")
        parts = [(head, NOTHING), (encode(text.rstrip() + "\n\n"), NOTHING if disturbed else DOCUMENT)]
        left = room - len(head) - len(parts[1][0])
        wanted, asked = r.randint(3, 10 + len(parts[1][0]) // 40), set()
        for _ in range(2 * wanted):
            found = ask()
            if not found or found[0] in asked: continue
            asked.add(found[0])
            typed = found[0] if r.random() < .9 else found[0][0].lower() + found[0][1:].rstrip("?.")
            question = (turn("user") if len(parts) > 2 else []) + encode(typed) + end + turn("assistant")
            answer = encode(found[1]) + end
            left -= len(question) + len(answer)
            if left < 0: break
            parts += [(question, NOTHING), s.weighed(found[1], answer, found[2])]
            wanted -= 1
            if not wanted: break
        return parts if len(parts) > 2 else None

    def weighed(s, text, ids, kind):
        """-> (ids, kinds) of an answer. Marked are the tokens that decide: the first two, which deny or do not, more of a
        short answer, the first of a quote and of the name of a file."""
        kinds = np.full(len(ids), kind, np.uint8)
        kinds[:FIRST_TOKENS.get(kind, 2)] = kind + BEGIN
        for at in text.find('"'), text.rfind(" (") if text.endswith(")") else -1:
            if at < 0: continue
            at = len(s.tokenizer.encode(text[:at].rstrip()))
            kinds[at:at + BEGIN_TOKENS] = kind + BEGIN
        return ids, kinds

    # ---------------------------------------------------------------------------------------------------- rows
    def row(s, T, text_only):
        """T + 1 ids and their kinds: conversations, the rest running text."""
        parts, room, tries = [], T + 1, 0
        while not text_only and room > min(400, T // 2) and tries < 8:
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
