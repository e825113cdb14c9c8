# SPDX-License-Identifier: MIT
"""Plain questions about real novels, as a person asks them: made by rules (tools/train/prose.py) and written by hand.

NOVELS names books in the public domain (Project Gutenberg has all): how the held-out document begins, where the stretch
to be read begins, and questions with a pattern that a right answer has; None where the answer is that it is not there.
"""
import re
from sets import Document, flat, is_denial, passage, random

import prose  # beside passage

LENGTH = 12000  # characters of a stretch
HERE, NOT_HERE = ("novel", "plain", "person"), ("stranger", "not in the novel")
NOVELS = [
    ("Title: Tom Jones", "In that part of the western division", [
        ("Who is Mr Allworthy?", r"gentleman|favourite of both|fortune|squire|London"),
        ("Who is Miss Bridget Allworthy?", r"sister|this lady|charms of person"),
        ("What did Mr Allworthy find in his bed?", r"infant|child"),
        ("Where had Mr Allworthy been?", r"London"),
        ("How many children did Mr Allworthy have?", r"three"),
        ("Where did Allworthy live?", r"Somersetshire|in the country"),
        ("Who is Mrs Wilkins?", r"Deborah|servant|elderly"),
        ("Who is Captain Nemo?", None), ("Who is Elizabeth Bennet?", None), ("Why did the train stop?", None)]),
    ("Title: The Time Machine", "The Time Traveller (for so", [
        ("Who is Filby?", r"argumentative|red hair"), ("Who had red hair?", r"Filby"),
        ("What colour were the Time Traveller's eyes?", r"grey"),
        ("Who became pensive?", r"Filby"), ("What is the fourth dimension?", r"Time"),
        ("Who was expounding a recondite matter?", r"Time Traveller"),
        ("What was Professor Simon Newcomb expounding?", r"New York Mathematical|geometry|this to"),
        ("What does it say about a weather record?", r"diagram|barometer"),
        ("Who is Anne Shirley?", None), ("Where did the captain hide the gold?", None)]),
    ("Title: The Age of Innocence", "On a January evening", [
        ("Who was singing in Faust?", r"Nilsson"), ("Where was Christine Nilsson singing?", r"Academy"),
        ("When did Newland Archer dine?", r"seven"), ("Who is Newland Archer?", r"young man|dilettante|club box|curtain"),
        ("Who allowed smoking in the Gothic library?", r"Archer"),
        ("Who is Mrs. Manson Mingott?", r"obesity|box of old|Catherine|matriarch|Opera"),
        ("What flower did he wear in his buttonhole?", r"gardenia|flower"),
        ("Who is Sherlock Holmes?", None), ("What does it say about submarines?", None),
        ("When did the ship reach Lisbon?", None)]),
    ("Title: Anne of the Island", "\"Harvest is ended", [
        ("Who had been picking apples?", r"Diana|Anne"), ("Where had Anne and Diana been picking apples?", r"orchard"),
        ("What did Diana twist on her left hand?", r"ring"), ("When is Mrs. Lynde going to move up?", r"tomorrow"),
        ("Whose pictures hung in the spare room?", r"Whitefield|Wellington"), ("Who is Charlie Sloane?", r"comfort|Sloane,\""),
        ("Where is Anne going?", r"Redmond|Kingsport"), ("What does it say about thistledown?", r"airy fleets"),
        ("Who is Captain Ahab?", None), ("What is the name of the dog?", None)]),
    ("THE ADVENTURES OF HARRY RICHMOND", "One midnight of a winter", [
        ("Who is Benjamin Sewis?", r"butler"), ("Who is Dorothy Beltham?", r"daughter"),
        ("Who is the squire's grandson?", r"Harry"), ("Where did Riversley Grange lie?", r"hollow|Hampshire"),
        ("When were the sleepers awakened?", r"midnight"), ("Who stood by his master's bedside?", r"Sewis"),
        ("What sort of man was the squire?", r"hunter|rider|drinker"),
        ("Who is Count Dracula?", None), ("Why did the aeroplane crash?", None)]),
    ("MICAH CLARKE", "I was born then in the year", [
        ("In which year was he born?", r"1664"), ("Where was he born?", r"Havant"),
        ("Who is Joseph Clarke?", r"father|Ironside"), ("What stood in the middle of the village?", r"church"),
        ("Who was cast into gaol?", r"Breckinridge|minister"), ("Who was known by the name of Ironside Joe?", r"father|Joseph"),
        ("Where did the Papists go for their Mass?", r"Portsmouth"),
        ("Who is Robinson Crusoe?", None), ("How much did the piano cost?", None)]),
]


def novels(docs):
    """The stretches of NOVELS that the held-out text has."""
    for begin, where, questions in NOVELS:
        text = next((d for d in docs if d.startswith(begin)), "")
        at = text.find(where)
        if at < 0: continue
        asks = [{"kind": "novel" if pattern else "not in the novel", "question": q, "pattern": pattern}
                for q, pattern in questions]
        yield Document(f"novel {begin}", 0, {"document.txt": text[at:at + LENGTH]}, asks)


def made(docs, seed, length, number, n_asks):
    """Questions by rule about a stretch of `length` tokens; strangers are names of another book."""
    r = random.Random(f"{seed} plain {length} {number}")
    size = int(length * 3.5)
    known = {w: 9 for d in docs for w in re.findall(r"\b[a-z]{2,}\b", d[:40000])}
    novels = [d for d in docs if len(d) > max(100000, size * 1.2) and not passage.is_code(d)] or \
        [d for d in docs if len(d) > size and not passage.is_code(d)]
    for _ in range(50):
        p = passage.Passage(r, passage.cut(r, r.choice(novels), size))
        if not p.index(): continue
        z = prose.Prose(r, p.text, p.sentences, known)
        plain, persons = [x for x in prose.unique(z.clauses()) if ' "' in x[1]], z.persons()
        if len(plain) >= 1 + (length >= 1000) and len(persons) >= 2: break
    r.shuffle(plain), r.shuffle(persons)
    asks = [{"kind": "plain", "question": q, "short": flat(a[:a.index(' "')].rstrip(".")), "sentence": flat(a[a.index(' "'):])}
            for q, a in plain[:n_asks]]
    asks += [{"kind": "person", "question": f"Who is {name}?", "name": name} for name, _ in persons[:n_asks]]
    other = r.choice(novels)
    names = prose.Prose(r, passage.cut(r, other, 30000), [], known).names
    strange = sorted(n for n in names if not any(w in p.text for w in n.split()))
    asks += [{"kind": "stranger", "question": f"Who is {n}?"} for n in r.sample(strange, min(len(strange), n_asks - 1))]
    return Document(f"plain {length} {number}", length, {"document.txt": p.text}, asks)


def is_right(ask, answer, files):
    """For the kinds of this page."""
    if ask["kind"] in NOT_HERE or is_denial(answer): return ask["kind"] in NOT_HERE and is_denial(answer)
    text = " ".join(answer.split())
    if ask["kind"] == "novel": return bool(re.search(ask["pattern"], text, re.I))
    if ask["kind"] == "plain": return ask["short"].lower() in text.lower() or ask["sentence"] in text
    document = flat(files["document.txt"])
    last = ask["name"].split()[-1]
    return any(len(q) > 15 and last in q and q in document for q in re.findall(r'"(.*)"', text) + re.findall(r'"([^"]*)"', text))
