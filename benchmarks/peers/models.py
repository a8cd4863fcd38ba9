"""One random checkpoint of each shape, and what every system makes of it."""

import pathlib
import shutil
import sys

from environments import run

HERE = pathlib.Path(__file__).resolve().parent
BENCHMARKS = HERE.parent
sys.path.insert(0, str(BENCHMARKS))
import make_checkpoint  # noqa: E402

BITS = {"bf16": 16, "int8": 8, "int4": 4}


def config(shape):
    return make_checkpoint.SHAPES[shape]


def vocabulary_size(shape):
    return config(shape)["vocab_size"]


def tensors(shape):
    is_bloom = config(shape)["model_type"] == "bloom"
    make = make_checkpoint.bloom_tensors if is_bloom else make_checkpoint.llama_tensors
    return make(config(shape))


def weight_bytes(shape, precision):
    """Bytes of the weights that a decode step must read: no scales, vectors in 16 bits.

    Both shapes use one matrix for the embedding and the logits, so that every matrix is read.
    """
    total = 0
    for _, dimensions in tensors(shape):
        bits = BITS[precision] if len(dimensions) == 2 else 16
        total += make_checkpoint.elements(dimensions) * bits // 8
    return total


def kv_bytes(shape, bytes_per_number=2):
    """Bytes of one token's keys and values."""
    of = config(shape)
    if of["model_type"] == "bloom":
        return 2 * of["n_layer"] * of["hidden_size"] * bytes_per_number
    return (2 * of["num_hidden_layers"] * of["num_key_value_heads"] * of["head_dim"]
            * bytes_per_number)


class Models:
    """Folders of checkpoints, packages and converted models, each made when first asked for."""

    def __init__(self, folder, environments, sluice, log):
        self._folder = folder
        self._environments = environments
        self._sluice = sluice
        self._log = log

    def _make(self, name, command_for):
        """The folder `name`; half of one never stays."""
        path = self._folder / name
        if not path.exists():
            print(f"making {path.name}", file=sys.stderr)
            half = self._folder / f"{name}.half"
            shutil.rmtree(half, ignore_errors=True)
            self._folder.mkdir(parents=True, exist_ok=True)
            run(command_for(half), stderr=self._log)
            half.rename(path)
        return path

    def checkpoint(self, shape):
        return self._make(shape, lambda path: [
            sys.executable, BENCHMARKS / "make_checkpoint.py", "--seed", "1", "--tokenizer", shape,
            path])

    def package(self, shape, dtype):
        checkpoint = self.checkpoint(shape)
        return self._make(f"{shape}.sluice.{dtype}", lambda path: [
            self._sluice, "import", checkpoint, path, "--dtype", dtype, "--packed", "--quiet"])

    def drop_package(self, shape, dtype):
        shutil.rmtree(self._folder / f"{shape}.sluice.{dtype}", ignore_errors=True)

    def converted(self, system, shape, precision):
        """What `system` loads."""
        checkpoint = self.checkpoint(shape)
        if system in ("transformers", "vllm"):
            return checkpoint
        if system in ("llama_cpp", "llama_server"):  # one folder has all precisions
            python = self._environments.python("llama_cpp")
            flags = ["--vocabulary"] if system == "llama_server" else []
            return self._make(f"{shape}.{system}", lambda path: [
                python, HERE / "gguf_checkpoint.py", checkpoint, path, *flags])
        python = self._environments.python(system)
        return self._make(f"{shape}.{system}.{precision}", lambda path: [
            python, HERE / f"{system}_checkpoint.py", checkpoint, path, precision])
