#!/usr/bin/env python3
"""A real Prometheus scrapes a real server under load: python3 prometheus_test.py BINARY SOURCE_DIR

Evaluates every query of deploy/grafana and every rule of deploy/prometheus, and runs the rules' unit
tests. Exits 77 (skipped) without Debian's package `prometheus`.
"""
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest
import urllib.parse
import urllib.request

BINARY = pathlib.Path(sys.argv[1]).resolve()
SOURCE = pathlib.Path(sys.argv[2]).resolve()
RULES = SOURCE / "deploy" / "prometheus" / "sluice.rules.yml"
DASHBOARD = SOURCE / "deploy" / "grafana" / "sluice.json"
PATIENCE_S = 120  # a hang, not a speed, is what a wait of this length finds
NEEDED = ("prometheus", "promtool")

# What stands for a dashboard's variables.
VARIABLES = {"$instance": ".+", "$model": ".+", "$__rate_interval": "1m"}


def environment():
    return {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def dashboard_queries():
    """(panel's title, query) of every target, with the variables filled in."""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        for target in panel.get("targets", []):
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            yield panel["title"], query


def metric_names(query):
    return set(re.findall(r"\b(?:sluice|process|vllm)[a-z_:]*[a-z]", query))


class Server:
    """`sluice serve` until its addresses are in its log, on a machine with two GPUs, as a library
    in the place of the driver's tells it."""

    def __init__(self, folder):
        driver = pathlib.Path(folder) / "libnvidia-ml.so.1"
        driver.symlink_to(BINARY.parent / "libfake_nvml.so")
        self.process = subprocess.Popen(
            [BINARY, "serve", "--model", SOURCE / "models" / "llama-tiny", "--grpc-address",
             "127.0.0.1:0", "--http-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0",
             "--device", "cpu", "--kv-cache-memory-bytes", "64MiB", "--max-queued-requests", "1", "--max-num-seqs", "8"],
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True,
            env={**environment(), "LD_LIBRARY_PATH": folder})
        self.addresses = {}
        for line in self.process.stderr:
            found = re.search(r"listening on (\S+) \((\w+)\)", line)
            if found:
                self.addresses[found.group(2)] = found.group(1)
            if "gRPC" in self.addresses:
                break
        self._rest = threading.Thread(target=self.process.stderr.read, daemon=True)
        self._rest.start()

    def load(self, n):
        """A request of n completions; some are refused, since nine completions are the most."""
        return subprocess.Popen(
            [BINARY, "client", "--target", self.addresses["gRPC"], "--prompt", "Once upon a time",
             "--n", str(n), "--max-tokens", "40", "--ignore-eos", "--quiet"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE_S)
        self._rest.join(PATIENCE_S)
        self.process.stderr.close()
        return code


class Prometheus:
    def __init__(self, folder, target):
        self.address = f"127.0.0.1:{free_port()}"
        config = pathlib.Path(folder) / "prometheus.yml"
        config.write_text(
            f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: ['{RULES}']\n"
            f"scrape_configs: [{{job_name: sluice, static_configs: [{{targets: ['{target}']}}]}}]\n")
        self.process = subprocess.Popen(
            ["prometheus", f"--config.file={config}", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address={self.address}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def get(self, path, **parameters):
        url = f"http://{self.address}{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
            return json.load(answer)["data"]

    def query(self, text):
        return self.get("/api/v1/query", query=text)["result"]

    def value(self, text):
        result = self.query(text)
        return float(result[0]["value"][1]) if result else 0

    def wait_until(self, text):
        """Until the query has a result that is not zero."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            try:
                if self.value(text) > 0:
                    return
            except (OSError, ValueError):
                pass  # still starting
            time.sleep(0.2)
        raise AssertionError("Prometheus never saw " + text)

    def stop(self):
        self.process.kill()
        self.process.wait(PATIENCE_S)


class RulesTest(unittest.TestCase):
    def test_unit_tests_of_the_rules(self):
        for command in (["check", "rules", RULES.name], ["test", "rules", "sluice.rules_test.yml"]):
            done = subprocess.run(["promtool", *command], cwd=RULES.parent, capture_output=True,
                                  text=True, timeout=PATIENCE_S, check=False)
            self.assertEqual(done.returncode, 0, done)

    def test_every_alert_has_a_unit_test_and_a_section(self):
        tests = (RULES.parent / "sluice.rules_test.yml").read_text()
        page = (SOURCE / "docs" / "operations.md").read_text()
        alerts = re.findall(r"- alert: (\w+)", RULES.read_text())
        self.assertGreater(len(alerts), 8)
        for alert in alerts:
            self.assertRegex(tests, rf"alertname: {alert}\n\s+exp_alerts:\n\s+- exp_labels")
            self.assertIn(f"`{alert}`", page)


class RealPrometheusTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.server = Server(cls.folder.name)
        cls.prometheus = Prometheus(cls.folder.name, cls.server.addresses["admin"])
        cls.prometheus.wait_until("up")
        # Some are served, some refused, twice over a few scrapes: rates need two of them.
        for _ in range(3):
            scrapes = cls.prometheus.value("count_over_time(up[5m])")
            for process in [cls.server.load(6) for _ in range(4)]:
                process.wait(PATIENCE_S)
            with urllib.request.urlopen(f"http://{cls.server.addresses['HTTP']}/v1/models") as answer:
                answer.read()
            cls.prometheus.wait_until(f"count_over_time(up[5m]) > {scrapes + 2:g}")
        cls.prometheus.wait_until('rate(sluice_requests_refused_total{code="RESOURCE_EXHAUSTED"}[1m])')

    @classmethod
    def tearDownClass(cls):
        cls.prometheus.stop()
        code = cls.server.stop()
        cls.folder.cleanup()
        if code != 0:
            raise AssertionError(f"the server ended with {code}")

    def test_every_query_of_the_dashboard_has_a_result(self):
        queries = list(dashboard_queries())
        self.assertGreater(len(queries), 30)
        for title, query in queries:
            with self.subTest(panel=title, query=query):
                result = self.prometheus.query(query)
                self.assertTrue(result)
                self.assertFalse(all(series["value"][1] == "NaN" for series in result))

    def test_every_rule_evaluates_and_knows_its_metrics(self):
        known = set(self.prometheus.get("/api/v1/label/__name__/values"))
        groups = self.prometheus.get("/api/v1/rules")["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        self.assertEqual(len(rules), len(re.findall("- alert:", RULES.read_text())))
        for rule in rules:
            with self.subTest(alert=rule["name"]):
                self.assertEqual(rule["health"], "ok", rule)
                self.prometheus.query(rule["query"])
                self.assertLessEqual(metric_names(rule["query"]), known)

    def test_the_page_of_metrics_names_what_is_exported(self):
        """docs/operations.md has every metric, and no other."""
        page = (SOURCE / "docs" / "operations.md").read_text()
        documented = set(re.findall(r"^\| `((?:sluice|process|vllm)[a-z_:]+)`", page, re.MULTILINE))
        known = {re.sub("_(bucket|sum|count)$", "", name)
                 for name in self.prometheus.get("/api/v1/label/__name__/values")
                 if name.startswith(("sluice", "process", "vllm"))}
        self.assertEqual(known - documented, set())
        self.assertEqual(documented - known, set())


if __name__ == "__main__":
    if not all(shutil.which(name) for name in NEEDED):
        print("skipped: needs " + " and ".join(NEEDED))
        sys.exit(77)
    unittest.main(argv=sys.argv[:1], verbosity=2)
