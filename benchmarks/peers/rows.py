"""What is measured, and the goals: ratios to the best peer, and fractions of the byte limit.

A pair of numbers is one goal for each of SHAPES.
"""

import dataclasses

SHAPES = ("bloom-560m", "llama-3.2-1b")

# Every peer's precisions that run on a CPU. "bf16" are 16-bit weights of either kind.
PEERS = {
    "vllm": ("bf16",),
    "openvino": ("bf16", "int8", "int4"),
    "llama_cpp": ("bf16", "int8", "int4"),
    "ctranslate2": ("bf16", "int8"),
    "transformers": ("bf16",),
}


@dataclasses.dataclass(frozen=True)
class Workload:
    """Random prompts that no run had before; decode rates come from `long` minus `short` tokens."""

    kind: str  # prefill, decode, first_token
    streams: int = 1
    prompt_tokens: int = 128
    short: int = 10
    long: int = 50
    sampled: bool = True  # temperature 0.7, top-p 0.9; else greedy


PREFILL = Workload("prefill", prompt_tokens=512, sampled=False)
CONTEXT = Workload("decode", streams=4, prompt_tokens=4096)
FIRST_TOKEN = Workload("first_token", prompt_tokens=16, sampled=False)


def decode(streams, sampled=True):
    return Workload("decode", streams=streams, sampled=sampled)


@dataclasses.dataclass(frozen=True)
class Case:
    """One side of a comparison."""

    system: str
    precision: str
    workload: Workload
    flags: tuple[str, ...] = ()  # Sluice's own


@dataclasses.dataclass(frozen=True)
class Against:
    """A goal against the best peer at `precision` ("any": at every one it has)."""

    precision: str
    workload: Workload
    goals: tuple[float, float] | None  # None: for information, with --all
    at_most: bool = False  # the ratio must not exceed the goal

    def rivals(self, shape):
        """All of them, the best by earlier measurements first."""
        cases = [(system, precision) for system, has in PEERS.items() for precision in has
                 if self.precision in ("any", precision)]
        key = (self.workload.kind, self.workload.streams, self.workload.sampled)
        best = BEST.get((*key, self.precision), {}).get(shape, ())
        ranked = [*best, *(case for case in cases if case not in best)]
        return [Case(system, precision, self.workload) for system, precision in ranked]


@dataclasses.dataclass(frozen=True)
class AgainstOwn:
    """A goal against another figure of Sluice itself."""

    precision: str
    workload: Workload
    goals: tuple[float, float]
    at_most: bool = False

    def rivals(self, _shape):
        return [Case("sluice", self.precision, self.workload)]


@dataclasses.dataclass(frozen=True)
class Row:
    name: str
    precision: str
    workload: Workload
    against: tuple[Against | AgainstOwn, ...] = ()
    limit: tuple[float, float] | None = None  # fraction of bytes / read bandwidth
    kv_bytes: int = 2  # of a number in the KV cache
    flags: tuple[str, ...] = ()

    def ours(self):
        return Case("sluice", self.precision, self.workload, self.flags)


BLOOM, LLAMA = SHAPES
# The best peer of each kind, measured before; --best N takes more of them, --all every one.
BEST = {
    ("prefill", 1, False, "any"): {BLOOM: [("openvino", "int4"), ("vllm", "bf16")],
                                   LLAMA: [("openvino", "int4"), ("vllm", "bf16")]},
    ("prefill", 1, False, "bf16"): {BLOOM: [("vllm", "bf16"), ("openvino", "bf16")],
                                    LLAMA: [("vllm", "bf16"), ("openvino", "bf16")]},
    ("decode", 1, False, "bf16"): {BLOOM: [("llama_cpp", "bf16"), ("openvino", "bf16")],
                                   LLAMA: [("llama_cpp", "bf16"), ("openvino", "bf16")]},
    ("decode", 1, False, "int8"): {BLOOM: [("llama_cpp", "int8"), ("ctranslate2", "int8")],
                                   LLAMA: [("llama_cpp", "int8"), ("ctranslate2", "int8")]},
    ("decode", 1, False, "int4"): {BLOOM: [("llama_cpp", "int4"), ("openvino", "int4")],
                                   LLAMA: [("llama_cpp", "int4"), ("openvino", "int4")]},
    ("decode", 16, True, "any"): {BLOOM: [("openvino", "int4"), ("openvino", "bf16")],
                                  LLAMA: [("openvino", "int4"), ("openvino", "bf16")]},
    ("decode", 16, False, "bf16"): {BLOOM: [("openvino", "bf16"), ("vllm", "bf16")],
                                    LLAMA: [("openvino", "bf16"), ("vllm", "bf16")]},
    ("decode", 16, False, "int8"): {BLOOM: [("openvino", "int8"), ("llama_cpp", "int8")],
                                    LLAMA: [("openvino", "int8"), ("ctranslate2", "int8")]},
    ("first_token", 1, False, "int8"): {BLOOM: [("llama_cpp", "int8"), ("ctranslate2", "int8")],
                                        LLAMA: [("llama_cpp", "int8"), ("ctranslate2", "int8")]},
}

ROWS = (
    Row("prefill-int8", "int8", PREFILL, (Against("any", PREFILL, (2.0, 1.8)),)),
    Row("prefill-bf16", "bf16", PREFILL, (Against("bf16", PREFILL, (1.3, 1.2)),)),
    Row("b1-bf16", "bf16", decode(1), (
        Against("bf16", decode(1, sampled=False), (1.1, 1.1)),
        Against("bf16", decode(1), None)), limit=(0.85, 0.85)),
    Row("b1-int8", "int8", decode(1), (
        Against("int8", decode(1, sampled=False), (1.05, 1.05)),
        Against("int8", decode(1), None)), limit=(0.85, 0.85)),
    Row("b1-int4", "int4", decode(1), (
        Against("int4", decode(1, sampled=False), (1.3, 1.1)),
        Against("int4", decode(1), None)), limit=(0.70, 0.80)),
    Row("b16-bf16", "bf16", decode(16), (
        Against("any", decode(16), (3.5, 1.8)),
        Against("bf16", decode(16, sampled=False), (1.3, 1.2)))),
    Row("b16-int8", "int8", decode(16), (
        Against("any", decode(16), (6.0, 3.2)),
        Against("int8", decode(16, sampled=False), (2.8, 2.1)))),
    Row("b64-int8", "int8", decode(64), (
        AgainstOwn("int8", decode(16), (1.6, 1.5)),
        Against("any", decode(64), None),
        Against("any", decode(64, sampled=False), None))),
    Row("context-bf16", "bf16", CONTEXT, (Against("any", CONTEXT, None),), limit=(0.8, 0.8)),
    Row("context-int8", "int8", CONTEXT, limit=(0.8, 0.8)),
    Row("first-token", "int8", FIRST_TOKEN,
        (Against("int8", FIRST_TOKEN, (0.5, 0.5), at_most=True),)),
)
