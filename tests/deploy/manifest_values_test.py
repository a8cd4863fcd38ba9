#!/usr/bin/env python3
"""The chart's values, offline with the real helm: what is refused, and what the others do.

manifest_values_test.py BINARY SOURCE_DIR [unittest arguments]. Exits 77 without `scripts/setup --tests`.
"""
import json
import os
import re
import subprocess
import sys
import unittest
import urllib.request

from manifests import (BINARY, CHART, EVERYTHING, SOURCE, container_of, environment_of, load, of_kind, pod_of,
                       render, rendered, run, yaml)

DEPLOY_TOOLS = SOURCE / ".deps" / "deploy-tools"
PATIENCE_S = 60
NOT_FOUND = 5  # gRPC's code
# Objects whose keys are the user's own or Kubernetes'.
FREE = {"/settings", "/resources/requests", "/resources/limits", "/serviceMonitor/labels", "/nodeSelector",
        "/affinity", "/podAnnotations", "/podLabels"}


def with_json(*settings):
    """Arguments that set a value each, numbers as numbers: ("shutdown.drain=1.5",)."""
    return [part for setting in settings for part in ("--set-json", setting)]


def schema():
    return json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))


class RefusalTest(unittest.TestCase):
    def refused(self, message, *settings):
        with self.subTest(settings=settings), self.assertRaisesRegex(AssertionError, message):
            render(*with_json(*settings))

    def test_the_schema_names_every_value_and_no_other(self):
        definitions = schema()["definitions"]

        def compare(path, values, described):
            described = definitions.get(described.get("$ref", "").rpartition("/")[2], described)
            if path in FREE:
                self.assertNotIn("properties", described, path)
                return
            self.assertIs(described["additionalProperties"], False, path)
            self.assertEqual(set(values), set(described["properties"]) - {"global"}, path)
            for name, value in values.items():
                if isinstance(value, dict):
                    compare(f"{path}/{name}", value, described["properties"][name])

        compare("", yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8")), schema())

    def test_what_is_misspelt_or_mistyped_is_refused(self):
        self.refused("'gpus' not allowed", "gpus.count=1")
        self.refused("at '/shutdown': additional properties 'lameduck' not allowed", "shutdown.lameduck=3")
        self.refused("/shutdown/lameDuck': got number, want integer", "shutdown.lameDuck=1.5")
        self.refused("/shutdown/drain': got string, want integer", 'shutdown.drain="30s"')
        self.refused("/shutdown/drain': minimum", "shutdown.drain=-1")
        self.refused("/shutdown/margin': minimum: got 1, want 5", "shutdown.margin=1")
        self.refused("/probes/startup/periodSeconds': minimum", "probes.startup.periodSeconds=0")
        self.refused("/probes/readiness': additional properties 'period'", "probes.readiness.period=1")
        self.refused("/autoscaling/kind': value must be one of", 'autoscaling.kind="vpa"')
        self.refused("/update/maxSurge'", 'update.maxSurge="one"')
        self.refused("/image/digest'", 'image.digest="sha256:12"')
        self.refused("'MAX_NUM_SEQS' does not match pattern", "settings.MAX_NUM_SEQS=3")
        with self.assertRaisesRegex(AssertionError, "'gpus' not allowed"):
            run("helm", "lint", CHART, "--set", "gpus.count=1")

    def test_a_pod_serves_from_one_gpu_or_from_the_cpu(self):
        self.refused("gpu.count is 2, must be 0 or 1", "gpu.count=2")
        self.refused("/gpu/count': minimum", "gpu.count=-1")
        for count, device, other in ((0, "cpu", "cuda"), (0, "cpu", "cuda:1"), (1, "cuda", "cpu"), (1, "cuda", "auto")):
            self.refused(f'settings.SLUICE_DEVICE is the chart\'s to set, here to "{device}": see gpu.count',
                         f"gpu.count={count}", f'settings.SLUICE_DEVICE="{other}"')

    def test_the_charts_own_variables_are_refused(self):
        """Every name that the chart ever sets, also where this pod would not have it."""
        everything = load(render(*EVERYTHING, "--set", "settings=null,extraEnv=null"))
        own = set(environment_of(everything))
        self.assertLessEqual({"SLUICE_DEVICE", "SLUICE_INSECURE", "SLUICE_GRPC_ADDRESS"}, own)
        for name in own:
            self.refused(f"settings.{name} is the chart's to set", f'settings.{name}="x"')
            self.refused(f"extraEnv's {name} is the chart's to set", f'extraEnv=[{{"name": "{name}"}}]')
        self.refused("extraEnv's SLUICE_LOG_FORMAT is in settings too", 'extraEnv=[{"name": "SLUICE_LOG_FORMAT"}]')

    def test_values_that_do_not_go_together_are_refused(self):
        tls = 'tls.existingSecret="tls"'
        self.refused("set serviceMonitor.enabled", 'autoscaling.kind="keda"')
        self.refused("its gateway speaks plain HTTP", "inferencePool.enabled=true", tls)
        self.refused("speak no TLS", 'probes.kind="grpc"', tls)
        self.refused("needs TLS", 'tls.clientCaSecret="clients"')
        self.refused("are both 0", "update.maxSurge=0")
        self.refused("are both 0", 'update.maxSurge="0%"', 'update.maxUnavailable="0%"')
        for path in ("/models", "/models/mine", "mine=/models/mine"):
            self.refused("nothing is mounted at /models", f'model.path="{path}"')
        for path in ("/modelsquare", "/opt/sluice/models/bloom-tiny", "org/name"):
            self.assertEqual(environment_of(rendered(model__path=path))["SLUICE_MODEL"], path)
        render(*with_json('model.path="/models/mine"', 'extraVolumes=[{"name": "m", "emptyDir": {}}]',
                          'extraVolumeMounts=[{"name": "m", "mountPath": "/models"}]'))


class ValuesTest(unittest.TestCase):
    def test_settings_are_written_as_the_server_reads_them(self):
        environment = environment_of(load(render(*EVERYTHING)))
        self.assertEqual(environment["SLUICE_MAX_QUEUED_TOKENS"], "2000000")  # and not 2e+06
        self.assertEqual(environment["SLUICE_GPU_MEMORY_UTILIZATION"], "0.8")
        self.assertEqual(environment["SLUICE_NO_REFLECTION"], "true")
        self.assertEqual(environment["NVIDIA_DRIVER_CAPABILITIES"], "compute,utility")

    def test_an_update_without_a_spare_node(self):
        documents = rendered(gpu__count=1, update__maxSurge=0, update__maxUnavailable=1)
        self.assertEqual(of_kind(documents, "Deployment")["spec"]["strategy"]["rollingUpdate"],
                         {"maxSurge": 0, "maxUnavailable": 1})
        shares = rendered(update__maxSurge="0%", update__maxUnavailable="25%")
        self.assertEqual(of_kind(shares, "Deployment")["spec"]["strategy"]["rollingUpdate"],
                         {"maxSurge": "0%", "maxUnavailable": "25%"})

    def test_a_part_of_a_gpu_and_its_runtime(self):
        documents = rendered(gpu__count=1, gpu__resource="nvidia\\.com/mig-1g\\.10gb", gpu__runtimeClassName="nvidia")
        resources = container_of(documents)["resources"]
        for kind in ("requests", "limits"):
            self.assertEqual(resources[kind]["nvidia.com/mig-1g.10gb"], 1)
            self.assertNotIn("nvidia.com/gpu", resources[kind])
        self.assertEqual(pod_of(documents)["runtimeClassName"], "nvidia")
        self.assertNotIn("runtimeClassName", pod_of(rendered()))


class Server:
    """`sluice serve` of a model that computes nothing, where its log says that it listens."""

    def __init__(self):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("SLUICE_")}
        self.process = subprocess.Popen(
            [BINARY, "serve", "--model", "null", "--grpc-address", "127.0.0.1:0", "--http-address", "none",
             "--admin-address", "127.0.0.1:0"],
            stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, env=environment)
        self.addresses = {}
        for line in self.process.stderr:
            found = re.search(r"listening on (\S+) \((\w+)\)", line)
            if found:
                self.addresses[found[2]] = found[1]
            if "gRPC" in self.addresses:
                return
        raise AssertionError("the server does not listen")

    def stop(self):
        self.process.kill()
        self.process.communicate()


class ProbeTest(unittest.TestCase):
    """A real server answers what the kubelet would ask."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()
        cls.addClassCleanup(cls.server.stop)

    def probes(self, **values):
        container = container_of(rendered(**values))
        ports = {p["name"]: p["containerPort"] for p in container["ports"]}
        return ports, {name: container[name + "Probe"] for name in ("startup", "readiness", "liveness")}

    def test_http(self):
        paths = {}
        for name, probe in self.probes()[1].items():
            self.assertEqual(probe["httpGet"]["port"], "admin")
            paths[name] = probe["httpGet"]["path"]
            url = f"http://{self.server.addresses['admin']}{paths[name]}"
            with urllib.request.urlopen(url, timeout=PATIENCE_S) as answer:
                self.assertEqual(answer.status, 200, url)
        self.assertEqual(paths, {"startup": "/health/startup", "readiness": "/health/ready",
                                 "liveness": "/health/live"})

    def test_grpc(self):
        ports, probes = self.probes(probes__kind="grpc")
        services = {}
        for name, probe in probes.items():
            self.assertNotIn("httpGet", probe)
            self.assertEqual(probe["grpc"]["port"], ports["grpc"])  # the API knows no names of ports here
            services[name] = probe["grpc"]["service"]
        # A draining server is alive and not ready: only `live` says so.
        self.assertEqual(services, {"startup": "live", "readiness": "sluice.v1.Generation", "liveness": "live"})
        sys.path.append(str(DEPLOY_TOOLS))
        try:
            import grpc
        except ImportError:
            self.skipTest("no grpcio: scripts/setup --tests")
        with grpc.insecure_channel(self.server.addresses["gRPC"]) as channel:
            check = channel.unary_unary("/grpc.health.v1.Health/Check")  # bytes in, bytes out
            for service in services.values():
                name = service.encode()
                answer = check(b"\x0a" + bytes([len(name)]) + name, timeout=PATIENCE_S, wait_for_ready=True)
                self.assertEqual(answer, b"\x08\x01", service)  # SERVING
            with self.assertRaises(grpc.RpcError) as unknown:
                check(b"\x0a\x04lief", timeout=PATIENCE_S)
            self.assertEqual(unknown.exception.code().value[0], NOT_FOUND)

    def test_both_take_their_times_from_the_values(self):
        times = ("periodSeconds", "failureThreshold", "timeoutSeconds")
        for name, probe in self.probes()[1].items():
            other = self.probes(probes__kind="grpc")[1][name]
            self.assertEqual([probe[t] for t in times], [other[t] for t in times])
        slow = {"probes__startup__periodSeconds": 7, "probes__startup__failureThreshold": 300, "probes__kind": "grpc"}
        startup = self.probes(**slow)[1]["startup"]
        self.assertEqual((startup["periodSeconds"], startup["failureThreshold"]), (7, 300))


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=1)
