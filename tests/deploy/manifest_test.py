#!/usr/bin/env python3
"""The chart and the manifests, offline: real helm and kustomize, schemas, policies, flags, numbers.

manifest_test.py BINARY SOURCE_DIR [--write | unittest arguments]
--write renders deploy/kubernetes/sluice.yaml anew. Exits 77 without `scripts/setup --tests`.
"""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

from manifests import (CHART, EVERYTHING, HERE, SOURCE, TOOLS, container_of, environment_of, flags_of_serve,
                       help_of_serve, jsonschema, kubernetes_validate, kustomize, load, of_kind, pod_of,
                       render, rendered, run, seconds, yaml)

EXTRA_TOOLS = SOURCE / ".deps" / "extra-tools"  # scripts/setup --all-tests
RENDERED = SOURCE / "deploy" / "kubernetes" / "sluice.yaml"
HEADER = ("# Rendered from deploy/helm/sluice by tests/deploy/manifest_test.py --write; the values are the\n"
          "# chart's own, but for gpu.count: 1.\n")
VERSIONS = ("1.29", "1.31", "1.33", "1.35", "1.37")


def rendered_manifest():
    return HEADER + render("--set", "gpu.count=1")


def documented_gauges():
    """Of docs/operations.md, whose table the test `prometheus` compares with what a server exports."""
    page = (SOURCE / "docs" / "operations.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([a-z_:]+)` \| gauge \|", page, re.MULTILINE))


def services_of_protos():
    services = set()
    for path in (SOURCE / "proto").rglob("*.proto"):
        text = path.read_text(encoding="utf-8")
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)[1]
        services |= {f"{package}.{name}" for name in re.findall(r"^service (\w+)", text, re.MULTILINE)}
    return services


def for_each_set(check):
    """The check once for every set of documents, as a subtest."""
    def test(self):
        for name, documents in self.sets.items():
            with self.subTest(set=name):
                check(self, name, documents)
    return test


class ManifestTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        pool = "inferencePool.enabled=true,tls.existingSecret=,tls.clientCaSecret="
        cls.sets = {
            "default": rendered(),
            "hpa": load(render(*EVERYTHING, "--set", "autoscaling.kind=hpa")),
            "keda": load(render(*EVERYTHING, "--set", "autoscaling.kind=keda," + pool)),
            "grpc probes": rendered(probes__kind="grpc"),
            "gpu nodes": kustomize("kubernetes"),
            "cpu nodes": kustomize("kustomize/cpu"),
        }
        cls.help = help_of_serve()

    def test_the_rendered_manifest_is_the_charts(self):
        self.assertEqual(RENDERED.read_text(encoding="utf-8"), rendered_manifest(),
                         "render it anew: manifest_test.py BINARY SOURCE_DIR --write")

    def test_helm_lint(self):
        run("helm", "lint", "--strict", CHART, *EVERYTHING)

    def test_the_sets_hold_what_they_should(self):
        expected = {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
        optional = {"GRPCRoute", "ServiceMonitor"}
        kinds = {name: {d["kind"] for d in documents} for name, documents in self.sets.items()}
        self.assertEqual(kinds["default"], expected)
        self.assertEqual(kinds["hpa"], expected | optional | {"HorizontalPodAutoscaler"})
        self.assertEqual(kinds["keda"], expected | optional | {"InferencePool", "ScaledObject"})
        self.assertEqual(kinds["cpu nodes"], expected | {"Namespace"})

    @for_each_set
    def test_schemas_of_kubernetes(self, _, documents):
        for document in documents:
            own = HERE / "schemas" / (f"{document['kind'].lower()}-"
                                      f"{document['apiVersion'].split('/')[-1]}.json")
            if own.exists():
                jsonschema.validate(document, json.loads(own.read_text(encoding="utf-8")))
                continue
            for version in VERSIONS:
                kubernetes_validate.validate(document, version, strict=True)

    def test_a_misspelt_field_is_found(self):
        """The schemas refuse what they do not know, or the test above shows nothing."""
        deployment = of_kind(rendered(), "Deployment")
        deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)
        pool = of_kind(self.sets["keda"], "InferencePool")
        schema = json.loads((HERE / "schemas" / "inferencepool-v1.json").read_text(encoding="utf-8"))
        with self.assertRaises(jsonschema.ValidationError):
            jsonschema.validate({**pool, "spec": {**pool["spec"], "targetPort": 8080}}, schema)

    @for_each_set
    def test_pod_security_restricted(self, _, documents):
        pod = pod_of(documents)
        for host in ("hostNetwork", "hostPID", "hostIPC"):
            self.assertNotIn(host, pod)
        self.assertTrue(pod["securityContext"]["runAsNonRoot"])
        self.assertEqual(pod["securityContext"]["runAsUser"], 10001)
        self.assertIn(pod["securityContext"]["seccompProfile"]["type"],
                      ("RuntimeDefault", "Localhost"))
        self.assertIs(pod["automountServiceAccountToken"], False)
        for container in pod["containers"]:
            context = container["securityContext"]
            self.assertIs(context["allowPrivilegeEscalation"], False)
            self.assertIs(context["readOnlyRootFilesystem"], True)
            self.assertEqual(context["capabilities"], {"drop": ["ALL"]})
        for volume in pod["volumes"]:
            self.assertLessEqual(set(volume) - {"name"},
                                 {"emptyDir", "persistentVolumeClaim", "secret"})

    @for_each_set
    def test_the_network_policy_lets_nothing_out(self, _, documents):
        spec = of_kind(documents, "NetworkPolicy")["spec"]
        self.assertEqual(spec["policyTypes"], ["Ingress", "Egress"])
        self.assertEqual(spec["egress"], [])

    @for_each_set
    def test_selectors_name_the_pods(self, _, documents):
        deployment = of_kind(documents, "Deployment")
        labels = deployment["spec"]["template"]["metadata"]["labels"]
        selectors = [deployment["spec"]["selector"]["matchLabels"],
                     of_kind(documents, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
                     of_kind(documents, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"]]
        selectors += [d["spec"]["selector"] for d in documents if d["kind"] == "Service"]
        for selector in selectors:
            self.assertLessEqual(selector.items(), labels.items())
        monitor = of_kind(self.sets["hpa"], "ServiceMonitor")["spec"]
        found = [d for d in self.sets["hpa"] if d["kind"] == "Service" and
                 monitor["selector"]["matchLabels"].items() <= d["metadata"]["labels"].items()]
        self.assertEqual([d["spec"]["clusterIP"] for d in found], ["None"])
        self.assertIn(monitor["endpoints"][0]["port"], [p["name"] for p in found[0]["spec"]["ports"]])

    @for_each_set
    def test_an_update_takes_nothing_away_first(self, name, documents):
        strategy = of_kind(documents, "Deployment")["spec"]["strategy"]["rollingUpdate"]
        has_no_spare = name in ("hpa", "keda")  # values_everything.yaml says so
        self.assertEqual(strategy, {"maxSurge": 0, "maxUnavailable": 1} if has_no_spare else
                         {"maxSurge": 1, "maxUnavailable": 0})

    @for_each_set
    def test_gpus_are_asked_for_where_they_are(self, name, documents):
        container = container_of(documents)
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
        self.assertEqual(gpus, container["resources"]["requests"].get("nvidia.com/gpu", 0))
        self.assertEqual(gpus, 1 if name in ("hpa", "keda", "gpu nodes") else 0)
        device = "cuda" if gpus else "cpu"
        self.assertTrue(container["image"].endswith("-" + device))
        # `auto` would serve from the CPU where the GPU cannot be used, and nobody would know.
        self.assertEqual(environment_of(documents)["SLUICE_DEVICE"], device)

    @for_each_set
    def test_pods_are_spread_and_drains_go_on(self, _, documents):
        labels = of_kind(documents, "Deployment")["spec"]["selector"]["matchLabels"]
        spread = {c["topologyKey"]: c for c in pod_of(documents)["topologySpreadConstraints"]}
        self.assertEqual(set(spread), {"kubernetes.io/hostname", "topology.kubernetes.io/zone"})
        for constraint in spread.values():
            self.assertEqual(constraint["labelSelector"], {"matchLabels": labels})
            self.assertEqual(constraint["matchLabelKeys"], ["pod-template-hash"])
            self.assertEqual(constraint["whenUnsatisfiable"], "ScheduleAnyway")
        budget = of_kind(documents, "PodDisruptionBudget")["spec"]
        self.assertEqual(budget["maxUnavailable"], 1)
        self.assertEqual(budget["unhealthyPodEvictionPolicy"], "AlwaysAllow")

    def test_autoscalers_ask_for_a_metric_that_there_is(self):
        gauges = documented_gauges()
        self.assertGreater(len(gauges), 10)
        hpa = of_kind(self.sets["hpa"], "HorizontalPodAutoscaler")["spec"]
        pods = hpa["metrics"][0]["pods"]
        self.assertEqual(len(hpa["metrics"]), 1)
        self.assertIn(pods["metric"]["name"], gauges)
        self.assertEqual(pods["target"], {"type": "AverageValue", "averageValue": "4"})
        self.assertEqual(hpa["scaleTargetRef"]["name"], "sluice")
        keda = of_kind(self.sets["keda"], "ScaledObject")["spec"]
        trigger = keda["triggers"][0]
        self.assertEqual((len(keda["triggers"]), trigger["metricType"]), (1, "AverageValue"))
        query = re.fullmatch(r"sum\(([a-z_:]+)\{(.+)\}\)", trigger["metadata"]["query"])
        self.assertEqual(query[1], pods["metric"]["name"])
        self.assertEqual(query[2], 'namespace="sluice",service="sluice-headless"')
        self.assertEqual(trigger["metadata"]["threshold"], "4")
        for name in ("hpa", "keda"):
            self.assertNotIn("replicas", of_kind(self.sets[name], "Deployment")["spec"])

    def test_a_route_knows_every_service(self):
        rules = of_kind(self.sets["hpa"], "GRPCRoute")["spec"]["rules"]
        routed = {match["method"]["service"] for rule in rules for match in rule["matches"]}
        of_schema = {name for name in services_of_protos() if ".reflection." in name}
        self.assertTrue(of_schema)
        self.assertEqual(routed, services_of_protos() - of_schema)
        ports = {p["port"] for d in self.sets["hpa"] if d["kind"] == "Service" for p in d["spec"]["ports"]
                 if p["name"] == "grpc" and d["metadata"]["name"] == "sluice"}
        self.assertEqual({b["port"] for rule in rules for b in rule["backendRefs"]}, ports)

    def test_an_inference_pool_finds_the_pods(self):
        pool = of_kind(self.sets["keda"], "InferencePool")["spec"]
        ports = {p["name"]: p["containerPort"] for p in container_of(self.sets["keda"])["ports"]}
        self.assertEqual(pool["targetPorts"], [{"number": ports["http"]}])
        self.assertEqual(pool["selector"]["matchLabels"], of_kind(
            self.sets["keda"], "Deployment")["spec"]["selector"]["matchLabels"])

    def test_files_are_where_the_server_looks(self):
        documents = self.sets["hpa"]
        environment = environment_of(documents)
        volumes = {volume["name"]: volume for volume in pod_of(documents)["volumes"]}
        mounts = {m["mountPath"]: m for m in container_of(documents)["volumeMounts"]}
        self.assertEqual(volumes[mounts["/models"]["name"]]["persistentVolumeClaim"],
                         {"claimName": "models", "readOnly": True})
        self.assertEqual(mounts["/models"]["subPath"], "mine")
        for variable, secret, path in (("MODEL", None, "/models"), ("TLS_CERT", "tls", "/tls"),
                                       ("TLS_KEY", "tls", "/tls"), ("API_KEYS", "keys", "/keys"),
                                       ("TLS_CLIENT_CA", "clients", "/client-ca")):
            with self.subTest(variable=variable):
                self.assertEqual(str(pathlib.PurePath(environment["SLUICE_" + variable]).parent), path)
                self.assertIs(mounts[path]["readOnly"], True)
                if secret:
                    volume = volumes[mounts[path]["name"]]["secret"]
                    self.assertEqual((volume["secretName"], volume["defaultMode"]), (secret, 0o440))
        ca = volumes[mounts["/client-ca"]["name"]]["secret"]
        self.assertEqual(ca["items"], [{"key": "ca.crt", "path": "ca.crt"}])  # and no private key
        self.assertIn({"name": "logs", "emptyDir": {}}, volumes.values())
        self.assertEqual(mounts["/logs"]["name"], "logs")

    def test_every_variable_is_a_flag_of_serve(self):
        flags = flags_of_serve()
        for name, documents in self.sets.items():
            variables = {variable for variable in environment_of(documents) if variable.startswith("SLUICE_")}
            self.assertEqual(variables - flags, set(), name)
        dockerfile = (SOURCE / "Dockerfile").read_text(encoding="utf-8")
        self.assertEqual(set(re.findall(r"\bSLUICE_[A-Z_]+(?==)", dockerfile)) - flags, set())

    @for_each_set
    def test_the_times_agree(self, _, documents):
        pod, environment = pod_of(documents), environment_of(documents)
        container = container_of(documents)
        lame_duck = seconds(environment["SLUICE_LAME_DUCK_TIME"])
        drain = seconds(environment["SLUICE_DRAIN_TIME"])
        self.assertGreaterEqual(pod["terminationGracePeriodSeconds"], lame_duck + drain + 5)
        readiness, liveness = container["readinessProbe"], container["livenessProbe"]
        unready = readiness["failureThreshold"] * (readiness["periodSeconds"] +
                                                   readiness["timeoutSeconds"])
        # Balancers hear of it while the pod still serves, with time to spare.
        self.assertGreaterEqual(lame_duck, unready + 5)
        for probe in (readiness, liveness, container["startupProbe"]):
            self.assertLessEqual(probe["timeoutSeconds"], probe["periodSeconds"])
        startup = container["startupProbe"]
        deadline = of_kind(documents, "Deployment")["spec"]["progressDeadlineSeconds"]
        self.assertGreater(deadline, startup["failureThreshold"] * startup["periodSeconds"])

    @for_each_set
    def test_ports_are_the_servers(self, _, documents):
        environment = environment_of(documents)
        ports = {p["name"]: p["containerPort"] for p in container_of(documents)["ports"]}
        for name, port in ports.items():
            self.assertEqual(environment[f"SLUICE_{name.upper()}_ADDRESS"], f"0.0.0.0:{port}")
            default = re.search(rf"--{name}-address [^[]*\[127\.0\.0\.1:(\d+)\]", self.help)
            self.assertEqual(int(default[1]), port, f"--{name}-address's default")


class VersionTest(unittest.TestCase):
    def test_one_version_everywhere(self):
        listed = (SOURCE / "CMakeLists.txt").read_text(encoding="utf-8")
        version = re.search(r"^project\(sluice VERSION ([\d.]+)", listed, re.MULTILINE)[1]
        chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
        self.assertEqual((chart["version"], chart["appVersion"]), (version, version))
        overlay = SOURCE / "deploy" / "kustomize" / "cpu" / "kustomization.yaml"
        self.assertEqual(yaml.safe_load(overlay.read_text(encoding="utf-8"))["images"],
                         [{"name": "sluice", "newTag": f"{version}-cpu"}])
        for name in ("README.md", "Dockerfile", "deploy/compose.yaml", "deploy/kubernetes/sluice.yaml",
                     "docs/operations.md"):
            named = re.findall(r"\bsluice:(\d[\d.]*\d)", (SOURCE / name).read_text(encoding="utf-8"))
            self.assertEqual(set(named), {version}, name)


class ComposeTest(unittest.TestCase):
    def test_compose(self):
        path = SOURCE / "deploy" / "compose.yaml"
        compose = yaml.safe_load(path.read_text(encoding="utf-8"))
        # A copy of compose-spec's own, kept up to date there.
        schema = TOOLS / "check_jsonschema" / "builtin_schemas" / "vendor" / "compose-spec.json"
        jsonschema.validate(compose, json.loads(schema.read_text(encoding="utf-8")))
        flags = flags_of_serve()
        for name, service in compose["services"].items():
            self.assertNotIn("latest", service["image"], name)
            for port in service["ports"]:
                self.assertTrue(port.startswith("127.0.0.1:"), f"{name} is open to the network")
            for volume in service["volumes"]:
                source = volume.rsplit(":", 2 if volume.endswith(":ro") else 1)[0]
                if source.startswith("./"):
                    self.assertTrue((path.parent / source).exists(), f"{name}: {source}")
        server = compose["services"]["sluice"]
        environment = server["environment"]
        self.assertEqual(set(environment) - flags, set())
        self.assertGreaterEqual(seconds(server["stop_grace_period"]), 5 + seconds(
            environment["SLUICE_LAME_DUCK_TIME"]) + seconds(environment["SLUICE_DRAIN_TIME"]))
        self.assertTrue(server["read_only"])
        self.assertEqual(server["cap_drop"], ["ALL"])


class DockerfileTest(unittest.TestCase):
    @unittest.skipUnless((EXTRA_TOOLS / "bin" / "hadolint").exists(), "no hadolint: scripts/setup --all-tests")
    def test_hadolint(self):
        done = subprocess.run([EXTRA_TOOLS / "bin" / "hadolint", SOURCE / "Dockerfile"], capture_output=True,
                              text=True, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))

    def test_copied_paths_are_in_the_context(self):
        """What the Dockerfile copies exists, and .dockerignore lets it through."""
        text = (SOURCE / "Dockerfile").read_text(encoding="utf-8")
        ignore = (SOURCE / ".dockerignore").read_text(encoding="utf-8").splitlines()
        allowed = [line[1:] for line in ignore if line.startswith("!")]
        for line in re.findall(r"^COPY (?!--from)(.+)$", text, re.MULTILINE):
            for source in line.split()[:-1]:
                self.assertTrue(list(SOURCE.glob(source)), source)
                self.assertTrue(any(source == a or source.startswith(a + "/") for a in allowed), source)


class BalancerConfigTest(unittest.TestCase):
    def test_programs_take_their_files(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("nginx", "haproxy", "envoy"):
                target = pathlib.Path(folder) / name
                shutil.copytree(SOURCE / "deploy" / name, target)
                for path in target.rglob("*.*"):
                    text = path.read_text(encoding="utf-8")
                    path.write_text(re.sub(r"sluice-([123])(?=[:, ])", r"127.0.0.\1", text),
                                    encoding="utf-8")
            commands = {
                "nginx": ["nginx", "-t", "-c", f"{folder}/nginx/nginx.conf", "-g",
                          f"pid {folder}/pid;"],
                "haproxy": ["haproxy", "-c", "-f", f"{folder}/haproxy/haproxy.cfg"],
                "envoy": [EXTRA_TOOLS / "envoy" / "_bin" / "envoy", "--mode", "validate", "-c",
                          f"{folder}/envoy/envoy.yaml"]}
            for name, command in commands.items():
                with self.subTest(program=name):
                    if not shutil.which(command[0]):
                        self.skipTest(f"no {name}: scripts/setup --all-tests")
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                    self.assertEqual(done.returncode, 0, done.stderr)
                    self.assertNotIn("[warn]", done.stderr)
                    self.assertNotIn("[WARNING]", done.stderr)


def main():
    if sys.argv[3:] == ["--write"]:
        RENDERED.write_text(rendered_manifest(), encoding="utf-8")
        return
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=1)


if __name__ == "__main__":
    main()
