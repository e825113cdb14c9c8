#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""make_unicode_tables.py [DIR] > engine/unicode_tables.c

Writes the character classes of the pre-tokeniser from the Unicode Character Database: UnicodeData.txt (general
category), PropList.txt (White_Space) and Scripts.txt (Han). DIR is where they lie; Debian's package unicode-data puts
them into /usr/share/unicode. The Unicode version is taken from the first line of Scripts.txt and written to the output.
"""
import re
import sys

LIMIT = 0x110000
BLOCK = 128
LETTER, NUMBER, SPACE, HAN, HEAD, TAIL = 1, 2, 4, 8, 16, 32  # as in engine/unicode_tables.h


def read_categories(path):
    """General category of every code point; the First/Last pairs of UnicodeData.txt are filled in."""
    category = ["Cn"] * LIMIT
    first = None
    for line in open(path, encoding="ascii"):
        field = line.split(";")
        code = int(field[0], 16)
        if field[1].endswith(", First>"):
            first = code
            continue
        start = first if field[1].endswith(", Last>") else code
        first = None
        category[start:code + 1] = [field[2]] * (code + 1 - start)
    return category


def read_property(path, name):
    """The set of code points that a file of 'range ; name # comment' lines gives a name."""
    members = set()
    for line in open(path, encoding="utf-8"):
        match = re.match(r"([0-9A-F]+)(?:\.\.([0-9A-F]+))?\s*;\s*(\w+)", line)
        if match and match[3] == name:
            members.update(range(int(match[1], 16), int(match[2] or match[1], 16) + 1))
    return members


def classify(category, is_space, is_han):
    bits = LETTER if category[0] == "L" else NUMBER if category[0] == "N" else 0
    bits |= SPACE if is_space else 0
    if is_han:
        return bits | HAN
    either = category in ("Lm", "Lo") or category[0] == "M"
    bits |= HEAD if either or category in ("Lu", "Lt") else 0
    bits |= TAIL if either or category == "Ll" else 0
    return bits


def print_table(declaration, values):
    print(f"{declaration} = {{")
    for at in range(0, len(values), 32):
        print("    " + ", ".join(map(str, values[at:at + 32])) + ",")
    print("};")


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else "/usr/share/unicode"
    version = re.search(r"Scripts-([\d.]+)\.txt", open(f"{folder}/Scripts.txt", encoding="utf-8").readline())[1]
    category = read_categories(f"{folder}/UnicodeData.txt")
    space = read_property(f"{folder}/PropList.txt", "White_Space")
    han = read_property(f"{folder}/Scripts.txt", "Han")
    classes = [classify(category[c], c in space, c in han) for c in range(LIMIT)]
    blocks, index = {}, []
    for at in range(0, LIMIT, BLOCK):
        index.append(blocks.setdefault(tuple(classes[at:at + BLOCK]), len(blocks)))
    assert len(blocks) <= 256
    print("/* SPDX-License-Identifier: MIT AND Unicode-DFS-2016\n *\n"
          f" * Character classes of Unicode {version}: a block number for every {BLOCK} code points, then the blocks.\n"
          " * Written by tools/make_unicode_tables.py; do not edit.\n */")
    print("/* clang-format off */")
    print('#include "engine/unicode_tables.h"\n')
    print_table(f"const unsigned char unicode_block_of[{len(index)}]", index)
    print()
    print_table(f"const unsigned char unicode_class_of[{len(blocks) * BLOCK}]", [c for b in blocks for c in b])


main()
