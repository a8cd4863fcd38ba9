"""The peers' Python environments: installed once from the package registry, ignored by git.

One folder holds them all. `base` has torch and Transformers; CTranslate2 and OpenVINO GenAI have a
small environment each that sees base's packages; llama.cpp needs none of them, and vLLM another torch.
"""

import os
import pathlib
import re
import subprocess
import sys
import tarfile

HERE = pathlib.Path(__file__).resolve().parent
REQUIREMENTS = HERE / "requirements"
ON_BASE = ("openvino", "ctranslate2")
# GCC 12 drops stores to AMX tile configurations: without these flags, Q8_0 and Q4_0 crash.
LLAMA_CPP_FLAGS = "-fno-tree-dse -fno-dse"
LLAMA_CPP_OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_BUILD_COMMON=ON",
    "-DLLAMA_BUILD_TOOLS=ON", "-DLLAMA_BUILD_SERVER=ON", "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF", "-DLLAMA_BUILD_APP=OFF", "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF", "-DLLAMA_OPENSSL=OFF", "-DLLAMA_CURL=OFF",
    f"-DCMAKE_C_FLAGS={LLAMA_CPP_FLAGS}", f"-DCMAKE_CXX_FLAGS={LLAMA_CPP_FLAGS}")


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


def packages_of(python):
    """The folder of an environment's packages."""
    site = "import sysconfig; print(sysconfig.get_path('purelib'))"
    return pathlib.Path(run([python, "-c", site]).strip())


def see_packages_of(python, base_python):
    """Lets one environment import what another one has."""
    (packages_of(python) / "base.pth").write_text(f"{packages_of(base_python)}\n",
                                                  encoding="utf-8")


def install(python, *what, **kwargs):
    run([python, "-m", "pip", "install", "--quiet", *what], **kwargs)


def install_vllm(python):
    """Its CPU build names a torch that the registry lacks; another of that version serves."""
    install(python, "-r", REQUIREMENTS / "vllm.txt")
    install(python, "--no-deps", "-r", REQUIREMENTS / "vllm_no_deps.txt")


def llama_cpp_requirement():
    return re.search(r"^llama-cpp-python==.*$",
                     (REQUIREMENTS / "llama_cpp.txt").read_text(encoding="utf-8"), re.M)[0]


def llama_cpp_source(python, folder):
    """Downloads llama-cpp-python's source, which has llama.cpp's in it."""
    run([python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
         "--dest", folder, llama_cpp_requirement()])
    with tarfile.open(next(folder.glob("*.tar.gz"))) as archive:
        archive.extractall(folder, filter="data")
    return next(path for path in folder.iterdir() if path.is_dir())


def install_llama_cpp(python, folder):
    """Builds llama.cpp's server, and gives the Python package the same libraries."""
    package = llama_cpp_source(python, folder / "source")
    build = folder / "server"
    run(["cmake", "-S", package / "vendor" / "llama.cpp", "-B", build, *LLAMA_CPP_OPTIONS])
    run(["cmake", "--build", build, "--target", "llama-server", f"-j{os.cpu_count()}"])
    install(python, package, env=dict(os.environ, CMAKE_ARGS="-DLLAMA_BUILD=OFF"))
    install(python, "-r", REQUIREMENTS / "llama_cpp.txt")
    (packages_of(python) / "llama_cpp" / "lib").symlink_to(build / "bin")


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

    def llama_server(self):
        """llama.cpp's server."""
        server = self.python("llama_cpp").parents[1] / "server" / "bin" / "llama-server"
        if not server.exists():
            raise Failed(f"{server} is not there: remove that environment, it is an older one")
        return server

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
