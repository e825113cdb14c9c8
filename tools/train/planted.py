# SPDX-License-Identifier: MIT
"""Facts of many forms to plant in a text, questions about those that are there and about some that are not, and made-up
prose of few words and few patterns to plant them in: where all sentences are alike, only reading finds the right one.
"""
import re
import prose

# name: (statements, questions, the answer, how its absence is told). {a} and {b} are persons, {n} a thing, {v} a value,
# {w} a word, {o} an object, {d} a number, {p} a place, {t} a time; last: the slots that tell one fact from another.
FORMS = {
    "of": (["The {n} of {a} is {v}", "The {n} of {a} is {v}", "The {n} of {a} is {v}", "{a}'s {n} is {v}",
            "As for {a}, the {n} is {v}", "It is known that the {n} of {a} is {v}", "Note that {a}'s {n} is {v}"],
           ["What is the {n} of {a}?", "What is the {n} of {a}?", "What is {a}'s {n}?", "What is {a}'s {n}?",
            "Tell me the {n} of {a}.", "Do you know {a}'s {n}?", "I need the {n} of {a}.", "{a}'s {n}?",
            "Which {n} does {a} have?", "Please find {a}'s {n}.", "Can you tell me the {n} of {a}?", "What {n} has {a}?"],
           "The {n} of {a} is {v}.", "mention the {n} of {a}", "an"),
    "lives": (["{a} lives at {d} {w} Street", "{a} has lived at {d} {w} Street for years", "The house of {a} is {d} {w} Street"],
              ["Where does {a} live?", "What is the address of {a}?", "At which address does {a} live?", "Where is {a}'s house?"],
              "{a} lives at {d} {w} Street.", "say where {a} lives", "a"),
    "paid": (["{a} paid {d} pounds for the {w} {o}", "For the {w} {o} {a} paid {d} pounds"],
             ["How much did {a} pay for the {w} {o}?", "What did {a} pay for the {w} {o}?", "What did {a} give for the {w} {o}?"],
             "{a} paid {d} pounds for the {w} {o}.", "say what {a} paid for the {w} {o}", "awo"),
    "meets": (["{a} will meet {b} {t} {p}", "{a} is to meet {b} {t} {p}"],
              ["Where will {a} meet {b}?", "When will {a} meet {b}?", "Where do {a} and {b} meet?", "When is {a} to meet {b}?"],
              "{a} will meet {b} {t} {p}.", "say that {a} will meet {b}", "ab"),
    "born": (["{a} was born {p} in {d}", "In {d} {a} was born {p}"],
             ["When was {a} born?", "Where was {a} born?", "In which year was {a} born?"],
             "{a} was born {p} in {d}.", "say when {a} was born", "a"),
    "keeps": (["{a} keeps the {w} {o} {p}", "The {w} {o} of {a} is kept {p}"],
              ["Where does {a} keep the {w} {o}?", "Where is the {w} {o} of {a}?", "Where can I find {a}'s {w} {o}?"],
              "{a} keeps the {w} {o} {p}.", "say where {a} keeps the {w} {o}", "awo"),
    "opens": (["To open the {w} {o}, say {v}", "The {w} {o} opens to the word {v}"],
              ["How do I open the {w} {o}?", "What opens the {w} {o}?", "Which word opens the {w} {o}?"],
              "The {w} {o} opens to the word {v}.", "say how the {w} {o} opens", "wo"),
    "owes": (["{a} owes {b} {d} francs", "{a} still owes {d} francs to {b}"],
             ["How much does {a} owe {b}?", "What does {a} owe {b}?", "How many francs does {a} owe {b}?"],
             "{a} owes {b} {d} francs.", "say that {a} owes {b} anything", "ab"),
    "weighs": (["The {w} {o} weighs {d} pounds", "{d} pounds is what the {w} {o} weighs"],
               ["How heavy is the {w} {o}?", "What does the {w} {o} weigh?", "How much does the {w} {o} weigh?"],
               "The {w} {o} weighs {d} pounds.", "say what the {w} {o} weighs", "wo"),
    "arrives": (["{a} arrives {t} by the train from {v}", "{a} will arrive {t}, from {v}"],
                ["When does {a} arrive?", "Where does {a} come from?", "From where does {a} arrive?"],
                "{a} arrives {t} from {v}.", "say when {a} arrives", "a"),
}
OBJECTS = """trunk cabinet box drawer gate vault organ wagon statue loom piano sledge plough crate globe bust cask tent harp
engine stove press cradle bench wheel tower shrine altar chest""".split()
PLACES = """at the {} station|in the {} tavern|in {}|near {}|at the {} market|behind the {} barn|in the {} cellar|at the {}
hotel|on the {} road|in the {} library|under the {} arch|at the {} pier""".replace("\n", " ").split("|")
TIMES = """on Monday|on Tuesday|on Wednesday|on Thursday|on Friday|on Saturday|at noon|at midnight|on {} March|on {} April|on
{} June|on {} October|at {} o'clock""".replace("\n", " ").split("|")
PAST = sorted(prose.IRREGULAR)
BETWEEN = ["Nobody paid attention to it.", "So it was written down.", "That is all there is to say.", "It was told twice.",
           "One should know this.", "This was no secret."]


class Planted:
    """The facts of one passage p (passage.Passage, for its names, things and values)."""

    def __init__(s, r, p): s.r, s.p, s.facts, s.asked, s.denied = r, p, [], set(), 0

    def person(s):
        name, k = s.p.person(), s.r.random()
        return s.r.choice(["Mr ", "Mrs ", "Dr ", "Miss "]) + name if k < .1 else f"{name} {s.p.person()}" if k < .2 else name

    def slots(s):
        r, p = s.r, s.p
        thing = p.thing()
        return {"a": s.person(), "b": s.person(), "n": thing, "v": p.value(thing), "o": r.choice(OBJECTS),
                "w": r.choice(p.pool).lower() if r.random() < .7 and p.pool else r.choice(p.words).lower(),
                "d": str(r.randint(10, 10 ** r.choice([2, 3, 4, 4, 5, 5, 6]))),
                "p": r.choice(PLACES).format(p.person()), "t": r.choice(TIMES).format(r.randint(1, 28))}

    def needed(s, form): return FORMS[form][4]

    def key(s, form, x): return (form, *(x[k] for k in s.needed(form)))

    def plant(s, text, number):
        """-> the text with `number` facts more, each at a border of sentences."""
        r = s.r
        borders = [m.end() for m in re.finditer(r"[.!?]\s+(?=[A-Z])", text)] or [len(text)]
        at = sorted(r.choice(borders) for _ in range(number))
        out, last = [], 0
        of = r.random() < .5  # then all are of that form
        for where in at:
            form, x = "of" if of or r.random() < .4 else r.choice(list(FORMS)), s.slots()
            if s.facts and r.random() < .45:  # several things of one, one of several
                other = r.choice(s.facts)[1]
                for k in r.choice(["a", "n", "wo", "w", "o"]): x[k] = other[k]
                if form == "of" and x["n"] == other["n"]: x["v"] = s.p.value(x["n"])
            if any(s.key(form, x) == s.key(f, y) for f, y in s.facts): continue
            s.facts.append((form, x))
            told = r.choice(FORMS[form][0]).format(**x)
            told = told[0].upper() + told[1:] + ". " + (r.choice(BETWEEN) + " " if r.random() < .15 else "")
            out += [text[last:where], told if text[where - 1:where].isspace() or not where else " " + told]
            last = where
        return "".join(out) + text[last:]

    def ask(s):
        """(question, answer), or None where it was asked before."""
        if not s.facts: return None
        form, x = s.r.choice(s.facts)
        question, answer = s.r.choice(FORMS[form][1]).format(**x), FORMS[form][2].format(**x)
        if question in s.asked: return None
        s.asked.add(question)
        return question, answer[0].upper() + answer[1:]

    def ask_absent(s):
        """The same questions, of somebody or something else that stands there or does not: (question, answer) or None.
        One to two answers at most: of absent things there are any number, and denying must not become the rule."""
        if not s.facts or s.denied > len(s.asked) / 2: return None
        r = s.r
        form, x = r.choice(s.facts)
        x, other = dict(x), r.choice(s.facts)[1] if r.random() < .6 else s.slots()
        keys = s.needed(form)
        for k in r.sample(keys, r.randint(1, len(keys))) if keys != "wo" else r.choice(["w", "w", "o"]): x[k] = other[k]
        if any(s.key(form, x) == s.key(f, y) for f, y in s.facts): return None
        s.denied += 1
        return r.choice(FORMS[form][1]).format(**x), f"The document does not {FORMS[form][3].format(**x)}."


def head(r, p):
    """Puts a made-up title before a passage, mostly with an author."""
    word = lambda: r.choice(p.pool).capitalize()
    title = r.choice([f"The {word()} of {word()}", f"The {word()} {word()}", f"{word()} and {word()}", f"A {word()} {word()}",
                      f"On {word()} {word()}", f"{word()} {word()}", f"{p.person()}, or the {word()} {word()}",
                      f"The {word()} {word()} of {word()} {word()}"])
    author = f"{p.person()} {p.person()}"
    p.heading = {"Title": title, "Author": author}
    k = r.random()
    if k > .75: del p.heading["Author"]
    p.text = (f"Title: {title}\n\nAuthor: {author}\n\n" if k < .35 else f"{title}\n\nby {author}\n\n" if k < .5 else
              f"{title.upper()}\n\nBy {author}\n\n" if k < .65 else f"# {title}\n\n{author}\n\n" if k < .75 else
              f"{title}\n\n" if k < .85 else f"# {title}\n\n" if k < .95 else f"Title: {title}\n\n") + p.text
    if .5 <= k < .65: p.heading["Title"] = title.upper()


# Patterns of made-up prose. A document takes some of them, and few words: {A} {B} persons, {x} {y} things with the
# article, {j} an adjective, {v} {u} verbs in the past, {l} a place, {t} a time, {d} a number.
PATTERNS = """{A} {v} {x} {l}, and {B} {u} it again.|{T} {A} came {l} and {v} {y}.|{X} was {j} and {y} was not.|They {v} {x} for
{d} days before {A} {u} {y}.|{A}, who had {v} {x}, would not speak of {y}.|Nothing {l} was as {j} as {x}.|"{X} is {j}," {A} told
{B}, "and {y} is not."|{B} {v} {d} of them and {u} the rest {l}.|In the book of {A} it says that {x} {v} {y}.|{T} it snowed, and
nobody {v} {x}.|{X} and {y} were both {l}.|What {A} {v}, {B} {u} {t}.|If {x} was {j}, then {A} must have {v} it.|"Where is
{x}?" said {A}. "It was {l} {t}."|{A} owned {d} of these, {B} one.|Number {d}: {x}, {j}, {v} by {A}.|{A} and {B} walked {l}
with {x}.|{T} {x} fell {l}, which {v} {A}.|Only {B} knew that {x} had been {v} {t}.|{X}, {y}, and again {x}: so it went {l}.|Why
{A} {v} {y} is not known.|{d} {j} letters came {t}; {A} {v} them all.|One of them was {j}, the other {l}.|{A} thought of {x},
{B} of {y}.|It cost {d} more than {x} did {t}.|{X} {v} nobody but {A}.""".replace("\n", " ").split("|")


def made_up(r, pool, size):
    """About `size` characters of prose from a few words of `pool`; its paragraphs are blocks or its lines are."""
    word = lambda: r.choice(pool).lower()
    some = lambda make: [make() for _ in range(r.randint(6, 40))]
    roles = ["smith", "cook", "porter", "sailor", "judge", "pilot", "weaver", "monk", "guard", "tailor", "farmer", "printer"]
    people = some(lambda: r.choice([word().capitalize(), "the " + r.choice(roles), f"the {word()} {r.choice(roles)}",
                                    "Mr " + word().capitalize()]))
    things, adjectives, verbs = some(lambda: f"the {word()} {word()}"), some(word), some(lambda: r.choice(PAST) if r.random() < .6 else word().rstrip("e") + "ed")
    places, times = some(lambda: f"{r.choice(['in', 'near', 'above', 'under', 'by'])} the {word()}"), \
        some(lambda: f"{r.choice(['after', 'before', 'during', 'since'])} the {word()}")
    patterns = r.sample(PATTERNS, r.randint(4, 14))
    out, n, most = [], 0, r.choice([1, 3, 5, 8])
    capital = lambda w: w[0].upper() + w[1:]
    while n < size:
        lines = []
        for _ in range(r.randint(1, most)):
            x, t = r.choice(things), r.choice(times)
            line = r.choice(patterns).format(
                A=r.choice(people), B=r.choice(people), x=x, X=capital(x), y=r.choice(things), j=r.choice(adjectives),
                v=r.choice(verbs), u=r.choice(verbs), l=r.choice(places), t=t, T=capital(t), d=r.randint(2, 999))
            lines.append(capital(line))
        out.append(" ".join(lines))
        n += len(out[-1]) + 2
    return ("\n\n" if most > 1 or r.random() < .5 else "\n").join(out)
