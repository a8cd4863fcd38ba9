"""Writes the golden data of tests/golden with Transformers in float32 on one thread.

    golden.py model --hf DIR --out tests/golden/llama_tiny
    golden.py variants --out tests/golden/variants
    golden.py rope --out tests/golden/rope
    golden.py tokenizers --llama DIR --bloom DIR --out tests/golden/tokenizers

golden.json of a model: {"prompts": [{"text", "token_ids", "greedy", "min_gap"}]}, in which `greedy`
are the 64 tokens that follow, and `min_gap` is the smallest distance between the best and the
second best logit on the way. golden.safetensors holds for prompt I either

    logits.I       float32 [P, V]   of every position (small vocabularies), or
    last.I         float32 [V]      of the last position,
    top_ids.I      int32   [P, 8]   the best ids of every position, the best first,
    top_values.I   float32 [P, 8]   their logits,
    logsumexp.I    float32 [P]      of every position.

16-bit weights are widened to float32 first: the golden data is the exact model's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import sentencepiece
import torch
from golden_texts import MODEL_PROMPTS, TOKENIZER_TEXTS
from golden_rope import ROPE_CASES
from golden_variants import VARIANTS, randomize
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    DynamicCache,
    LlamaConfig,
    PreTrainedModel,
)
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
from transformers.models.gpt_neox import modeling_gpt_neox
from transformers.models.llama import modeling_llama

GREEDY_TOKENS = 64
TOP = 8
SMALLEST_GAP = 1e-3  # A kernel's rounding must not be able to change a greedy token.
SMALL_VOCABULARY = 512
VARIANT_PROMPT_TOKENS = (1, 7, 33)


def load_float32(folder: Path) -> PreTrainedModel:
    """Loads a Hugging Face folder with its weights widened to float32."""
    config = json.loads((folder / "config.json").read_text())
    if "partial_rotary_factor" in config:
        # LLaMA's code has the frequencies for it, but rotates whole heads; GPT-NeoX's is the same
        # rotation, and leaves the rest of a head alone.
        modeling_llama.apply_rotary_pos_emb = modeling_gpt_neox.apply_rotary_pos_emb
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    )
    return model.eval()


@torch.no_grad()
def logits_of(model: PreTrainedModel, ids: list[int]) -> torch.Tensor:
    """Returns float32 [positions, V], computed without a cache."""
    return model(torch.tensor([ids]), use_cache=False).logits[0].float()


@torch.no_grad()
def greedy(model: PreTrainedModel, ids: list[int]) -> tuple[list[int], float]:
    """Returns the next GREEDY_TOKENS greedy tokens, and the smallest gap between best and second.

    End tokens do not stop it: an engine is compared with ignore-eos. Dynamic rotary positions
    depend on the length of the whole input, so there a token at a time goes through the cache.
    """
    ids, gap = list(ids), float("inf")
    start = len(ids)
    scaling = getattr(model.config, "rope_scaling", None) or {}
    cache = DynamicCache() if scaling.get("rope_type") == "dynamic" else None
    for _ in range(GREEDY_TOKENS):
        if cache is None:
            logits = logits_of(model, ids)
        else:
            fed = ids[cache.get_seq_length() :]
            logits = model(torch.tensor([fed]), past_key_values=cache, use_cache=True).logits[0]
        best = logits[-1].topk(2)
        gap = min(gap, float(best.values[0] - best.values[1]))
        ids.append(int(best.indices[0]))
    return ids[start:], gap


def write_golden(
    model: PreTrainedModel, prompts: list[tuple[str, list[int]]], out: Path, wanted: int
) -> None:
    """Writes golden.json and golden.safetensors of `wanted` prompts without a near-tie."""
    entries: list[dict[str, object]] = []
    tensors: dict[str, torch.Tensor] = {}
    for text, ids in prompts:
        if len(entries) == wanted:
            break
        tokens, gap = greedy(model, ids)
        if gap < SMALLEST_GAP:
            print(f"{out.name}: left out a prompt of {len(ids)} tokens, gap {gap:.1e}")
            continue
        logits = logits_of(model, ids)
        number = len(entries)
        if logits.shape[1] <= SMALL_VOCABULARY:
            tensors[f"logits.{number}"] = logits
        else:
            top = logits.topk(TOP)
            tensors[f"last.{number}"] = logits[-1].clone()
            tensors[f"top_ids.{number}"] = top.indices.to(torch.int32)
            tensors[f"top_values.{number}"] = top.values
            tensors[f"logsumexp.{number}"] = logits.logsumexp(-1)
        entries.append({"text": text, "token_ids": ids, "greedy": tokens, "min_gap": gap})
    if len(entries) < wanted:
        raise SystemExit(f"{out.name}: only {len(entries)} prompts without a near-tie")
    out.mkdir(parents=True, exist_ok=True)
    lines = ",\n  ".join(json.dumps(entry, ensure_ascii=False) for entry in entries)
    (out / "golden.json").write_text(f'{{"prompts": [\n  {lines}\n]}}\n', encoding="utf-8")
    save_file({name: t.contiguous() for name, t in tensors.items()}, out / "golden.safetensors")
    gaps = ", ".join(f"{entry['min_gap']:.3f}" for entry in entries)
    print(f"{out.name}: {len(entries)} prompts, smallest gaps {gaps}")


def write_model(hf: Path, out: Path) -> None:
    """Golden data of a trained model."""
    tokenizer = AutoTokenizer.from_pretrained(hf, use_fast=(hf / "tokenizer.json").exists())
    prompts = [(text, tokenizer.encode(text)) for text in MODEL_PROMPTS]
    model = load_float32(hf)
    write_golden(model, prompts, out, wanted=6)
    for entry in json.loads((out / "golden.json").read_text(encoding="utf-8"))["prompts"]:
        print("  >", entry["text"][-40:], "|", tokenizer.decode(entry["greedy"])[:120])


def write_variants(out: Path, only: list[str]) -> None:
    """Random models that cover the graph's variants, with full logits."""
    for seed, (name, variant) in enumerate(VARIANTS.items()):
        if only and name not in only:
            continue
        generator = torch.Generator().manual_seed(400 + seed)
        config = variant.config()
        model = AutoModelForCausalLM.from_config(config)
        randomize(model, generator)
        model.to(variant.dtype).save_pretrained(out / name)
        (out / name / "generation_config.json").unlink(missing_ok=True)
        if variant.rewrite is not None:
            variant.rewrite(out / name)
        prompts = []
        for length in VARIANT_PROMPT_TOKENS:
            ids = torch.randint(4, config.vocab_size, (length,), generator=generator).tolist()
            prompts.append(("", ids))
        for _ in range(20):  # in place of prompts with a near-tie
            ids = torch.randint(4, config.vocab_size, (19,), generator=generator).tolist()
            prompts.append(("", ids))
        write_golden(load_float32(out / name), prompts, out / name, wanted=3)
        if variant.rewrite_config is not None:
            variant.rewrite_config(out / name)


def write_rope(out: Path) -> None:
    """Rows of rotary tables: rope.json has the configs, rope.safetensors cos.I and sin.I [P, D / 2].

    A row is what the model's forward computes for that position in a call that ends with it.
    """
    cases = []
    tensors = {}
    for number, (name, case) in enumerate(ROPE_CASES.items()):
        config = LlamaConfig(**case.fields)
        rope_type = (config.rope_scaling or {}).get("rope_type", "default")
        rows: list[torch.Tensor] = []
        for position in case.positions:
            length = torch.tensor(position + 1) if rope_type == "dynamic" else None
            if length is not None and length <= config.max_position_embeddings:
                length = None
            frequencies, scale = ROPE_INIT_FUNCTIONS[rope_type](config, "cpu", seq_len=length)
            angles = frequencies.float() * torch.tensor(position).float()
            rows.append(torch.stack([angles.cos() * scale, angles.sin() * scale]))
        tensors[f"cos.{number}"] = torch.stack([row[0] for row in rows])
        tensors[f"sin.{number}"] = torch.stack([row[1] for row in rows])
        cases.append({"name": name, "config": case.fields, "positions": case.positions})
    out.mkdir(parents=True, exist_ok=True)
    lines = ",\n  ".join(json.dumps(case) for case in cases)
    (out / "rope.json").write_text(f'{{"cases": [\n  {lines}\n]}}\n')
    save_file({name: t.contiguous() for name, t in tensors.items()}, out / "rope.safetensors")
    print(f"rope: {len(cases)} tables")


def write_tokenizers(llama: Path, bloom: Path, out: Path) -> None:
    """Token ids of TOKENIZER_TEXTS, without special tokens, special spellings as plain text."""
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(llama / "tokenizer.model"))
    bytes_bpe = Tokenizer.from_file(str(bloom / "tokenizer.json"))
    bytes_bpe.encode_special_tokens = True
    out.mkdir(parents=True, exist_ok=True)
    encoders: dict[str, tuple[Callable[[str], list[int]], Callable[[list[int]], str]]] = {
        "llama_tiny": (pieces.encode, pieces.decode),
        "bloom_tiny": (
            lambda text: bytes_bpe.encode(text, add_special_tokens=False).ids,
            lambda ids: bytes_bpe.decode(ids, skip_special_tokens=False),
        ),
    }
    for name, (encode, decode) in encoders.items():
        lines = []
        for text in TOKENIZER_TEXTS:
            entry = {"text": text, "ids": encode(text)}
            entry["decoded"] = decode(entry["ids"])
            lines.append(json.dumps(entry, ensure_ascii=True))
        (out / f"{name}.json").write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")
        print(f"{name}: {len(lines)} texts")


def main() -> None:
    """Reads the command and writes its golden data."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    model = commands.add_parser("model")
    model.add_argument("--hf", type=Path, required=True)
    variants = commands.add_parser("variants")
    variants.add_argument("--only", nargs="+", default=[], metavar="NAME")
    rope = commands.add_parser("rope")
    tokenizers = commands.add_parser("tokenizers")
    tokenizers.add_argument("--llama", type=Path, required=True)
    tokenizers.add_argument("--bloom", type=Path, required=True)
    for command in (model, variants, rope, tokenizers):
        command.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.command == "model":
        write_model(arguments.hf, arguments.out)
    elif arguments.command == "variants":
        write_variants(arguments.out, arguments.only)
    elif arguments.command == "rope":
        write_rope(arguments.out)
    else:
        write_tokenizers(arguments.llama, arguments.bloom, arguments.out)


if __name__ == "__main__":
    main()
