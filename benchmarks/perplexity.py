#!/usr/bin/env python3
"""What a number format costs a model: its perplexity on one text, format beside format.

    perplexity.py [--binary build/bin/sluice] [--text FILE] [--dtype NAME ...] MODEL...

Every line of the text is a document; `sluice generate --input` gives the logprob of each of its tokens
but the first. Without --text the documents are paragraphs of the embedded models' own grammar
(models/training), English and Chinese by turns, drawn with another seed than what they were trained on.
MODEL is a package or a Hugging Face folder, "own" as a dtype is the model's own. Python's standard library only.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SEED = 1  # of the text; the models were trained on text of seed 20
PARAGRAPHS = 200
DTYPES = ["own", "int8", "int4"]


def held_out(paragraphs: int = PARAGRAPHS) -> list[str]:
    """Paragraphs of the grammar, English and Chinese by turns."""
    training = ROOT / "models" / "training"
    sys.path.insert(0, str(training))
    from sentences import Writer  # pylint: disable=import-outside-toplevel

    writers = [Writer(training / "grammar" / f"{name}.txt", SEED) for name in ("en", "zh")]
    return [writers[i % 2].paragraph() for i in range(paragraphs)]


def measure(binary: str, model: str, dtype: str, documents: list[str]) -> dict[str, object]:
    """Mean loss a token, in nats, of the documents under the model in this format."""
    request = {"max_tokens": 1, "prompt_logprobs": 0, "temperature": 0}
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as lines:
        for document in documents:
            lines.write(json.dumps({"prompt": document, **request}) + "\n")
        lines.flush()
        command = [binary, "generate", "--model", model, "--input", lines.name, "--quiet"]
        if dtype != "own":
            command += ["--dtype", dtype]
        answers = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.decode()
    losses = [-position["logprob"] for answer in map(json.loads, answers.splitlines())
              for position in answer["prompt_logprobs"][1:]]
    loss = math.fsum(losses) / len(losses)
    return {"model": model, "dtype": dtype, "documents": len(documents), "tokens": len(losses),
            "loss": loss, "perplexity": math.exp(loss)}


def main() -> None:
    """Prints a table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="+", help="package or Hugging Face folder")
    parser.add_argument("--binary", default=str(ROOT / "build/bin/sluice"))
    parser.add_argument("--dtype", action="append", help="default: own, int8 and int4")
    parser.add_argument("--text", type=Path, help="a document a line")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    documents = held_out()
    if arguments.text:
        text = arguments.text.read_text(encoding="utf-8")
        documents = [line for line in text.splitlines() if line.strip()]
    rows = [measure(arguments.binary, model, dtype, documents)
            for model in arguments.model for dtype in arguments.dtype or DTYPES]
    if arguments.json:
        print(json.dumps(rows))
        return
    print(f"{'model':32} {'dtype':6} {'tokens':>8} {'loss':>8} {'perplexity':>11} {'change':>8}")
    first: dict[str, float] = {}
    for row in rows:
        base = first.setdefault(str(row["model"]), float(str(row["perplexity"])))
        change = 100 * (float(str(row["perplexity"])) / base - 1)
        print(f"{row['model']:32} {row['dtype']:6} {row['tokens']:8} {row['loss']:8.4f} "
              f"{row['perplexity']:11.4f} {change:+7.2f}%")


if __name__ == "__main__":
    main()
