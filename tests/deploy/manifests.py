"""What the tests of the chart share: helm, kustomize and the server's help. Exits 77 without `scripts/setup --tests`."""
import pathlib
import re
import subprocess
import sys

BINARY, SOURCE = (pathlib.Path(argument).resolve() for argument in sys.argv[1:3])
HERE = pathlib.Path(__file__).resolve().parent
TOOLS = SOURCE / ".deps" / "manifest-tools"
CHART = SOURCE / "deploy" / "helm" / "sluice"
EVERYTHING = ["--values", HERE / "values_everything.yaml"]
sys.path.insert(0, str(TOOLS))
sys.dont_write_bytecode = True

try:
    import jsonschema
    import kubernetes_validate
    import yaml
except ImportError:
    print("skipped: scripts/setup --tests has not been run")
    sys.exit(77)

__all__ = ["jsonschema", "kubernetes_validate", "yaml"]  # found above, for the tests


def run(program, *arguments):
    done = subprocess.run([TOOLS / "bin" / program, *map(str, arguments)], capture_output=True,
                          text=True, check=False)
    if done.returncode != 0:
        raise AssertionError(done.stdout + done.stderr)
    return done.stdout


def render(*arguments):
    return run("helm", "template", "sluice", CHART, "--namespace", "sluice", *arguments)


def rendered(**values):
    """The documents with these values; `__` is a dot."""
    pairs = [f"{name.replace('__', '.')}={value}" for name, value in values.items()]
    return load(render(*(part for pair in pairs for part in ("--set", pair))))


def load(text):
    return [document for document in yaml.safe_load_all(text) if document]


def kustomize(folder):
    return load(run("kubectl", "kustomize", SOURCE / "deploy" / folder))


def of_kind(documents, kind):
    found = [document for document in documents if document["kind"] == kind]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} documents of kind {kind}")
    return found[0]


def pod_of(documents):
    return of_kind(documents, "Deployment")["spec"]["template"]["spec"]


def container_of(documents):
    return pod_of(documents)["containers"][0]


def environment_of(documents):
    return {e["name"]: e.get("value") for e in container_of(documents)["env"]}


def help_of_serve():
    return subprocess.run([BINARY, "serve", "--help"], capture_output=True, text=True,
                          check=True).stdout


def flags_of_serve():
    return set(re.findall(r"\{(SLUICE_[A-Z_]+)\}", help_of_serve()))


def seconds(text):
    return int(re.fullmatch(r"(\d+)s", text)[1])
