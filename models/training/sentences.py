"""Writes paragraphs from the sentence grammars in grammar/*.txt (our own text, Apache-2.0).

A grammar file has topics, `[name]` or `[name, in order]` (its sentences keep their order in the
file); below each stand slots and sentences:

    @slot = a | b | c          values of a slot; `@x,y = a,b | c,d` binds two slots together
    ^ sentence                 may open a paragraph
    - sentence                 may continue it
    $ sentence                 may close it

`{slot}` inserts a value. A slot whose name starts with a capital keeps one value for the whole
paragraph, any other is drawn afresh and does not repeat within a sentence. Slots of `[shared]`
are visible in every topic.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass, field
from pathlib import Path

Slots = dict[tuple[str, ...], list[tuple[str, ...]]]
_SLOT = re.compile(r"\{(\w+)\}")


@dataclass
class Topic:
    """One topic of a grammar: its slots and its sentences by place in the paragraph."""

    slots: Slots = field(default_factory=dict)
    openings: list[str] = field(default_factory=list)
    middles: list[str] = field(default_factory=list)
    closings: list[str] = field(default_factory=list)
    is_ordered: bool = False


def load_grammar(path: Path) -> list[Topic]:
    """Reads one grammar file; the slots of `[shared]` are copied into every topic."""
    topics: dict[str, Topic] = {}
    topic = Topic()
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            name, _, order = line.strip("[]").partition(", ")
            topic = topics.setdefault(name, Topic(is_ordered=order == "in order"))
        elif line.startswith("@"):
            names, values = line[1:].split(" = ", 1)
            key = tuple(names.split(","))
            options = [value.strip() for value in values.split(" | ")]
            topic.slots[key] = [
                tuple(option.split(",")) if len(key) > 1 else (option,) for option in options
            ]
        else:
            kind = {"^": topic.openings, "-": topic.middles, "$": topic.closings}[line[0]]
            kind.append(line[2:])
    shared = topics.pop("shared").slots
    for topic in topics.values():
        topic.slots = {**shared, **topic.slots}
    return list(topics.values())


class Writer:
    """Draws paragraphs from one grammar with its own random generator."""

    def __init__(self, path: Path, seed: int) -> None:
        self._topics = load_grammar(path)
        self._random = random.Random(seed)
        self._is_english = path.stem == "en"

    def paragraph(self) -> str:
        """Returns one paragraph of three to eight sentences on one topic."""
        rng = self._random
        topic = rng.choice(self._topics)
        bound: dict[str, str] = {}
        for names, options in topic.slots.items():
            if names[0][0].isupper():
                bound.update(zip(names, rng.choice(options), strict=True))
        sentences = [rng.choice(topic.openings)]
        count = min(rng.randint(2, 6), len(topic.middles))
        chosen = rng.sample(range(len(topic.middles)), count)
        sentences += [topic.middles[i] for i in (sorted(chosen) if topic.is_ordered else chosen)]
        if rng.random() < 0.7:
            sentences.append(rng.choice(topic.closings))
        filled = [self._fill(sentence, topic, bound) for sentence in sentences]
        return (" " if self._is_english else "").join(filled)

    def _fill(self, sentence: str, topic: Topic, bound: dict[str, str]) -> str:
        """Replaces the slots of one sentence, again where a value holds a slot itself."""
        used: set[str] = set()

        def value(match: re.Match[str]) -> str:
            name = match.group(1)
            if name in bound:
                return bound[name]
            options = [option[0] for option in topic.slots[(name,)]]
            fresh = [option for option in options if option not in used] or options
            choice = self._random.choice(fresh)
            used.add(choice)
            return choice

        while _SLOT.search(sentence):
            sentence = _SLOT.sub(value, sentence)
        if self._is_english:
            start = 1 if sentence[0] == '"' else 0
            sentence = sentence[:start] + sentence[start].upper() + sentence[start + 1 :]
        return sentence
