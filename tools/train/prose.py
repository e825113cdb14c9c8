# SPDX-License-Identifier: MIT
"""Plain questions about real prose whose answers rules can find: who said it, who did it, where, when, why, who is.

Only simple sentences are taken (subject, verb in the past, the rest); most sentences give nothing, and a long text
gives enough. An answer is a few words and the sentence that they stand in.
"""
import re

TITLES = r"(?:Mr|Mrs|Ms|Dr|St)\.?|Miss|Lady|Lord|Sir|Captain|Colonel|Major|Uncle|Aunt|King|Queen|Prince|Princess|Master|" \
    r"Madame|Squire|Doctor|Judge|Father|Brother|Sister"
NAME = rf"(?:(?:{TITLES})\s+)?[A-Z][a-z]+(?:\s+[A-Z][a-z]+)?"
THE = r"[Tt]he\s+(?:(?:old|young|little|poor|good|great|big|other|first|second)\s+)?[a-z]{3,12}"
IRREGULAR = dict(x.split(":") for x in """went:go came:come ran:run saw:see took:take gave:give made:make said:say told:tell
found:find left:leave brought:bring thought:think got:get kept:keep held:hold sat:sit stood:stand lay:lie fell:fall
felt:feel knew:know met:meet began:begin sent:send put:put set:set led:lead wrote:write spoke:speak heard:hear lost:lose
broke:break drew:draw rose:rise threw:throw grew:grow caught:catch bought:buy sold:sell paid:pay built:build drove:drive
rode:ride ate:eat drank:drink slept:sleep woke:wake won:win wore:wear chose:choose shook:shake struck:strike flew:fly
fled:flee swam:swim sang:sing stole:steal hid:hide hung:hang forgot:forget became:become read:read cut:cut let:let
shut:shut cried:cry tried:try died:die married:marry carried:carry hurried:hurry replied:reply""".split())
GOING = "go come run ride walk return drive hurry fly flee travel sail march climb follow retire proceed step rush jump " \
    "live sit stand stay remain fall lie arrive swim hide sleep wander move turn".split()
PLACE = r"(?:(?:back|down|up|out|over|away|straight|home|off)\s+)?(?:to|into|towards?|through|across|in|at|on|near|under|" \
    r"behind|from|upon|beside|out\s+of|for|over|round|along)\s+(?:the|a|an|his|her|their|its|my|our|that|this|[A-Z][a-z]+)\b"
NUMBER = r"(?:two|three|four|five|six|seven|eight|nine|ten|twelve|twenty|\d{1,4})"
TIME = r"(?:One|In|On|At|After|Before|Next|That|Early|Late|During|Towards?|About)\s+[^,.;:\"“”]{3,45}"
NOT_SUBJECTS = set("""he she it they we you i who which that this these those there then when where what but and or so if as
for not now here his her their its my our one nobody everyone everybody nothing something all none yes no well oh chapter
book part volume section figure table note the""".split())
SAID = r"said|cried|replied|asked|answered|exclaimed|whispered|shouted|returned|remarked|observed"
SPEECH = re.compile(rf"[\"“]([^\"“”\n]{{12,160}}?[,!?])[\"”]\s+(?:({SAID})\s+({NAME}|{THE})|({NAME}|{THE})\s+({SAID}))\b")
CLAUSE = re.compile(rf"(?:(?:And|But|Then|So|Now|However|Meanwhile|At last),?\s+)?(?:({TIME}),\s+)?({NAME}|{THE})\s+([a-z]{{2,12}})\s+([^.;:!?\"“”()]{{6,140}})(?=[.;:!?])")
IS = re.compile(rf"\b({NAME}),\s+((?:an?|the|his|her|my|our|their)\s+[a-z][^,.;:!?\"“”]{{4,70}})[,.;]|"
                rf"\b({NAME})\s+(?:is|was)\s+((?:an?|the|his|her|my|our|their)\s+[a-z][^,.;:!?\"“”]{{4,90}})[,.;]")


def base_of(verb, known):
    """The infinitive of a verb in the past, or None. `known`: how often a word occurs in the language."""
    if verb in IRREGULAR: return IRREGULAR[verb]
    if not verb.endswith("ed") or len(verb) < 5: return None
    stem = verb[:-2]
    forms = [stem, stem + "e"] + ([stem[:-1] + "y"] if stem.endswith("i") else []) + \
        ([stem[:-1]] if stem[-1] == stem[-2:-1] else [])
    best = max(forms, key=lambda w: known.get(w, 0))
    return best if known.get(best, 0) > 3 else None


def one_line(text): return " ".join(text.split())


def capital(text): return text[:1].upper() + text[1:]


def lower_the(subject): return subject[0].lower() + subject[1:] if subject.startswith("The ") else subject


class Prose:
    """What a text (sentences: its stretches, verbatim) gives to ask about."""

    def __init__(s, r, text, sentences, known):
        s.r, s.text, s.sentences, s.known = r, text, sentences, known
        s.small = set(re.findall(r"\b[a-z]{2,}", text))
        inside = re.findall(rf"(?<=[a-z,] )(?:(?:{TITLES}) )?[A-Z][a-z]{{2,}}(?: [A-Z][a-z]{{2,}})?(?=[ ,.;'’])", one_line(text))
        s.names = {}
        for n in inside:
            if s.is_name(n): s.names[n] = s.names.get(n, 0) + 1

    def is_name(s, words):
        last = words.split()[-1].lower()
        return last not in s.small and last not in NOT_SUBJECTS

    def is_subject(s, words):
        return words.lower().startswith("the ") or all(w.rstrip(".").lower() not in s.small and
                                                       w.lower() not in NOT_SUBJECTS for w in words.split())

    def clauses(s):
        """[(question, answer)] of simple sentences."""
        out = []
        for sentence in s.sentences:
            if not 25 <= len(sentence) <= 260: continue
            m = CLAUSE.match(sentence + ".")
            if not m: continue
            when, who, verb, rest = (one_line(x) if x else x for x in m.groups())
            if not s.is_subject(who): continue
            found = s.state(who, verb, rest) if verb in ("was", "were", "had") else ()
            base = base_of(verb, s.known)
            if base: found = s.clause(when, who, verb, base, rest)
            out += [(q, f'{capital(a)}. "{sentence}"') for q, a in found]
        return out

    def state(s, who, verb, rest):
        """Of `was` and `had`."""
        whom, short = lower_the(who), re.split(r",| and | but | when | while | who | which | as ", rest)[0].strip()
        been = "been " if verb == "had" and short.startswith("been ") else ""
        place = re.match(PLACE, short[len(been):])
        if place and (been or verb != "had"): yield f"Where {verb} {whom}{' been' if been else ''}?", short[len(been):]
        if re.match(r"[a-z]{3,}ing\b", short[len(been):]) and (been or verb != "had"):
            yield f"What {verb} {whom} {'been ' if been else ''}doing?", short[len(been):]
            if " " in short[len(been):]: yield f"Who {verb} {short}?", who
        number = re.match(rf"({NUMBER}) ([a-z]+s)\b", short)
        if verb == "had" and number: yield f"How many {number[2]} did {whom} have?", number[1]
        elif verb == "had" and re.match(r"(?:an?|the|no|his|her) ", short): yield f"What did {whom} have?", short

    def clause(s, when, who, verb, base, rest):
        whom, short = lower_the(who), re.split(r",| and | but | when | while | where | who | which | as ", rest)[0].strip()
        did = f"{whom} {base}"
        if len(short) < 4: return
        if short.count(" ") >= 1: yield f"Who {verb} {short}?", who
        because = re.split(r",? because ", rest)
        if len(because) == 2: yield f"Why did {did} {because[0]}?", "Because " + because[1]
        if when: yield f"When did {did} {short}?", when
        if base in GOING and re.match(PLACE, short): yield f"Where did {did}?", short
        elif re.match(r"(?:the|a|an|his|her|their|my|some|two|three|many)\s", short) and base not in ("get", "become"):
            yield f"What did {did}?", re.split(r" (?:to|in|on|at|with|for|from|into|by|upon) ", short)[0]
        number = re.search(rf"\b({NUMBER}) ([a-z]+s)\b", short)
        if number: yield f"How many {number[2]} did {did}?", number[1]
        if re.fullmatch(r"[a-z]+ly", short.split()[0]): yield f"How did {did}?", short.split()[0]

    def speeches(s):
        out = []
        for m in SPEECH.finditer(s.text):
            what, who = one_line(m[1]), one_line(m[3] or m[4])
            if not s.is_subject(who): continue
            out.append((f'Who said "{what}"?', f"{capital(who)}."))
            if len(m[1]) > 25: out.append((f"What did {lower_the(who)} say?", f'"{m[1]}"'))
        return out

    def persons(s):
        """[(name, sentence)]: what the text says of somebody: who it is where that is told, else where it first stands."""
        told, out = {}, []
        for m in IS.finditer(s.text): told.setdefault(one_line(m[1] or m[3]), m.start())
        for name, n in s.names.items():
            where = told.get(name)
            if where is None and n < 2: continue
            whom = "the " + name if 2 * s.text.count("the " + name) > s.text.count(name) else name
            out.append((whom, s.sentence_with(name, None if where is None else s.text[where:where + len(name) + 20])))
        for whom in {one_line(m[3] or m[4]) for m in SPEECH.finditer(s.text)}:
            if whom.startswith("the "): out.append((whom, s.sentence_with(whom)))
        return [(name, sentence) for name, sentence in out if sentence]

    def sentence_with(s, name, start=None):
        start = one_line(start) if start else None
        pattern = re.compile(r"\b" + re.escape(name) + r"\b")
        for x in s.sentences:
            flat = one_line(x)
            if (start in flat) if start else pattern.search(flat): return x if 20 <= len(x) <= 300 and x[0].isalpha() else None
        return None


def unique(pairs):
    """Without the questions that come with two answers."""
    answers = {}
    for q, a in pairs: answers.setdefault(q, set()).add(a)
    return [(q, a) for q, a in dict.fromkeys(pairs) if len(answers[q]) == 1]


def ask_person(r, name):
    """-> (question, the name as it stands there)"""
    if "." in name and r.random() < .4: name = name.replace(".", "")
    return r.choice([f"Who is {name}?", f"Who is {name}?", f"Who was {name}?", f"Tell me about {name}.",
                     f"What do we learn about {name}?", f"What does it say about {name}?", f"Who's {name}?",
                     f"What do you know about {name}?", f"Is {name} mentioned?", f"Who is this {name}?"]), name


def support(answer, question, sentences):
    """The sentence that most words of a free answer stand in, or None: what a person would point at."""
    words = lambda t: {w for w in re.findall(r"[a-z]{3,}", t.lower())} - NOT_SUBJECTS
    a, q = words(answer), words(question)
    if not a: return None
    best, most = None, 0
    for x in sentences:
        if not 15 <= len(x) <= 300: continue
        w = words(x)
        value = 3 * len(a & w) / len(a) + len(q & w) / (len(q) + 1)
        if value > most and len(a & w) >= .6 * len(a): best, most = x, value
    return best
