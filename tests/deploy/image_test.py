#!/usr/bin/env python3
"""The Dockerfile and the files that run its image with Docker Compose, read offline.

image_test.py BINARY SOURCE_DIR [unittest arguments]. Exits 77 without `scripts/setup --tests`.
"""
import json
import pathlib
import re
import sys
import unittest

sys.dont_write_bytecode = True

from manifests import SOURCE, TOOLS, flags_of_serve, jsonschema, yaml  # noqa: E402

COMPOSE, COMPOSE_CUDA = (SOURCE / "deploy" / name for name in ("compose.yaml", "compose.cuda.yaml"))
DOCKERFILE = (SOURCE / "Dockerfile").read_text(encoding="utf-8")


def project_version():
    cmake = (SOURCE / "CMakeLists.txt").read_text(encoding="utf-8")
    return re.search(r"^project\(sluice VERSION ([\d.]+)", cmake, re.MULTILINE)[1]


def read(path):
    """A compose file, which the schema of compose-spec allows."""
    schema = TOOLS / "check_jsonschema" / "builtin_schemas" / "vendor" / "compose-spec.json"
    compose = yaml.safe_load(path.read_text(encoding="utf-8"))
    jsonschema.validate(compose, json.loads(schema.read_text(encoding="utf-8")))
    return compose


def stages():
    """The Dockerfile's stages by name: what each starts from, and its lines."""
    found, name = {}, None
    for line in re.sub(r"\\\n", " ", DOCKERFILE).splitlines():
        if start := re.match(r"FROM (\S+) AS (\S+)$", line):
            name = start[2]
            found[name] = (start[1], [])
        elif name and not line.startswith("#"):
            found[name][1].append(line)
    return found


def history(name):
    """All lines that lead to the end of a stage."""
    found = stages()
    lines = []
    while name in found:
        name, own = found[name]
        lines = own + lines
    return lines


class ComposeTest(unittest.TestCase):
    def test_cuda_gets_a_gpu(self):
        server, over = read(COMPOSE)["services"]["sluice"], read(COMPOSE_CUDA)["services"]
        self.assertEqual(set(over), {"sluice"})
        over = over["sluice"]
        [device] = over["deploy"]["resources"]["reservations"]["devices"]
        self.assertEqual(device, {"driver": "nvidia", "count": 1, "capabilities": ["gpu"]})
        self.assertEqual(over["environment"], {"SLUICE_DEVICE": "cuda"})
        self.assertEqual(set(over["environment"]) - flags_of_serve(), set())
        for one, target in ((server, "cpu"), (over, "cuda")):
            self.assertEqual(one["image"], f"sluice:{project_version()}-{target}")
            self.assertEqual(one["build"]["target"], target)
            self.assertIn(target, stages())

    def test_mounts_are_there(self):
        """A file that is missing would be made by Docker, as a folder."""
        volumes = [volume for service in read(COMPOSE)["services"].values()
                   for volume in service["volumes"] if volume.startswith("./")]
        self.assertEqual(len(volumes), 5)
        for volume in volumes:
            source, target, mode = volume.split(":")
            source = COMPOSE.parent / source
            self.assertEqual(mode, "ro", volume)
            if pathlib.PurePath(target).suffix:
                self.assertTrue(source.is_file(), volume)
            else:
                self.assertTrue(any(path.is_file() for path in source.iterdir()), volume)

    def test_prometheus_and_grafana_read_what_is_mounted(self):
        services = read(COMPOSE)["services"]
        mounts = {name: dict(volume.split(":")[1::-1] for volume in service["volumes"])
                  for name, service in services.items()}

        def settings(service, path):
            return yaml.safe_load((COMPOSE.parent / mounts[service][path]).read_text(encoding="utf-8"))

        [rules] = settings("prometheus", "/etc/sluice/prometheus.yml")["rule_files"]
        folder, pattern = rules.rsplit("/", 1)
        self.assertTrue(list((COMPOSE.parent / mounts["prometheus"][folder]).glob(pattern)), rules)
        provisioning = "/etc/grafana/provisioning"
        [provider] = settings("grafana", f"{provisioning}/dashboards/sluice.yml")["providers"]
        dashboards = COMPOSE.parent / mounts["grafana"][provider["options"]["path"]]
        self.assertTrue(list(dashboards.glob("*.json")), provider)
        [source] = settings("grafana", f"{provisioning}/datasources/sluice.yml")["datasources"]
        self.assertEqual(source["url"], "http://prometheus:9090")


class DockerfileTest(unittest.TestCase):
    def test_the_version_is_the_projects(self):
        default = re.search(r"^ARG VERSION=(.*)$", DOCKERFILE, re.MULTILINE)[1]
        self.assertEqual(default, project_version())

    def test_tools_do_not_wait_for_sources(self):
        """A change of the sources downloads nothing: what is copied before a setup is scripts."""
        setups = 0
        for name in stages():
            lines = history(name)
            for index, line in enumerate(lines):
                if not line.startswith("RUN scripts/setup"):
                    continue
                setups += 1
                copied = [c for c in lines[:index] if c.startswith(("COPY", "ADD"))]
                self.assertEqual([c for c in copied if not re.fullmatch(r"COPY( scripts/\S*)+", c)], [],
                                 f"stage {name}: {line}")
        self.assertGreater(setups, 1)


if __name__ == "__main__":
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]], verbosity=1)
