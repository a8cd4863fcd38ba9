"""Trains the tokenizers of the default models and writes their Hugging Face files.

tokenizers_train.py --corpus DIR --out DIR

llama: a SentencePiece BPE model with byte fallback, as LLaMA's. bloom: a byte-level BPE
`tokenizer.json` with the pre-tokenizer and the decoder of BLOOM's.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import BloomTokenizerFast, LlamaTokenizer

VOCABULARY = 4096
CONTEXT_TOKENS = 512
BLOOM_SPLIT = r" ?[^(\s|[.,!?…。，、।۔،])]+"
# Generated text repeats itself: a part of it is enough for its words to become tokens.
GENERATED_SHARE_CHARACTERS = 400_000
# Chinese runs are cut at random into lengths of about a word. Otherwise the sentences of the
# grammar become one token each, because nothing else ends a run.
CUT_LENGTHS, CUT_WEIGHTS = (1, 2, 3, 4), (10, 60, 15, 15)
_HANZI_RUN = re.compile(r"[\u4e00-\u9fff]{3,}")

# The models have not learned to talk: it shows how a chat goes through the server, no more.
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {%- if message['role'] == 'system' %}
        {{- message['content'] | trim + '\\n\\n' }}
    {%- elif message['role'] == 'user' %}
        {{- 'User: ' + message['content'] | trim + '\\n' }}
    {%- elif message['role'] == 'assistant' %}
        {{- 'Assistant: ' + message['content'] | trim + eos_token + '\\n' }}
    {%- else %}
        {{- raise_exception('unknown role ' + message['role']) }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'Assistant:' }}
{%- endif %}
"""


def cut_runs(text: str, mark: str, rng: random.Random) -> str:
    """Puts `mark` into each run of Chinese characters at random distances."""

    def cut(match: re.Match[str]) -> str:
        run, parts = match.group(0), []
        while run:
            length = rng.choices(CUT_LENGTHS, CUT_WEIGHTS)[0]
            parts.append(run[:length])
            run = run[length:]
        return mark.join(parts)

    return _HANZI_RUN.sub(cut, text)


def lines(corpus: Path, mark: str) -> Iterator[str]:
    """Yields the paragraphs that the tokenizers learn from, Chinese runs cut with `mark`."""
    rng = random.Random(20)
    for path in sorted(corpus.glob("*.txt")):
        text = path.read_text(encoding="utf-8")
        if "generated" in path.name:
            text = text[:GENERATED_SHARE_CHARACTERS]
        yield from (cut_runs(line, mark, rng) for line in text.splitlines() if line)


def train_llama(corpus: Path, folder: Path) -> None:
    """Writes tokenizer.model and its Hugging Face configuration."""
    with tempfile.TemporaryDirectory() as scratch:
        text = Path(scratch) / "text.txt"
        text.write_text("\n".join(lines(corpus, "\t")), encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(text),
            model_prefix=f"{scratch}/tokenizer",
            vocab_size=VOCABULARY,
            model_type="bpe",
            byte_fallback=True,
            character_coverage=0.998,
            split_digits=True,
            pretokenization_delimiter="\t",
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
            allow_whitespace_only_pieces=True,
            max_sentence_length=20_000,
            unk_id=0,
            bos_id=1,
            eos_id=2,
            pad_id=-1,
            num_threads=1,
            minloglevel=1,
        )
        tokenizer = LlamaTokenizer(
            f"{scratch}/tokenizer.model", model_max_length=CONTEXT_TOKENS, legacy=False
        )
        tokenizer.chat_template = "{{- bos_token }}" + CHAT_TEMPLATE
        tokenizer.save_pretrained(folder)


def train_bloom(corpus: Path, folder: Path) -> None:
    """Writes tokenizer.json and its Hugging Face configuration."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(BLOOM_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<unk>", "<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=24,
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines(corpus, "\n"), trainer)
    wrapped = BloomTokenizerFast(tokenizer_object=tokenizer, model_max_length=CONTEXT_TOKENS)
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(folder)
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["decoder"]["use_regex"] = False  # As in BLOOM's file; the library cannot set it.
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    """Trains both tokenizers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--corpus", type=Path, required=True, help="what corpus.py wrote")
    parser.add_argument("--out", type=Path, required=True, help="writes llama/ and bloom/ here")
    arguments = parser.parse_args()
    train_llama(arguments.corpus, arguments.out / "llama")
    train_bloom(arguments.corpus, arguments.out / "bloom")


if __name__ == "__main__":
    main()
