"""The peers' Python environments: installed once from the package registry, ignored by git.

One folder holds them all. `base` has torch and Transformers; CTranslate2, llama.cpp and OpenVINO
GenAI have a small environment each that sees base's packages; vLLM needs another torch and is alone.
"""

import os
import pathlib
import re
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements"
ON_BASE = ("openvino", "ctranslate2", "llama_cpp")
# GCC 12 drops stores to AMX tile configurations: without these flags, Q8_0 and Q4_0 crash.
LLAMA_CPP_FLAGS = "-fno-tree-dse -fno-dse"


class Failed(Exception):
    """A program that we started failed."""


def run(command, **kwargs):
    """Output of a command."""
    result = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, text=True,
                            check=False, **kwargs)
    if result.returncode != 0:
        raise Failed(f"({result.returncode}) {' '.join(map(str, command))}\n"
                     f"{result.stdout[-2000:]}")
    return result.stdout


def make_environment(folder):
    run([sys.executable, "-m", "venv", folder])
    return folder / "bin" / "python"


def see_packages_of(python, base_python):
    """Lets one environment import what another one has."""
    site = "import sysconfig; print(sysconfig.get_path('purelib'))"
    own, base = (run([each, "-c", site]).strip() for each in (python, base_python))
    (pathlib.Path(own) / "base.pth").write_text(base + "\n", encoding="utf-8")


def install(python, *what, **kwargs):
    run([python, "-m", "pip", "install", "--quiet", *what], **kwargs)


def install_vllm(python):
    """Its CPU build names a torch that the registry lacks; another of that version serves."""
    install(python, "-r", REQUIREMENTS / "vllm.txt")
    install(python, "--no-deps", "-r", REQUIREMENTS / "vllm_no_deps.txt")


def install_llama_cpp(python, folder):
    """Builds llama.cpp from llama-cpp-python's source, without what nothing here needs."""
    requirement = re.search(r"^llama-cpp-python==.*$",
                            (REQUIREMENTS / "llama_cpp.txt").read_text(encoding="utf-8"), re.M)[0]
    source = folder / "source"
    run([python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
         "--dest", source, requirement])
    with tarfile.open(next(source.glob("*.tar.gz"))) as archive:
        archive.extractall(source, filter="data")
    package = next(path for path in source.iterdir() if path.is_dir())
    script = package / "CMakeLists.txt"
    text = script.read_text(encoding="utf-8")
    script.write_text(text.replace("LLAMA_BUILD_COMMON ON", "LLAMA_BUILD_COMMON OFF"),
                      encoding="utf-8")
    arguments = ("-DGGML_NATIVE=ON -DLLAVA_BUILD=OFF "
                 f"-DCMAKE_C_FLAGS='{LLAMA_CPP_FLAGS}' -DCMAKE_CXX_FLAGS='{LLAMA_CPP_FLAGS}'")
    install(python, package, env=dict(os.environ, CMAKE_ARGS=arguments))
    install(python, "-r", REQUIREMENTS / "llama_cpp.txt")


class Environments:
    """Python of each peer, installed when first asked for."""

    def __init__(self, folder, base=None):
        """`base`: an environment that exists already and takes the place of the base."""
        self._folder = folder
        self._base = base

    def python(self, name):
        if name == "transformers":
            return self._base_python()
        folder = self._folder / name
        python, done = folder / "bin" / "python", folder / "installed"
        if done.exists():
            return python
        print(f"installing {name} into {folder}", file=sys.stderr)
        python = make_environment(folder)
        if name in ON_BASE:
            see_packages_of(python, self._base_python())
        if name == "vllm":
            install_vllm(python)
        elif name == "llama_cpp":
            install_llama_cpp(python, folder)
        else:
            install(python, "-r", REQUIREMENTS / f"{name}.txt")
        done.touch()
        return python

    def _base_python(self):
        if self._base is not None:
            return self._base / "bin" / "python"
        folder = self._folder / "base"
        done = folder / "installed"
        if not done.exists():
            print(f"installing torch and Transformers into {folder} (5 GB)", file=sys.stderr)
            install(make_environment(folder), "-r", REQUIREMENTS / "base.txt")
            done.touch()
        return folder / "bin" / "python"
