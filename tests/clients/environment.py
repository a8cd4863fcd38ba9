#!/usr/bin/env python3
"""Client libraries that others wrote, in folders that git ignores: environment.py NAME LIST

Puts the packages of LIST, a requirements file with hashes, into .deps/NAME, unless they are there
already. Tests put the folder on sys.path of a process of its own: no two lists share a process.
"""
import fcntl
import pathlib
import shutil
import subprocess
import sys
import tempfile

SOURCE = pathlib.Path(__file__).resolve().parents[2]
STAMP = "installed.txt"  # a copy of the list, written last


def is_installed(folder, wanted):
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_bytes() == wanted


def ensure(name, requirements):
    """The folder with the packages; installs them if the list has changed. One process at a time."""
    folder = SOURCE / ".deps" / name
    wanted = pathlib.Path(requirements).read_bytes()
    folder.parent.mkdir(exist_ok=True)
    with open(folder.parent / f"{name}.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if is_installed(folder, wanted):
            return folder
        with tempfile.TemporaryDirectory(dir=folder.parent) as work:
            new = pathlib.Path(work) / "new"
            subprocess.run([sys.executable, "-m", "pip", "install", "--quiet",
                            "--disable-pip-version-check", "--no-deps", "--require-hashes",
                            "--only-binary=:all:", "--target", new, "-r", requirements], check=True)
            (new / STAMP).write_bytes(wanted)
            shutil.rmtree(folder, ignore_errors=True)
            new.rename(folder)
    return folder


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    ensure(*sys.argv[1:])
