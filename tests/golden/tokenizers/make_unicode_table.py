#!/usr/bin/env python3
"""Writes src/tokenizer/recent_characters.cpp: where the reference's Unicode tables are not ours.

Its regular expressions know more characters than Unicode 14, its normal forms fewer.

Needs tokenizers 0.22 and a Python whose unicodedata is Unicode 14, as Debian's PCRE2 10.42 is.
"""

import os
import sys
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

CATEGORIES = ("Lu Ll Lt Lm Lo Mn Mc Me Nd Nl No Pc Pd Ps Pe Pi Pf Po Sm Sc Sk So").split()
SEPARATOR = "\x01"
TARGET = "../../../src/tokenizer/recent_characters.cpp"

HEAD = """\
// Made by tests/golden/tokenizers/make_unicode_table.py; do not edit.
#include "tokenizer/recent_characters.h"

namespace sluice::tokenizer {
namespace {

constexpr RecentRange kRanges[] = {
"""
MIDDLE = """\
};

constexpr CharacterRange kUnorderedMarks[] = {
"""
TAIL = """\
};

}  // namespace

std::span<const RecentRange> recent_ranges() { return kRanges; }
std::span<const CharacterRange> unordered_mark_ranges() { return kUnorderedMarks; }

}  // namespace sluice::tokenizer
"""


def members(category):
    splitter = pre_tokenizers.Split(Regex(r"\p{" + category + "}"), "isolated")
    found = set()
    for first in range(0, 0x110000, 4096):
        block = [chr(c) for c in range(first, first + 4096) if not 0xD800 <= c <= 0xDFFF]
        for piece, _ in splitter.pre_tokenize_str("".join(SEPARATOR + c for c in block)):
            if SEPARATOR not in piece:
                found.update(map(ord, piece))
    return found


def unordered_marks(recent):
    """Marks with a combining class that the reference's normal forms leave where they are."""
    form = normalizers.NFD()
    found = []
    for character in range(0x300, 0x110000):
        mark = chr(character)
        if not unicodedata.combining(mark) and not recent.get(character, "").startswith("M"):
            continue
        pairs = (mark + "\u0334", "\u0301" + mark)  # of classes 1 and 230
        if all(form.normalize_str("a" + pair) == "a" + pair for pair in pairs):
            found.append(character)
    return found


def main():
    assert unicodedata.unidata_version == "14.0.0", unicodedata.unidata_version
    recent = {}
    for category in CATEGORIES:
        for character in members(category):
            if unicodedata.category(chr(character)) == "Cn":
                recent[character] = category
    ranges = []
    for character, category in sorted(recent.items()):
        if ranges and ranges[-1][1] == character - 1 and ranges[-1][2] == category:
            ranges[-1][1] = character
        else:
            ranges.append([character, character, category])
    os.chdir(os.path.dirname(os.path.abspath(sys.argv[0])))
    marks = []
    for character in unordered_marks(recent):
        if marks and marks[-1][1] == character - 1:
            marks[-1][1] = character
        else:
            marks.append([character, character])
    mark_cells = [f"{{0x{first:X}, 0x{last:X}}}," for first, last in marks]
    cells = [f"{{0x{first:X}, 0x{last:X}, \"{category}\"}}," for first, last, category in ranges]
    with open(TARGET, "w", encoding="utf-8") as file:
        file.write(HEAD + "".join(f"    {cell}\n" for cell in cells) + MIDDLE +
                   "".join(f"    {cell}\n" for cell in mark_cells) + TAIL)
    print(len(marks), "ranges of unordered marks;", len(ranges), "ranges,", len(recent), "characters,",
          len({c >> 8 for c in recent}), "blocks of 256")


if __name__ == "__main__":
    main()
