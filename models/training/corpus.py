"""Builds the corpus of the default models: English and Chinese, real text and generated text.

    corpus.py --cache DIR --out DIR

Real text comes from Debian packages, fetched with `apt-get download` and unpacked with `dpkg -x`
(nothing is installed); README.md lists them with their licences. Generated text comes from
sentences.py. Each output file holds documents divided by an empty line; a document's paragraphs
stand on a line each.
"""

from __future__ import annotations

import argparse
import html
import random
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from sentences import Writer

PACKAGES = ("debian-handbook", "gnome-user-docs", "fortunes-zh")
SEED = 20
GENERATED_CHARACTERS = {"en": 4_000_000, "zh": 1_600_000}

_TAG = re.compile(r"<[^>]+>")
_COMMENT = re.compile(r"<!--.*?-->", re.S)
_HANZI = re.compile(r"[\u4e00-\u9fff]")
_ODD = re.compile(r"[#$%^*+=<>\\{}|~_@/\[\]]|--|https?:")
_COLOUR = re.compile(r"\x1b\[\d*m")
_SPACES_BETWEEN_HANZI = re.compile(
    r"(?<=[\u4e00-\u9fff\u3000-\u303f\uff00-\uffef]) +(?=[\u4e00-\u9fff\u3000-\u303f\uff00-\uffef])"
)


def fetch(cache: Path) -> Path:
    """Downloads and unpacks PACKAGES below `cache`; returns the folder of unpacked trees."""
    tree = cache / "tree"
    for package in PACKAGES:
        target = tree / package
        if target.is_dir():
            continue
        archives = cache / "archives"
        archives.mkdir(parents=True, exist_ok=True)
        subprocess.run(["apt-get", "download", package], cwd=archives, check=True)
        target.mkdir(parents=True)
        archive = next(archives.glob(f"{package}_*.deb"))
        subprocess.run(["dpkg", "-x", str(archive), str(target)], check=True)
    return tree


def plain(markup: str) -> str:
    """Drops tags, decodes entities, and joins white space."""
    text = html.unescape(_TAG.sub("", markup))
    text = re.sub(r"\s+", " ", text).strip()
    text = _SPACES_BETWEEN_HANZI.sub("", text)
    return text.replace("\u00a0", " ").replace("\u200b", "").replace("\u00ad", "")


def is_prose(text: str, language: str) -> bool:
    """True for whole sentences of the language without commands, paths or cross references."""
    if _ODD.search(text):
        return False
    share = len(_HANZI.findall(text)) / max(1, len(text))
    if language == "zh":
        return share > 0.5 and len(text) >= 15 and text[-1] in "。！？"
    return (
        share == 0
        and len(text) >= 60
        and text[-1] in ".!?"
        and text.isascii()
        and re.search(r"\b(Section|Chapter|Figure|Table) \d|See for|\bsee \.", text) is None
    )


def handbook(folder: Path, language: str) -> Iterator[list[str]]:
    """Yields the paragraphs of every page of the Debian Administrator's Handbook."""
    quotes = str.maketrans({"\u2019": "'", "\u2018": "'", "\u2013": "-", "\u2014": "-"})
    if language == "en":
        quotes |= str.maketrans({"\u201c": '"', "\u201d": '"', "\u2026": "..."})
    for page in sorted(folder.glob("*.html")):
        source = page.read_text(encoding="utf-8")
        found = re.findall(r'<div class="para">(.*?)</div>', source, re.S)
        yield [plain(each).translate(quotes) for each in found]


def gnome_help(folder: Path, language: str) -> Iterator[list[str]]:
    """Yields the paragraphs of every page of GNOME's user guides (Mallard XML)."""
    quotes = str.maketrans({"\u2019": "'", "\u2018": "'", "\u2013": "-", "\u2014": "-"})
    if language == "en":
        quotes |= str.maketrans({"\u201c": '"', "\u201d": '"', "\u2026": "..."})
    for page in sorted(folder.glob("*/*.page")):
        source = _COMMENT.sub("", page.read_text(encoding="utf-8"))
        source = re.sub(r"<(info|screen|code|table)\b.*?</\1>", "", source, flags=re.S)
        found = re.findall(r"<p>(.*?)</p>", source, re.S)
        # A link without text leaves a hole in its sentence.
        whole = [each for each in found if not re.search(r"<link[^>]*/>", each)]
        yield [plain(each).translate(quotes) for each in whole]


def poems(folder: Path) -> Iterator[str]:
    """Yields poems of the Tang and Song dynasties: title, author, verses."""
    for name in ("tang300", "song100"):
        source = _COLOUR.sub("", (folder / name).read_text(encoding="utf-8"))
        for poem in source.split("\n%\n"):
            yield "\n".join(line.strip() for line in poem.splitlines() if line.strip())


def real_documents(tree: Path, language: str) -> list[str]:
    """All documents of real prose in one language, each paragraph once."""
    seen: set[str] = set()
    locale = {"en": ("en-US", "C"), "zh": ("zh-CN", "zh_CN")}[language]
    handbook_folder = tree / "debian-handbook/usr/share/doc/debian-handbook/html" / locale[0]
    gnome_folder = tree / "gnome-user-docs/usr/share/help" / locale[1]
    documents = []
    for paragraphs in (*handbook(handbook_folder, language), *gnome_help(gnome_folder, language)):
        kept = [each for each in paragraphs if each and is_prose(each, language)]
        kept = [each for each in kept if each not in seen]
        seen.update(kept)
        if kept:
            documents.append("\n".join(kept))
    return documents


def generated_documents(language: str) -> Iterator[str]:
    """Documents of one to four paragraphs from the sentence grammar, up to a number of letters."""
    grammar = Path(__file__).parent / "grammar" / f"{language}.txt"
    writer = Writer(grammar, SEED)
    rng = random.Random(SEED)
    written = 0
    while written < GENERATED_CHARACTERS[language]:
        document = "\n".join(writer.paragraph() for _ in range(rng.randint(1, 4)))
        written += len(document)
        yield document


def write(path: Path, documents: Iterable[str]) -> None:
    """Writes the documents in a fixed random order, and reports their size."""
    shuffled = list(documents)
    random.Random(SEED).shuffle(shuffled)
    path.write_text("\n\n".join(shuffled) + "\n", encoding="utf-8")
    print(f"{path.name}: {len(shuffled)} documents, {sum(map(len, shuffled))} characters")


def main() -> None:
    """Writes en_real, zh_real, zh_poems, en_generated and zh_generated .txt."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cache", type=Path, required=True, help="folder for downloaded packages")
    parser.add_argument("--out", type=Path, required=True, help="folder for the corpus files")
    arguments = parser.parse_args()
    tree = fetch(arguments.cache)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for language in ("en", "zh"):
        write(arguments.out / f"{language}_real.txt", real_documents(tree, language))
        write(arguments.out / f"{language}_generated.txt", generated_documents(language))
    fortunes = tree / "fortunes-zh/usr/share/games/fortunes"
    write(arguments.out / "zh_poems.txt", poems(fortunes))


if __name__ == "__main__":
    main()
