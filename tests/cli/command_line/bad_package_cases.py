"""Damaged packages and folders: the start is refused with one line and exit 2."""
import json
import math
import os
import pathlib
import shutil
import struct
import tempfile

from hugging_face import llama_config, llama_tensors, write_llama, write_safetensors
from support import LLAMA, SMALL, CommandLineTest, in_parallel, sluice


def cut(path, size):
    data = path.read_bytes()
    path.write_bytes(data[:size])


def flip(path, offset):
    data = bytearray(path.read_bytes())
    data[offset] ^= 0x10
    path.write_bytes(data)


def weights_of(package):
    return sorted((package / "weights").iterdir())[0]


def edit_manifest(package, change):
    path = package / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


def tokenizer_of(package):
    for name in ("tokenizer.model", "tokenizer.json"):
        if (package / name).exists():
            return package / name
    raise AssertionError("the package has no tokenizer")


# What is done to a copy of the embedded package.
PACKAGES = {
    "no manifest": lambda p: (p / "manifest.json").unlink(),
    "empty manifest": lambda p: cut(p / "manifest.json", 0),
    "truncated manifest": lambda p: cut(p / "manifest.json", 40),
    "manifest is a list": lambda p: (p / "manifest.json").write_text("[]"),
    "manifest is deep": lambda p: (p / "manifest.json").write_text("[" * 100000),
    "manifest of another format": lambda p: edit_manifest(
        p, lambda m: m.update({"format_version": 99, "format": 99, "version": 99})),
    "no program": lambda p: (p / "program.pt").unlink(),
    "truncated program": lambda p: cut(p / "program.pt", 100),
    "flipped program": lambda p: flip(p / "program.pt", 200),
    "no weights": lambda p: weights_of(p).unlink(),
    "empty weights": lambda p: cut(weights_of(p), 0),
    "truncated weights": lambda p: cut(weights_of(p), weights_of(p).stat().st_size - 1),
    "half the weights": lambda p: cut(weights_of(p), weights_of(p).stat().st_size // 2),
    "weights longer by a byte": lambda p: weights_of(p).write_bytes(
        weights_of(p).read_bytes() + b"\0"),
    "flipped header of weights": lambda p: flip(weights_of(p), 20),
    "flipped weight": lambda p: flip(weights_of(p), weights_of(p).stat().st_size - 5),
    "no tokenizer": lambda p: tokenizer_of(p).unlink(),
    "truncated tokenizer": lambda p: cut(tokenizer_of(p), 1000),
    "flipped tokenizer": lambda p: flip(tokenizer_of(p), 5000),
    "a folder in place of a file": lambda p: (tokenizer_of(p).unlink(),
                                              tokenizer_of_folder(p)),
}


def tokenizer_of_folder(package):
    (package / "tokenizer.model").mkdir()


def folder_with(tensors=None, config=None, raw=None):
    """A change of a random checkpoint: of its tensors, of its config, or of the file's bytes."""

    def make(folder):
        values = llama_config()
        if config:
            config(values)
        (folder / "config.json").write_text(json.dumps(values))
        weights = llama_tensors(llama_config(), seed=3)
        if tensors:
            tensors(weights)
        path = folder / "model.safetensors"
        write_safetensors(path, weights)
        if raw:
            raw(path)

    return make


def with_value(name, value):
    def change(weights):
        shape, data = weights[name]
        weights[name] = (shape, struct.pack("<f", value) + data[4:])
    return change


def with_header(change):
    def raw(path):
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8:8 + size])
        text = change(header)
        text = text if isinstance(text, bytes) else json.dumps(header).encode()
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size:])
    return raw


NORM = "model.norm.weight"

# Hugging Face folders, each with one thing wrong.
FOLDERS = {
    "NaN in a weight": folder_with(tensors=with_value(NORM, math.nan)),
    "infinity in a weight": folder_with(tensors=with_value(NORM, math.inf)),
    "a tensor is missing": folder_with(tensors=lambda w: w.pop(NORM)),
    "a tensor of another shape": folder_with(
        tensors=lambda w: w.update({NORM: ([16], w[NORM][1][:64])})),
    "a tensor nobody knows": folder_with(tensors=lambda w: w.update({"x.weight": ([1], b"\0" * 4)})),
    "header length of 2^63": folder_with(
        raw=lambda p: p.write_bytes(struct.pack("<Q", 2**63) + p.read_bytes()[8:])),
    "header length beyond the file": folder_with(
        raw=lambda p: p.write_bytes(struct.pack("<Q", p.stat().st_size) + p.read_bytes()[8:])),
    "file of seven bytes": folder_with(raw=lambda p: cut(p, 7)),
    "truncated data": folder_with(raw=lambda p: cut(p, p.stat().st_size - 3)),
    "overlapping tensors": folder_with(raw=with_header(
        lambda h: h[NORM].update(data_offsets=[0, 128]))),
    "offsets beyond the file": folder_with(raw=with_header(
        lambda h: h[NORM].update(data_offsets=[2**40, 2**40 + 128]))),
    "offsets that run backwards": folder_with(raw=with_header(
        lambda h: h[NORM].update(data_offsets=[128, 0]))),
    "unknown dtype": folder_with(raw=with_header(lambda h: h[NORM].update(dtype="F128"))),
    "negative shape": folder_with(raw=with_header(lambda h: h[NORM].update(shape=[-32]))),
    "header is not JSON": folder_with(raw=with_header(lambda h: b"hello   ")),
    "header with a tensor twice": folder_with(raw=with_header(
        lambda h: json.dumps(h).encode()[:-1] + b', "' + NORM.encode() + b'": {}}')),
    "no config": lambda f: (folder_with()(f), (f / "config.json").unlink()),
    "config is not JSON": lambda f: (folder_with()(f), (f / "config.json").write_text("{")),
    "unknown family": folder_with(config=lambda c: c.update(model_type="mamba",
                                                            architectures=["Mamba"])),
    "unknown activation": folder_with(config=lambda c: c.update(hidden_act="relu6")),
    "heads that do not divide": folder_with(config=lambda c: c.update(num_attention_heads=5)),
    "no layers": folder_with(config=lambda c: c.update(num_hidden_layers=0)),
    "huge sizes": folder_with(config=lambda c: c.update(hidden_size=2**40)),
    "hidden size is a string": folder_with(config=lambda c: c.update(hidden_size="32")),
    "pickle instead of safetensors": lambda f: (
        folder_with()(f), (f / "model.safetensors").unlink(),
        (f / "pytorch_model.bin").write_bytes(b"\x80\x02.")),
    "no weights at all": lambda f: (folder_with()(f), (f / "model.safetensors").unlink()),
    "empty folder": lambda f: None,
}


def refusal(model):
    flags = ["--model", model, *SMALL, "--quiet", "--token-ids", "1", "--max-tokens", "1"]
    return sluice("generate", *flags)


def damage_package(name):
    with tempfile.TemporaryDirectory() as folder:
        package = pathlib.Path(folder) / "package"
        shutil.copytree(LLAMA, package)
        PACKAGES[name](package)
        return [refusal(package)]


def damage_folder(name):
    with tempfile.TemporaryDirectory() as folder:
        source = pathlib.Path(folder) / "hf"
        source.mkdir()
        FOLDERS[name](source)
        package = pathlib.Path(folder) / "package"
        outcomes = [refusal(source), sluice("import", source, package, "--quiet")]
        if package.exists():
            raise AssertionError(f"{name}: a package was left behind")
        return outcomes


class BadPackageTest(CommandLineTest):
    def check_all(self, damage, names):
        for name, outcomes in zip(names, in_parallel(damage, names)):
            for outcome in outcomes:
                with self.subTest(case=name):
                    self.assert_refused(outcome)
                    self.assertLess(len(outcome.err), 500)
                    if os.environ.get("SLUICE_TEST_SHOW_MESSAGES"):
                        print(f"{name}: {outcome.err}", end="")

    def test_damaged_packages(self):
        self.check_all(damage_package, list(PACKAGES))

    def test_damaged_folders(self):
        self.check_all(damage_folder, list(FOLDERS))

    def test_an_undamaged_folder_is_served(self):
        with tempfile.TemporaryDirectory() as folder:
            source = write_llama(pathlib.Path(folder) / "hf", seed=3)
            outcome = sluice("generate", "--model", source, *SMALL, "--quiet", "--token-ids", "1",
                             "--max-tokens", "3", "--ignore-eos")
            self.assert_done(outcome)
