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

BINARY, SOURCE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
HERE = pathlib.Path(__file__).resolve().parent
TOOLS = SOURCE / ".deps" / "manifest-tools"
EXTRA_TOOLS = SOURCE / ".deps" / "extra-tools"  # scripts/setup --all-tests
CHART = SOURCE / "deploy" / "helm" / "sluice"
RENDERED = SOURCE / "deploy" / "kubernetes" / "sluice.yaml"
HEADER = ("# Rendered from deploy/helm/sluice by tests/deploy/manifest_test.py --write; the values are the\n"
          "# chart's own, but for gpu.count: 1.\n")
VERSIONS = ("1.29", "1.31", "1.33", "1.35", "1.37")
sys.path.insert(0, str(TOOLS))
sys.dont_write_bytecode = True


def helm(*arguments):
    done = subprocess.run([TOOLS / "bin" / "helm", *map(str, arguments)], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return done.stdout


def render(*arguments):
    return helm("template", "sluice", CHART, "--namespace", "sluice", *arguments)


def rendered_manifest():
    return HEADER + render("--set", "gpu.count=1")


def load(text):
    return [document for document in yaml.safe_load_all(text) if document]


def kustomize(folder):
    done = subprocess.run([TOOLS / "bin" / "kubectl", "kustomize", SOURCE / "deploy" / folder],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stderr)
    return load(done.stdout)


def of_kind(documents, kind):
    found = [document for document in documents if document["kind"] == kind]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} documents of kind {kind}")
    return found[0]


def pod_of(documents):
    return of_kind(documents, "Deployment")["spec"]["template"]["spec"]


def environment_of(documents):
    return {e["name"]: e["value"] for e in pod_of(documents)["containers"][0]["env"]}


def help_of_serve():
    return subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True,
                          check=True).stdout


def flags_of_serve():
    return set(re.findall(r"\{(SLUICE_[A-Z_]+)\}", help_of_serve()))


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])


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
        everything = ["--values", HERE / "values_everything.yaml"]
        cls.sets = {
            "default": load(render()),
            "hpa": load(render(*everything, "--set", "autoscaling.kind=hpa")),
            "keda": load(render(*everything, "--set", "autoscaling.kind=keda")),
            "gpu nodes": kustomize("kubernetes"),
            "cpu nodes": kustomize("kustomize/cpu"),
        }
        cls.help = help_of_serve()

    def test_the_rendered_manifest_is_the_charts(self):
        self.assertEqual(RENDERED.read_text(encoding="utf-8"), rendered_manifest(),
                         "render it anew: manifest_test.py BINARY SOURCE_DIR --write")

    def test_helm_lint(self):
        helm("lint", "--strict", CHART, "--values", HERE / "values_everything.yaml")

    def test_a_wrong_value_is_refused_by_name(self):
        with self.assertRaisesRegex(AssertionError, 'autoscaling.kind is "vpa", must be none'):
            render("--set", "autoscaling.kind=vpa")

    def test_values_that_do_not_go_together_are_refused(self):
        with self.assertRaisesRegex(AssertionError, "serviceMonitor.enabled"):
            render("--set", "autoscaling.kind=keda")
        with self.assertRaisesRegex(AssertionError, "settings.SLUICE_DRAIN_TIME"):
            render("--set", "settings.SLUICE_DRAIN_TIME=1s")

    def test_the_sets_hold_what_they_should(self):
        expected = {"Deployment", "NetworkPolicy", "PodDisruptionBudget", "Service", "ServiceAccount"}
        optional = {"GRPCRoute", "InferencePool", "ServiceMonitor"}
        kinds = {name: {d["kind"] for d in documents} for name, documents in self.sets.items()}
        self.assertEqual(kinds["default"], expected)
        self.assertEqual(kinds["hpa"], expected | optional | {"HorizontalPodAutoscaler"})
        self.assertEqual(kinds["keda"], expected | optional | {"ScaledObject"})
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
        deployment = of_kind(load(render()), "Deployment")
        deployment["spec"]["template"]["spec"]["terminationGracePeriod"] = 1
        with self.assertRaises(kubernetes_validate.ValidationError):
            kubernetes_validate.validate(deployment, VERSIONS[-1], strict=True)
        pool = of_kind(self.sets["hpa"], "InferencePool")
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
    def test_an_update_takes_nothing_away_first(self, _, documents):
        strategy = of_kind(documents, "Deployment")["spec"]["strategy"]["rollingUpdate"]
        self.assertEqual(strategy["maxUnavailable"], 0)
        self.assertGreater(strategy["maxSurge"], 0)

    @for_each_set
    def test_gpus_are_asked_for_where_they_are(self, name, documents):
        container = pod_of(documents)["containers"][0]
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
        self.assertEqual(gpus, container["resources"]["requests"].get("nvidia.com/gpu", 0))
        self.assertEqual(gpus, 0 if name in ("default", "cpu nodes") else 1)
        self.assertTrue(container["image"].endswith("-cuda" if gpus else "-cpu"))

    def test_every_variable_is_a_flag_of_serve(self):
        flags = flags_of_serve()
        for name, documents in self.sets.items():
            self.assertEqual(set(environment_of(documents)) - flags, set(), name)
        dockerfile = (SOURCE / "Dockerfile").read_text(encoding="utf-8")
        self.assertEqual(set(re.findall(r"\bSLUICE_[A-Z_]+(?==)", dockerfile)) - flags, set())

    @for_each_set
    def test_the_times_agree(self, _, documents):
        pod, environment = pod_of(documents), environment_of(documents)
        container = pod["containers"][0]
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
            self.assertEqual(probe["httpGet"]["port"], "admin")
        startup = container["startupProbe"]
        deadline = of_kind(documents, "Deployment")["spec"]["progressDeadlineSeconds"]
        self.assertGreater(deadline, startup["failureThreshold"] * startup["periodSeconds"])

    @for_each_set
    def test_ports_are_the_servers(self, _, documents):
        environment = environment_of(documents)
        ports = {p["name"]: p["containerPort"] for p in pod_of(documents)["containers"][0]["ports"]}
        for name, port in ports.items():
            self.assertEqual(environment[f"SLUICE_{name.upper()}_ADDRESS"], f"0.0.0.0:{port}")
            default = re.search(rf"--{name}-address [^[]*\[127\.0\.0\.1:(\d+)\]", self.help)
            self.assertEqual(int(default[1]), port, f"--{name}-address's default")


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


try:
    import jsonschema
    import kubernetes_validate
    import yaml
except ImportError:
    print("skipped: scripts/setup --tests has not been run")
    sys.exit(77)

if __name__ == "__main__":
    main()
