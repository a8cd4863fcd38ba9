"""`import`, `doctor` and the benchmarks."""
import contextlib
import http.server
import json
import pathlib
import signal
import subprocess
import tempfile
import threading
import time
import xml.etree.ElementTree

from hugging_face import llama_config, llama_shapes, write_hollow_safetensors, write_llama
from support import (BINARY, LLAMA, PATIENCE_S, SMALL, CommandLineTest, environment, json_lines,
                     running_server, sluice)

FIGURES = ["concurrency", "prefill_tokens_per_s", "decode_tokens_per_s", "ttft_ms", "itl_ms",
           "step_ms"]


class LastWordServer(http.server.BaseHTTPRequestHandler):
    """One token, and why the stream ended a while later in a choice of its own, as llama.cpp's
    server says it."""

    def do_GET(self):
        self._answer("application/json", [json.dumps({"data": [{"id": "m"}]})])

    def do_POST(self):
        self.read_request()
        events = [{"choices": [{"text": "t1", "index": 0, "finish_reason": None}]},
                  {"choices": [{"text": "", "index": 0, "finish_reason": "length"}],
                   "usage": {"completion_tokens": 1}}]
        lines = [json.dumps(event, separators=(",", ":")) for event in events]
        self._answer("text/event-stream", [f"data: {line}\n\n" for line in [*lines, "[DONE]"]])

    def read_request(self):
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def log_message(self, *_):
        pass

    def _answer(self, content_type, parts):
        self.send_response(200)
        self.send_header("Content-Type", content_type)
        self.end_headers()
        for part in parts:
            self.wfile.write(part.encode())
            self.wfile.flush()
            time.sleep(0.02)


class StrictServer(LastWordServer):
    """Texts and chats under a path of its own, and no field but OpenAI's. Events as other libraries
    write them: with blanks, names and CR LF. Two tokens, whatever is asked for."""

    def do_GET(self):
        if self.path != "/api/v2/models":
            return self.send_error(404)
        super().do_GET()

    def do_POST(self):
        request = self.read_request()
        known = {"model", "stream", "stream_options", "max_tokens", "temperature", "top_p", "seed"}
        chat = {"id": "x", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
        if self.path == "/api/v2/chat/completions" and request.keys() == known | {"messages"}:
            text = request["messages"][0]["content"]
            events = [chat, *[{"choices": [{"index": 0, "delta": {"content": word}}]}
                              for word in ("one", "two")]]
        elif self.path == "/api/v2/completions" and request.keys() == known | {"prompt"}:
            text = request["prompt"]
            events = [{"choices": [{"index": 0, "text": word}]} for word in ("one", "two")]
        else:
            return self.send_error(400)
        if len(text.split()) != 5:
            return self.send_error(400)
        events.append({"choices": [], "usage": {"completion_tokens": 2}})
        lines = [json.dumps(event) for event in events]
        self._answer("text/event-stream",
                     [f"event: message\r\ndata: {line}\r\n\r\n" for line in [*lines, "[DONE]"]])


@contextlib.contextmanager
def other_server(handler):
    """Its address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


class ToolTest(CommandLineTest):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def test_import_and_the_folder_itself_answer_alike(self):
        source = write_llama(self.folder / "hf", seed=1)
        package = self.folder / "package"
        self.assert_done(sluice("import", source, package, "--quiet"))
        flags = ["--token-ids", "1,2,3", "--max-tokens", "8", "--seed", "1", "--ignore-eos",
                 "--logprobs", "2", "--json", "--quiet", *SMALL]
        answers = []
        for model in (source, package):
            outcome = sluice("generate", "--model", model, *flags)
            self.assert_done(outcome)
            [line] = json_lines(outcome.out)
            answers.append((line["token_ids"], line["logprobs"]))
        self.assertEqual(answers[0], answers[1])
        self.assert_refused(sluice("import", source, package), "--overwrite")
        self.assert_done(sluice("import", source, package, "--overwrite", "--quiet"))

    def test_an_interrupted_import_leaves_nothing(self):
        source = write_llama(self.folder / "hf", seed=1, hidden=512, layers=8, vocabulary=32000)
        package = self.folder / "made" / "package"
        package.parent.mkdir()
        process = subprocess.Popen([BINARY, "import", source, package], env=environment(),
                                   stderr=subprocess.PIPE)
        deadline = time.monotonic() + PATIENCE_S
        while not any(package.parent.iterdir()) and process.poll() is None:
            self.assertLess(time.monotonic(), deadline)
        process.send_signal(signal.SIGINT)
        err = process.communicate(timeout=PATIENCE_S)[1]
        if process.returncode == 0:  # it was quicker
            self.assertTrue((package / "manifest.json").exists())
        else:
            self.assertEqual(process.returncode, 1, err)
            self.assertEqual(list(package.parent.iterdir()), [])

    def test_doctor(self):
        outcome = sluice("doctor", "--model", LLAMA, "--json")
        self.assert_done(outcome)
        report = json.loads(outcome.out)
        self.assertGreaterEqual(report["num_cores"], 1)
        self.assertEqual(report["devices"][0]["name"], "cpu")
        self.assertGreater(report["devices"][0]["matmul_gflops"], 0)
        self.assertGreater(report["model"]["kv_capacity_tokens"], 0)
        text = sluice("doctor", "--model", LLAMA)
        self.assert_done(text)
        for part in ("processor", "1000x1000", "GFLOP/s", "KV per token", "tokens fit"):
            self.assertIn(part, text.out)

    def test_doctor_plans_a_7b_model(self):
        """13.5 GB of weights that are a hole in a file: the plan reads shapes only."""
        folder = self.folder / "llama-7b"
        folder.mkdir()
        config = llama_config(hidden=4096, layers=32, heads=32, kv_heads=32, vocabulary=32000,
                              intermediate=11008) | {"torch_dtype": "float16"}
        (folder / "config.json").write_text(json.dumps(config))
        write_hollow_safetensors(folder / "model.safetensors", llama_shapes(config), "F16", 2)
        outcome = sluice("doctor", "--model", folder, "--json")
        self.assert_done(outcome)
        plan = json.loads(outcome.out)["model"]
        self.assertEqual(plan["num_parameters"], 6738415616)
        self.assertAlmostEqual(plan["weight_bytes"] / 1e9, 13.48, delta=0.1)
        self.assertEqual(plan["kv_bytes_per_token"], 2 * 32 * 4096 * 2)
        for dtype, scales in ("int8", 8), ("fp8", 2):
            outcome = sluice("doctor", "--model", folder, "--json", "--kv-cache-dtype", dtype)
            self.assert_done(outcome)
            self.assertEqual(json.loads(outcome.out)["model"]["kv_bytes_per_token"],
                             32 * 32 * (2 * 128 + scales))
        text = sluice("doctor", "--model", folder, "--kv-cache-dtype", "fp8")
        self.assertIn("an fp8 KV cache needs a GPU", text.out)

    def test_bench_offline(self):
        outcome = sluice("bench", "offline", "--model", LLAMA, *SMALL, "--prompt-tokens", "16",
                         "--output-tokens", "12", "--concurrency", "1,4", "--repetitions", "2",
                         "--json", "--quiet")
        self.assert_done(outcome)
        report = json.loads(outcome.out)
        self.assertEqual([run["concurrency"] for run in report["runs"]], [1, 4])
        for run in report["runs"]:
            self.assertEqual(list(run)[:6], FIGURES)
            for name in FIGURES[1:3]:
                self.assertGreater(run[name], 0)
            # Where others compute too, most tokens may come joined in a message, with nothing between.
            for name in FIGURES[3:]:
                self.assertGreater(run[name]["p99"], 0)
                self.assertGreaterEqual(run[name]["p99"], run[name]["p50"])
        self.assertIn("machine", report)
        self.assertTrue(report["profile"])

    def test_bench_of_the_engine_alone(self):
        outcome = sluice("bench", "offline", "--model", "null", "--prompt-tokens", "4",
                         "--output-tokens", "40", "--concurrency", "64", "--greedy", "--quiet",
                         "--repetitions", "2")
        self.assert_done(outcome)
        self.assertIn("decode tokens/s", outcome.out)
        self.assertIn(" us", outcome.out)

    def test_bench_serve(self):
        with running_server("--model", LLAMA, *SMALL) as server:
            outcome = sluice("bench", "serve", "--target", server.target, "--rate", "20",
                             "--duration", "1s", "--prompt-tokens", "8", "--output-tokens", "8",
                             "--seed", "2", "--json", "--quiet")
            self.assert_done(outcome)
            report = json.loads(outcome.out)
            self.assertGreater(report["succeeded"], 3)
            self.assertEqual(report["failed"], 0)
            self.assertGreater(report["ttft_ms"]["p50"], 0)
            text = sluice("bench", "serve", "--target", server.target, "--rate", "20",
                          "--duration", "200ms", "--prompt-tokens", "8", "--output-tokens", "8")
            self.assertIn("goodput", text.out)
            self.check_load_over_http(server)

    def test_a_last_word_without_a_token_is_no_token(self):
        with other_server(LastWordServer) as address:
            outcome = sluice("bench", "serve", "--target", f"http://{address}", "--concurrency",
                             "2", "--duration", "200ms", "--output-tokens", "1", "--json",
                             "--quiet")
        self.assert_done(outcome)
        report = json.loads(outcome.out)
        self.assertGreaterEqual(report["succeeded"], 2)
        self.assertEqual(report["itl_ms"]["p99"], 0, "nothing comes after the only token")

    def test_load_on_a_server_of_the_api_alone(self):
        with other_server(StrictServer) as address:
            flags = ["--target", f"http://{address}/api/v2/", "--concurrency", "2", "--duration",
                     "200ms", "--prompt-tokens", "5", "--output-tokens", "9", "--json", "--quiet"]
            for kind in ("--chat", "--text-prompts"):
                outcome = sluice("bench", "serve", *flags, kind, "--natural-end")
                self.assert_done(outcome)
                report = json.loads(outcome.out)
                self.assertGreaterEqual(report["succeeded"], 2)
                self.assertGreater(report["tokens_per_s"], 0)
                self.assertGreater(report["itl_ms"]["p50"], 10, "two messages, 20 ms apart")
            for lacking in (["--chat"], ["--natural-end"]):
                outcome = sluice("bench", "serve", *flags, *lacking)
                self.assertEqual(outcome.code, 1, outcome)

    def check_load_over_http(self, server):
        with tempfile.TemporaryDirectory() as folder:
            plot = pathlib.Path(folder) / "load.svg"
            outcome = sluice("bench", "serve", "--target", f"http://{server.http_target}",
                             "--concurrency", "3", "--duration", "500ms", "--mix", "8/8*2,4/3",
                             "--plot", plot, "--json", "--quiet")
            self.assert_done(outcome)
            report = json.loads(outcome.out)
            self.assertGreaterEqual(report["succeeded"], 3)
            self.assertEqual(report["failed"], 0)
            self.assertGreater(report["tokens_per_s"], 0)
            root = xml.etree.ElementTree.parse(plot).getroot()
            self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
            self.assertGreater(plot.stat().st_size, 2000)
        for wrong in (["--rate", "1", "--concurrency", "1"], ["--concurrency", "2", "--burst", "2"],
                      ["--rate", "1", "--mix", "8"], ["--rate", "1", "--mix", "8/0"]):
            self.assert_refused(sluice("bench", "serve", "--target", server.target, *wrong), "--")
