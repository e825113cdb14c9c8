# SPDX-License-Identifier: MIT
"""A stretch of a document and the questions about it whose answers a program can check.

Used to make training data (data.py) and, with other seeds, other texts and other names, what is measured
(tools/measure). Every question is a random choice of the given generator, so a seed gives the same questions again.
"""
import re

NAMES = """Ada Boris Clara Dmitri Elena Farid Greta Hugo Ingrid Jonas Kavya Lukas Mira Nadia Oskar Priya Quentin Rosa
Stefan Tamar Ursula Viktor Wanda Xavier Yusuf Zofia Amara Bruno Celia Davor Esther Felix Gita Hana Ivan Jun Kofi Leila
Mateo Noor Olga Pavel Rana Sofia Tomas Uma Vera Willem Yara Zeno""".split()
THINGS = """secret number|favourite colour|locker code|lucky word|home town|ship name|train number|password|room number|
horse's name|birthday month|account number|garden gate code|meeting place|library card number|parcel number|nickname|
seat number|bicycle colour|key phrase|hotel|phone extension""".replace("\n", "").split("|")
WORDS = """amber cobalt crimson violet copper falcon harbor meadow orchid pepper quartz raven saffron timber walnut willow
zephyr lantern marble thistle Lisbon Oslo Cairo Quito Perth Turin Kyoto Dakar Havana Riga juniper basalt heron cedar
indigo topaz Bergen Malaga Tunis Leeds""".split()
NOUNS = """number code name colour word town key phrase address hour day price size age title team street river animal
flower dish song book tool ticket mark island bridge""".split()
SYLLABLES = "ba be bi bo da de di do fa fe ga go ha he ka ki ko la le li lo ma me mi mo na ne ni no pa pe ra re ri ro sa se " \
    "si so ta te ti to va ve vi vo wa we ya yo za zu bar den fin gar hel jor kel lin mar nor pel ras sel tor vin".split()
# Never trained on: for measuring.
HELD_NAMES = """Anton Birgit Caspar Delia Emeka Frida Gustav Hester Ilse Jasper Kerstin Lorenz Magda Nils Ottilie Piotr
Renata Soren Thea Ulrich Vasco Wilma Ximena Yorick Zelda""".split()
HELD_THINGS = """safe combination|favourite flower|mailbox number|rescue word|winter address|boat name|flight number|
cabin number|dog's name|membership number""".replace("\n", "").split("|")
HELD_WORDS = """ochre jasmine granite pelican bramble sextant Tromso Cadiz Nairobi Hobart lacquer turbine magnolia badger
compass Ghent Lima Salem velvet tundra""".split()

SENTENCE = re.compile(r"(?<=[.!?;])(?<!\bMr\.)(?<!\bMrs\.)(?<!\bDr\.)(?<!\bSt\.)[\"”’')]*\s+|\n\s*\n")
CHAPTER = re.compile(r"^(CHAPTER|Chapter) ([IVXLCivxlc]+|\d+)\b([^\n]*)\n+", re.M)
HEADING = re.compile(r"(Title|Author): ([^\n]{3,80})$", re.M)
PYTHON = re.compile(r'^[ ]*(?:async )?def (\w+)\([^\n]*\n\s+(?:r|)"""\s*([A-Z][^\n"]{15,120})', re.M)
COMMENT = r"(?:/\*\*?\s*(?:\n\s*\*\s*)?|//+!?\s*|#\s+)([A-Za-z][^\n*]{15,160})(?:\*/)?[ \t]*\n(?:[ \t]*(?:\*|//|#)[^\n]*\n)*?"
OTHER = re.compile(r"^[ \t]*" + COMMENT + r"[ \t]*((?:[\w*&:<>]+[ \t]+)*\*?(\w+)\([^;\n]*\)[^;\n]*?"
                   r"(?:\{[ \t]*$|$(?=\n[ \t]*\{)))", re.M)
NOT_FUNCTIONS = {"if", "for", "while", "switch", "catch", "return", "else"}


def is_code(text): return bool(re.match(r"File: \S+\.(?:py|js|mjs|go|c|h|rs|ts|java|cc|cpp)\b", text))


def functions(text):
    """[(name, line of its signature, its description)] of code; names and descriptions that come twice are left out."""
    found = []
    for m in PYTHON.finditer(text):
        found.append((m[1], text[m.start():text.index("\n", m.start())].strip(), m[2]))
    for m in OTHER.finditer(text):
        if m[3] not in NOT_FUNCTIONS and m[2].split()[0] not in NOT_FUNCTIONS: found.append((m[3], m[2].strip(), m[1]))
    out = []
    for name, line, about in found:
        about = about.strip().rstrip(".").removeprefix(name + " ")  # Go's comments begin with the name
        if text.count(line) == 1 and len(line) <= 160 and about.count(" ") >= 2 and "TODO" not in about: out.append((name, line, about))
    names = [f[0] for f in out]
    return [f for f in out if names.count(f[0]) == 1]


def cut(r, doc, size):
    """About `size` characters of a document, from a word's beginning."""
    at = r.randrange(0, max(1, len(doc) - size))
    if at: at = doc.find(" ", at) + 1
    return doc[at:at + size].strip()


class Passage:
    """`facts` are planted ones; index() must be called when the text is final. With a `pool` of words, most of what is
    planted is made up of them: a model that has met a few names only finds no others."""

    def __init__(s, r, text, names=NAMES, things=THINGS, words=WORDS, pool=()):
        s.r, s.text, s.facts, s.path = r, text, [], None
        s.heading, s.headless = dict(HEADING.findall(text[:300])), True  # headless: is one that is not known not there?
        s.names, s.things, s.words, s.pool = names, things, words, pool

    def person(s):
        k = s.r.random() if s.pool else 1
        if k < .35: return s.r.choice(s.pool).capitalize()
        if k < .7: return "".join(s.r.choices(SYLLABLES, k=s.r.randint(2, 4))).capitalize()
        return s.r.choice(s.names)

    def thing(s):
        k = s.r.random() if s.pool else 1
        if k < .5: return f"{s.r.choice(s.pool).lower()} {s.r.choice(NOUNS)}"
        return s.r.choice(NOUNS) if k < .6 else s.r.choice(s.things)

    def value(s, thing):
        if any(w in thing for w in ("number", "code", "extension", "combination", "price", "size", "age")):
            return str(s.r.randint(10, 10 ** s.r.randint(2, 6)))
        k = s.r.random() if s.pool else 1
        if k < .4: return s.r.choice(s.pool).lower()
        return s.person() if k < .7 else s.r.choice(s.words)

    def plant(s, most):
        parts = s.text.split(". ")
        for _ in range(s.r.randint(1, most)):
            who, thing = s.person(), s.thing()
            if s.facts and s.r.random() < .3: who = s.r.choice(s.facts)[0]  # several things of one, one of several
            elif s.facts and s.r.random() < .3: thing = s.r.choice(s.facts)[1]
            if any(f[:2] == (who, thing) for f in s.facts): continue
            s.facts.append((who, thing, s.value(thing)))
            form = "The {1} of {0} is {2}" if s.r.random() < .7 else "{0}'s {1} is {2}"
            parts.insert(s.r.randrange(len(parts) + 1), form.format(*s.facts[-1]))
        s.text = ". ".join(parts)

    def index(s):
        """-> whether there is enough to ask about."""
        s.sentences = [x.strip() for x in SENTENCE.split(s.text)]  # verbatim, with the line breaks inside
        s.good = [i for i, x in enumerate(s.sentences) if 30 <= len(x) <= 260 and x[:1].isalpha()]
        s.count = {}
        for w in re.findall(r"[a-z]{4,}", s.text.lower()): s.count[w] = s.count.get(w, 0) + 1
        s.functions = functions(s.text) if s.path or is_code(s.text) else []
        return len(s.good) >= 4 or bool(s.functions)

    def rare(s, sentence, most):
        ws = [w for w in re.findall(r"[A-Za-z]{4,}", sentence) if s.count.get(w.lower(), 0) == 1]
        ws = list(dict.fromkeys(ws))
        return s.r.sample(ws, min(len(ws), s.r.randint(1, most)))

    def together(s, sentence):
        """Two words that come more than once, but only in this sentence both."""
        ws = list(dict.fromkeys(w for w in re.findall(r"[A-Za-z]{4,}", sentence) if 2 <= s.count.get(w.lower(), 0) <= 8))
        if len(ws) < 2: return None
        two = s.r.sample(ws, 2)
        both = sum(all(re.search(rf"\b{w}\b", x, re.I) for w in two) for x in s.sentences)
        return two if both == 1 else None

    def pick_quote(s):
        """-> (question, the words that it asks by, the sentence) or None."""
        if not s.good: return None
        sentence = s.sentences[s.r.choice(s.good)]
        two = s.together(sentence) if s.r.random() < .12 and len(s.sentences) < 400 else None
        ws = two or s.rare(sentence, 4)
        if not ws: return None
        a, b = ws[0], " and ".join(ws)
        if two: return s.r.choice([f"Find the sentence that mentions {b}.", f"Quote the sentence with both {b}.",
                                   f"Where do {b} come together?"]), b, sentence
        q, words = s.r.choice([
            ("What does it say about {}?", b), ("Quote the sentence that mentions {}.", b), ("Where is {} mentioned?", a),
            ("Find the passage about {}.", b), ("What do we learn about {}?", a), ("Which sentence has the word {}?", a),
            ("Quote the sentence with {}.", b), ("Find the sentence that mentions {}.", b), ("Quote what it says on {}.", b),
            ("Is there anything about {}?", a), ("Show me where {} comes up.", a)])
        return q.format(words), words, sentence

    # Each returns (question, answer) or None when the passage has nothing for it.
    def ask_fact(s):
        if not s.facts: return None
        who, thing, value = s.r.choice(s.facts)
        return s.r.choice([f"What is the {thing} of {who}?", f"What is {who}'s {thing}?", f"Tell me the {thing} of {who}.",
                           f"Do you know {who}'s {thing}?", f"I need the {thing} of {who}.", f"{who}'s {thing}?",
                           f"Which {thing} does {who} have?", f"Please find {who}'s {thing}."]), \
            f"The {thing} of {who} is {value}."

    def ask_quote(s):
        """The answer begins with the words asked by: the quote is then found from what stands right before it."""
        found = s.pick_quote()
        return (found[0], f'On {found[1]}: "{found[2]}"') if found else None

    def ask_next(s):
        if not s.good: return None
        i = s.r.choice(s.good)
        if i + 1 >= len(s.sentences) or not 10 <= len(s.sentences[i + 1]) < 260: return None
        before = " ".join(s.sentences[i].split())
        return s.r.choice([f'What comes right after "{before}"?', f'Continue: "{before}"', f'What follows "{before}"?']), \
            f'"{s.sentences[i + 1]}"'

    def ask_chapter(s):
        chapters = [m for m in CHAPTER.finditer(s.text)]
        if not chapters: return None
        m = s.r.choice(chapters)
        if [x[2] for x in chapters].count(m[2]) > 1: return None
        name = m[3].strip(" .:-—")
        if 4 <= len(name) <= 80 and s.r.random() < .5:
            if s.r.random() < .3: return f'Which chapter is called "{name}"?', f"Chapter {m[2]}."
            return s.r.choice([f"What is chapter {m[2]} called?", f"What is the title of chapter {m[2]}?"]), f'"{name}"'
        first = SENTENCE.split(s.text[m.end():m.end() + 600].strip())[0].strip()
        return (f"How does chapter {m[2]} begin?", f'"{first}"') if 10 <= len(first) <= 260 else None

    def ask_about(s):
        """What the document is, what it is called, who wrote it: by its heading, or by how it begins."""
        r, title, author = s.r, s.heading.get("Title"), s.heading.get("Author")
        k, what = r.random() if s.heading or s.headless else 1, r.choice(["this document", "this", "it", "this text", "the document", "the text", "the book"])
        if k < .25:
            return r.choice(["What is the title?", f"What is {what} called?", f"What is the title of {what}?"]), \
                f"The title is {title}." if title else "The document does not mention a title."
        if k < .5:
            return r.choice(["Who is the author?", f"Who wrote {what}?", f"By whom is {what}?"]), \
                f"The author is {author}." if author else "The document does not mention an author."
        first = next((s.sentences[i] for i in s.good if not HEADING.match(s.sentences[i]) and s.sentences[i] != title), None) \
            if s.heading else s.sentences[0]
        if not first or not 10 <= len(first) <= 300: return None
        named = f"The title is {title}. " if title else ""
        return r.choice([f"What is {what} about?", f"What is {what} about?", "What is this?", f"What does {what} say?",
                         f"Summarise {what}.", f"Summarize {what}.", f"Give me a summary of {what}.", f"What is in {what}?",
                         f"What kind of text is {what}?", f"Tell me about {what}."]), f'{named}It begins: "{first}"'

    def ask_ends(s):
        if s.r.random() < .45: return s.ask_about()
        found = s.ask_chapter() if s.r.random() < .6 else None
        if found: return found
        what = s.r.choice(["the document", "the text", "this document", "it", "this"])
        if s.r.random() < .6:
            return s.r.choice([f"How does {what} begin?", f"How does {what} begin?", "What is the first sentence?",
                               f"How does {what} start?", "Quote the first sentence."]), f'"{s.sentences[0][:260]}"'
        if not 10 <= len(s.sentences[-1]) <= 260: return None
        return s.r.choice([f"How does {what} end?", f"How does {what} end?", "What is the last sentence?",
                           "Quote the last sentence."]), f'"{s.sentences[-1]}"'

    def ask_function(s):
        if not s.functions: return None
        name, line, about = s.r.choice(s.functions)
        if about[1:2].islower() and s.r.random() < .5: about = about[0].lower() + about[1:]
        does = about[0].lower() + about[1:]
        q = s.r.choice([f"Which function is described like this: {about}?", f"Which function is described like this: {about}?",
                        f"Find the function: {about}.", f"Where is the function for this: {about}?",
                        f"Where is {name} defined?"] + [f"Which function {does}?"] * does.split()[0].endswith("s"))
        return q, f'"{line}" ({s.path})' if s.path else f'"{line}"'

    def ask_absent(s, other):
        """`other`: a text whose words are asked for when this one has them not."""
        if s.facts and s.r.random() < .4:
            who, thing, k = s.person(), s.thing(), s.r.random()
            if k < .3: who = s.r.choice(s.facts)[0]
            elif k < .6: thing = s.r.choice(s.facts)[1]
            if any(f[:2] == (who, thing) for f in s.facts): return None
            return f"What is the {thing} of {who}?", f"The document does not mention the {thing} of {who}."
        ws = [w for w in set(re.findall(r"[a-z]{6,15}", other.lower())) if w not in s.count and len(set(w)) > 3]
        if not ws: return None
        w = " and ".join(s.r.sample(sorted(ws), min(len(ws), s.r.choice([1, 1, 1, 2, 3]))))
        return s.r.choice([f"What does it say about {w}?", f"Where is {w} mentioned?", f"Find the passage about {w}.",
                           f"Quote the sentence that mentions {w}.", f"Is there anything about {w}?",
                           f"What do we learn about {w}?", f"Quote what it says on {w}."]), \
            f"The document does not mention {w}."
