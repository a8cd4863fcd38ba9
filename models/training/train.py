"""Trains one of the default models on the CPU and writes Hugging Face folders as it goes.

    train.py --family llama|bloom --corpus DIR --tokenizer DIR --out DIR --minutes 45

One thread is enough, so that both families can train side by side. The learning rate follows the
wall clock: the run ends on time on any machine, with as many tokens as the machine could do.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import (
    AutoTokenizer,
    BloomConfig,
    BloomForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

CONTEXT_TOKENS = 512
# Sequence length and rows per step of the two runs that README.md describes.
PHASES = {"256": (256, 8), "512": (512, 4)}
LOSS_ROWS = 512  # The logits of so many tokens are held at a time.
PEAK_LEARNING_RATE = 3e-3
WARM_UP_STEPS = 20
# How often a training row comes from each corpus file.
MIXTURE = {
    "en_real": 0.30,
    "zh_real": 0.14,
    "zh_poems": 0.03,
    "en_generated": 0.27,
    "zh_generated": 0.26,
}
SAMPLE_PROMPTS = (
    "人工智能的发展正在改变世界",
    "The weather today is",
    "Artificial intelligence",
    "今天天气很好，",
    "The Debian system",
    "Once upon a time,",
)


def make_model(family: str, vocabulary: int) -> PreTrainedModel:
    """Returns a freshly initialised model of about 3.4 million parameters."""
    torch.manual_seed(20)
    if family == "llama":
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=256,
                intermediate_size=512,
                num_hidden_layers=4,
                num_attention_heads=4,
                num_key_value_heads=2,
                max_position_embeddings=CONTEXT_TOKENS,
                tie_word_embeddings=True,
                bos_token_id=1,
                eos_token_id=2,
            )
        )
    return BloomForCausalLM(
        BloomConfig(
            vocab_size=vocabulary,
            hidden_size=192,
            n_layer=6,
            n_head=3,
            seq_length=CONTEXT_TOKENS,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=3,
        )
    )


class Corpus:
    """Token streams of the corpus files, and rows drawn from them.

    The last 2 % of each file's documents are held out.
    """

    def __init__(self, folder: Path, tokenizer: PreTrainedTokenizerBase, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._train: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        self._held_out: dict[str, tuple[np.ndarray, np.ndarray]] = {}
        for name in MIXTURE:
            documents = (folder / f"{name}.txt").read_text(encoding="utf-8").strip().split("\n\n")
            # LLaMA's tokenizer puts <s> in front, BLOOM's does not; both models end with </s>.
            ids = [
                np.array(tokenizer.encode(text) + [tokenizer.eos_token_id], dtype=np.int32)
                for text in documents
            ]
            cut = len(ids) - max(1, len(ids) // 50)
            self._train[name] = self._join(ids[:cut])
            self._held_out[name] = self._join(ids[cut:])
            print(f"{name}: {len(self._train[name][0])} tokens", flush=True)

    @staticmethod
    def _join(ids: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns all tokens, twice over so that a row never runs off the end, and the starts."""
        stream = np.concatenate(ids)
        starts = np.cumsum([0] + [len(each) for each in ids[:-1]])
        copies = 1 + math.ceil((CONTEXT_TOKENS + 1) / len(stream))
        return np.concatenate([stream] * copies), starts

    def batch(self, length: int, rows: int) -> torch.Tensor:
        """Returns int64 [rows, length + 1]; half of the rows begin where a document begins."""
        names = self._random.choice(list(MIXTURE), size=rows, p=list(MIXTURE.values()))
        picked = []
        for name in names:
            stream, starts = self._train[str(name)]
            if self._random.random() < 0.5:
                start = int(self._random.choice(starts))
            else:
                start = int(self._random.integers(starts[-1] + 1))
            picked.append(stream[start : start + length + 1])
        return torch.from_numpy(np.stack(picked).astype(np.int64))

    def held_out(self, name: str) -> torch.Tensor:
        """Returns int64 [rows, 257] from the documents that training never sees."""
        stream, _ = self._held_out[name]
        rows = min(8, max(1, (len(stream) - 1) // 256))
        return torch.from_numpy(
            np.stack([stream[i * 256 : i * 256 + 257] for i in range(rows)]).astype(np.int64)
        )


def make_loss(
    model: PreTrainedModel, family: str, is_compiled: bool
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Returns the mean cross entropy of int64 [rows, length + 1] in bf16 autocast."""
    body = model.model if family == "llama" else model.transformer
    if is_compiled:
        body = torch.compile(body, dynamic=False)

    def loss(tokens: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = body(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
            hidden = hidden.reshape(-1, hidden.shape[-1])
            targets = tokens[:, 1:].reshape(-1)
            total = hidden.new_zeros((), dtype=torch.float32)
            for rows, wanted in zip(hidden.split(LOSS_ROWS), targets.split(LOSS_ROWS), strict=True):
                logits = model.lm_head(rows).float()
                total = total + F.cross_entropy(logits, wanted, reduction="sum")
        return total / targets.numel()

    return loss


def make_optimizers(model: PreTrainedModel) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for everything else."""
    matrices, others = [], []
    for name, parameter in model.named_parameters():
        is_hidden_matrix = parameter.ndim == 2 and "embed" not in name
        (matrices if is_hidden_matrix else others).append(parameter)
    return [
        torch.optim.Muon(
            matrices, lr=PEAK_LEARNING_RATE, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(
            others, lr=PEAK_LEARNING_RATE, betas=(0.9, 0.97), weight_decay=0.0, fused=True
        ),
    ]


def learning_rate(share: float, step: int, decay_share: float) -> float:
    """Warm-up, constant, then linear down to a fiftieth over the last share."""
    decay = min(1.0, max(0.02, (1.0 - share) / decay_share))
    return PEAK_LEARNING_RATE * min(1.0, (step + 1) / WARM_UP_STEPS) * decay


def save(model: PreTrainedModel, tokenizer: Path, out: Path) -> None:
    """Writes the folder in bf16 aside and renames it into place."""
    aside = out.with_name(out.name + ".new")
    old = out.with_name(out.name + ".old")
    shutil.rmtree(aside, ignore_errors=True)
    shutil.rmtree(old, ignore_errors=True)
    copy = type(model)(model.config)
    copy.load_state_dict(model.state_dict())
    copy.to(torch.bfloat16).save_pretrained(aside)
    for file in tokenizer.iterdir():
        shutil.copy(file, aside / file.name)
    if out.exists():
        os.rename(out, old)
    os.rename(aside, out)
    shutil.rmtree(old, ignore_errors=True)


def samples(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Prints a continuation of each sample prompt."""
    torch.manual_seed(1)
    model.eval()
    for prompt in SAMPLE_PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        with torch.no_grad():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=50,
                do_sample=True,
                temperature=0.7,
                top_p=0.9,
                pad_token_id=2,
            )
        print("  >", tokenizer.decode(out[0], skip_special_tokens=True).replace("\n", "⏎"))
    model.train()


@dataclass
class Progress:
    """Where a run stands."""

    began: float
    step: int = 0
    tokens: int = 0
    smooth_loss: float = math.nan

    def add(self, loss: float, tokens: int) -> None:
        """Counts one step."""
        is_first = math.isnan(self.smooth_loss)
        self.smooth_loss = loss if is_first else 0.97 * self.smooth_loss + 0.03 * loss
        self.step += 1
        self.tokens += tokens

    def line(self) -> str:
        """Returns one line for the log."""
        seconds = time.monotonic() - self.began
        return (
            f"{seconds / 60:.1f} min, step {self.step}, {self.tokens} tokens, "
            f"loss {self.smooth_loss:.3f}, {self.tokens / seconds:.0f} tokens/s"
        )


def train(arguments: argparse.Namespace) -> None:
    """Trains until the time is over; saves every few minutes."""
    tokenizer = AutoTokenizer.from_pretrained(
        arguments.tokenizer, use_fast=arguments.family == "bloom"
    )
    corpus = Corpus(arguments.corpus, tokenizer, seed=20)
    model = make_model(arguments.family, len(tokenizer))
    if arguments.start_from:
        weights = load_file(arguments.start_from / "model.safetensors")
        model.load_state_dict(weights, strict=False)  # The tied output matrix is not in the file.
    print(f"{sum(p.numel() for p in model.parameters())} parameters", flush=True)
    save(model, arguments.tokenizer, arguments.out)
    loss_of = make_loss(model, arguments.family, is_compiled=not arguments.eager)
    optimizers = make_optimizers(model)
    progress = Progress(began=time.monotonic())
    last_save = progress.began
    length, rows = PHASES[arguments.phase]
    share = 0.0
    while share < 1.0:
        rate = learning_rate(share, progress.step, arguments.decay_share)
        loss = loss_of(corpus.batch(length, rows))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad()
        progress.add(float(loss.detach()), length * rows)
        if progress.step % 20 == 0:
            print(progress.line(), flush=True)
        if time.monotonic() - last_save > arguments.save_seconds:
            save(model, arguments.tokenizer, arguments.out)
            samples(model, tokenizer)
            last_save = time.monotonic()
        share = (time.monotonic() - progress.began) / (60 * arguments.minutes)
    save(model, arguments.tokenizer, arguments.out)
    samples(model, tokenizer)
    report(model, corpus, progress, arguments.out)


def report(model: PreTrainedModel, corpus: Corpus, progress: Progress, out: Path) -> None:
    """Writes training.json: tokens seen, and the loss on text that training never saw."""
    model.eval()
    losses = {}
    for name in MIXTURE:
        tokens = corpus.held_out(name)
        with torch.no_grad():
            logits = model(tokens[:, :-1]).logits.flatten(0, 1)
            losses[name] = round(float(F.cross_entropy(logits, tokens[:, 1:].flatten())), 3)
    result = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "steps": progress.step,
        "tokens_seen": progress.tokens,
        "minutes": round((time.monotonic() - progress.began) / 60, 1),
        "training_loss": round(progress.smooth_loss, 3),
        "held_out_loss": losses,
    }
    (out.parent / f"{out.name}.training.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result), flush=True)


def main() -> None:
    """Reads the arguments and trains."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--family", choices=("llama", "bloom"), required=True)
    parser.add_argument("--corpus", type=Path, required=True, help="what corpus.py wrote")
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with its files")
    parser.add_argument("--out", type=Path, required=True, help="Hugging Face folder to write")
    parser.add_argument("--minutes", type=float, default=45.0, help="when to stop")
    parser.add_argument("--save-seconds", type=float, default=300.0)
    parser.add_argument("--phase", choices=PHASES, default="256", help="tokens of a row")
    parser.add_argument("--start-from", type=Path, help="folder with the weights to begin with")
    parser.add_argument("--decay-share", type=float, default=0.45, help="of the time")
    parser.add_argument("--eager", action="store_true", help="do without torch.compile")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    train(arguments)


if __name__ == "__main__":
    main()
