"""Where models are found, and imports: the Hugging Face cache, interrupts, the progress bar."""
import json
import os
import pathlib
import pty
import shutil
import signal
import subprocess
import tempfile
import time

from hugging_face import llama_config, llama_shapes, write_hollow_safetensors, write_llama
from support import (BINARY, LLAMA, PATIENCE_S, SMALL, CommandLineTest, environment, json_lines,
                     sluice)

ASK = ["--token-ids", "1,5,9", "--max-tokens", "4", "--temperature", "0", "--ignore-eos", "--json",
       "--quiet"]


class Folder(CommandLineTest):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory()
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)


class HubCacheTest(Folder):
    """`--model org/name` finds what huggingface_hub has downloaded."""

    def setUp(self):
        super().setUp()
        self.plain = write_llama(self.folder / "plain", seed=3)
        self.home = self.folder / "home"
        self.repository = self.home / "hub" / "models--an-org--Small-1.0"
        snapshot = self.repository / "snapshots" / "0123abcd"
        blobs = self.repository / "blobs"
        snapshot.mkdir(parents=True)
        blobs.mkdir()
        for file in self.plain.iterdir():  # as the hub lays them out: links into blobs
            (blobs / file.name).write_bytes(file.read_bytes())
            (snapshot / file.name).symlink_to(f"../../blobs/{file.name}")
        (self.repository / "refs").mkdir()
        (self.repository / "refs" / "main").write_text("0123abcd")

    def generate(self, model, **variables):
        return sluice("generate", "--model", model, *SMALL, *ASK, **variables)

    def test_every_command_finds_the_snapshot(self):
        expected = json_lines(self.generate(self.plain).out)[0]["token_ids"]
        for variables in ({"HF_HOME": str(self.home)}, {"HF_HUB_CACHE": str(self.home / "hub")},
                          {"HF_HOME": "/nowhere", "HF_HUB_CACHE": str(self.home / "hub")},
                          {"HF_HOME": "", "XDG_CACHE_HOME": str(self.cache("huggingface"))},
                          {"HF_HOME": "~/home", "HOME": str(self.folder)}):
            with self.subTest(variables=variables):
                outcome = self.generate("an-org/Small-1.0", **variables)
                self.assert_done(outcome)
                self.assertEqual(json_lines(outcome.out)[0]["token_ids"], expected)
        home = {"HF_HOME": str(self.home)}
        self.assert_done(sluice("doctor", "--model", "an-org/Small-1.0", **home))
        outcome = sluice("bench", "offline", "--model", "an-org/Small-1.0", *SMALL, "--json",
                         "--concurrency", "1", "--prompt-tokens", "2", "--output-tokens", "2",
                         "--repetitions", "1", "--quiet", **home)
        self.assert_done(outcome)
        self.assertEqual(json_lines(outcome.out)[0]["model"]["name"], "an-org/Small-1.0")
        package = self.folder / "package"
        self.assert_done(sluice("import", "an-org/Small-1.0", package, "--quiet", **home))
        self.assertFalse((package / "weights" / "model.safetensors").is_symlink())
        outcome = self.generate(package)
        self.assertEqual(json_lines(outcome.out)[0]["token_ids"], expected)

    def cache(self, name):
        cache = self.folder / "cache"
        cache.mkdir(exist_ok=True)
        if not (cache / name).exists():
            (cache / name).symlink_to(self.home)
        return cache

    def test_an_existing_path_wins(self):
        (self.folder / "an-org").mkdir()
        local = write_llama(self.folder / "an-org" / "Small-1.0", seed=4)
        answers = []
        for model in ("an-org/Small-1.0", local):
            done = subprocess.run(
                [BINARY, "generate", "--model", str(model), *SMALL, *ASK], cwd=self.folder,
                env=environment(HF_HOME=str(self.home)), capture_output=True, text=True,
                timeout=PATIENCE_S, check=True)
            answers.append(json_lines(done.stdout)[0]["token_ids"])
        self.assertEqual(answers[0], answers[1])

    def test_what_is_not_there_is_named(self):
        home = {"HF_HOME": str(self.home)}
        cache = str(self.home / "hub")
        for model, parts in (
                ("an-org/other", ["no model of that name", cache, "hf download an-org/other"]),
                ("gpt2", ["no model of that name", cache, "hf download gpt2"]),
                ("no/such/folder", ["there is no folder", "no/such/folder"]),
                ("/no/such", ["there is no folder"]), ("../x", ["there is no folder"]),
                ("a b/c", ["there is no folder"]), ("-x/y", ["there is no folder"])):
            with self.subTest(model=model):
                self.assert_refused(self.generate(model, **home), *parts)
                self.assert_refused(sluice("serve", "--model", "n=" + model, **home), *parts)
                self.assert_refused(sluice("doctor", "--model=" + model, **home), *parts)

    def test_a_broken_cache_is_named(self):
        main = self.repository / "refs" / "main"
        for text, part in (("ffff", "snapshots/ffff"), ("../../../plain", "no snapshot"),
                           ("", "no snapshot"), (None, "refs/main")):
            with self.subTest(main=text):
                main.unlink(missing_ok=True)
                if text is not None:
                    main.write_text(text)
                outcome = self.generate("an-org/Small-1.0", HF_HOME=str(self.home))
                self.assert_refused(outcome, part, "hf download an-org/Small-1.0")


class ImportTest(Folder):
    def big_folder(self):
        """A checkpoint of 800 MB that takes no room on the disk: zeros are finite numbers."""
        folder = self.folder / "big"
        folder.mkdir()
        config = llama_config(hidden=1024, layers=2, heads=8, kv_heads=8, vocabulary=90000,
                              intermediate=1024)
        (folder / "config.json").write_text(json.dumps(config))
        write_hollow_safetensors(folder / "model.safetensors", llama_shapes(config), "F32", 4)
        return folder

    def test_an_interrupt_leaves_nothing(self):
        source = self.big_folder()
        target = self.folder / "target"
        target.mkdir()
        for name in ("SIGINT", "SIGTERM"):
            with self.subTest(signal=name):
                process = subprocess.Popen([BINARY, "import", source, target / "package"],
                                           env=environment(), stderr=subprocess.PIPE)
                deadline = time.monotonic() + PATIENCE_S
                while not list(target.glob(".package.partial-*/weights/*")):
                    self.assertIsNone(process.poll())
                    self.assertLess(time.monotonic(), deadline)
                    time.sleep(0.001)
                process.send_signal(getattr(signal, name))
                err = process.communicate(timeout=PATIENCE_S)[1]
                self.assertEqual(process.returncode, 1, err)
                self.assertIn(b"stopped", err)
                self.assertEqual(list(target.iterdir()), [])

    def test_a_terminal_sees_a_progress_bar(self):
        source = self.big_folder()
        parent, child = pty.openpty()
        process = subprocess.Popen([BINARY, "import", source, self.folder / "package"],
                                   env=environment(TERM="xterm"), stderr=child, stdout=child)
        os.close(child)
        shown = b""
        while True:
            try:
                piece = os.read(parent, 4096)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            shown += piece
        os.close(parent)
        self.assertEqual(process.wait(PATIENCE_S), 0, shown)
        self.assertIn(b"importing", shown)
        self.assertIn(b" of ", shown)
        self.assertTrue((self.folder / "package" / "manifest.json").exists())


class GoldenTest(Folder):
    """The logits that a package keeps of its import."""

    def test_every_instruction_set_is_within_the_bound(self):
        source = write_llama(self.folder / "hf", seed=5)
        for dtype in ("f32", "bf16", "int8", "int4"):
            package = self.folder / dtype
            self.assert_done(sluice("import", source, package, "--dtype", dtype, "--quiet",
                                    SLUICE_CPU_ISA="avx2"))
            self.assertTrue((package / "golden_logits.json").exists())
            for isa in ("avx2", "avx512bw", "avx512vnni", "avx512", "amx"):
                with self.subTest(dtype=dtype, isa=isa):
                    outcome = sluice("generate", "--model", package, *SMALL, *ASK,
                                     SLUICE_CPU_ISA=isa)
                    if "which this machine cannot run" in outcome.err:
                        self.skipTest(f"this machine has no {isa}")
                    self.assert_done(outcome)

    def test_a_model_that_answers_otherwise_is_not_served(self):
        package = self.folder / "package"
        shutil.copytree(LLAMA, package)
        file = package / "golden_logits.json"
        golden = json.loads(file.read_text())
        golden["logits"].reverse()
        file.write_text(json.dumps(golden))
        for command in (["serve", "--grpc-address", "127.0.0.1:0", "--device", "cpu"],
                        ["generate", *ASK]):
            outcome = sluice(*command, "--model", package, *SMALL)
            self.assert_refused(outcome, "golden_logits.json", "computes something else")
        file.unlink()
        self.assert_done(sluice("generate", "--model", package, *SMALL, *ASK))

    def test_it_can_be_left_out(self):
        source = write_llama(self.folder / "hf", seed=5)
        self.assert_done(sluice("import", source, self.folder / "package", "--no-golden"))
        self.assertFalse((self.folder / "package" / "golden_logits.json").exists())


class OutputTest(Folder):
    def test_what_is_no_file_is_refused(self):
        line = self.folder / "in.jsonl"
        line.write_text('{"token_ids": [1], "max_tokens": 2}\n')
        command = ["generate", "--model", LLAMA, *SMALL, "--quiet"]
        self.assert_refused(sluice(*command, "--input", line, "--output", "/dev/full"),
                            "--output", "is not a regular file")
        self.assert_refused(sluice(*command, "--input", self.folder), "--input",
                            "is not a regular file")
        self.assert_refused(sluice(*command, "--input", self.folder / "x"), "there is no file")

    def test_a_full_disk_is_named(self):
        for flags in (["--json"], []):
            with open("/dev/full", "wb") as full:
                done = subprocess.run(
                    [BINARY, "generate", "--model", LLAMA, *SMALL, "--quiet", "--token-ids", "1",
                     "--max-tokens", "2", "--ignore-eos", *flags], stdout=full,
                    stderr=subprocess.PIPE, env=environment(), timeout=PATIENCE_S, check=False)
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertEqual(done.stderr.count(b"cannot write to stdout (No space left"), 1,
                             done.stderr)
