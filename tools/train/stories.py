# SPDX-License-Identifier: MIT
"""FairytaleQA: stories with questions that people asked, as documents of any length, with words exchanged so that
nothing can be known by heart, and questions of other stories that this one does not answer."""
import json, lzma, re
import prose
from passage import SENTENCE


def read(path):
    """[{title, sections, pairs: [(question, answer, its sections, whether it is in the words of the text)]}]"""
    out = []
    with lzma.open(path, "rt") as f:
        for x in map(json.loads, f):
            numbers, pairs = sorted(x["sections"], key=int), []
            for p in x["qa"]:
                q, a = p["question"].strip(), (p["answers"] or [""])[0].strip()
                where = [numbers.index(n) for n in p["sections"] if n in numbers]
                if not q or not a or not where: continue
                a = prose.capital(a) + ("" if a.endswith((".", "!", "?")) else ".")
                pairs.append((prose.capital(q), a, where, p["explicit"] is True))
            if pairs: out.append({"title": x["title"], "sections": [x["sections"][n] for n in numbers], "pairs": pairs})
    return out


def exchange(r, words, known):
    """-> a function that exchanges words of any text for others, always the same for the same; frequent words stay."""
    common = set(sorted(known, key=known.get)[-500:])
    found, share = {}, r.choice([.08, .15, .25])

    def one(m):
        w = m[0].lower()
        if w in common: return m[0]
        if w not in found:
            is_name = m[0][0].isupper() and m.start() > 0
            found[w] = r.choice(words).lower() if r.random() < (.6 if is_name else share) else w
        return found[w].capitalize() if m[0][0].isupper() else found[w]

    return lambda text: re.sub(r"\b[A-Za-z]{4,}\b", one, text)


class Story:
    """A stretch of sections and the questions about it."""

    def __init__(s, r, story, size, change):
        first = r.randrange(len(story["sections"]))
        if len("".join(story["sections"])) < size: first = 0
        last, n = first, 0
        while last < len(story["sections"]) and (n < size or last == first):
            n += len(story["sections"][last])
            last += 1
        s.r, s.text = r, change("\n\n".join(story["sections"][first:last]))
        s.sentences = [x.strip() for x in SENTENCE.split(s.text)]
        s.pairs = [(change(q), change(a), explicit) for q, a, where, explicit in story["pairs"]
                   if first <= min(where) and max(where) < last]
        r.shuffle(s.pairs)
        s.words = set(re.findall(r"[a-z]{3,}", s.text.lower()))

    def ask(s):
        """(question, answer) or None"""
        if not s.pairs: return None
        q, a, explicit = s.pairs.pop()
        quote = prose.support(a, q, s.sentences) if explicit else None
        return q, f'{a} "{quote}"' if quote else a

    def ask_other(s, other):
        """A question of another story, about somebody who is not here or about something that is not told."""
        q = s.r.choice(other["pairs"])[0]
        names = [n for n in re.findall(r"(?<=[a-z] )[A-Z][a-z]{2,}(?: [A-Z][a-z]+)*", q)]
        strange = [n for n in names if not any(w.lower() in s.words for w in n.split())]
        if strange: return q, f"The document does not mention {strange[0]}."
        words = set(re.findall(r"[a-z]{5,}", q.lower())) - prose.NOT_SUBJECTS
        if names or not words or len(words & s.words) > .5 * len(words): return None
        return q, "The document does not say."
