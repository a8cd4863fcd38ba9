#!/usr/bin/env python3
"""Clients that others wrote against the real binary: client_test.py BINARY SOURCE_DIR [CASE...]

Installs them into .deps/client-tools if they are not there.
"""
import os
import pathlib
import sys
import unittest

MODULES = ["triton_cases", "openai_cases", "reflection_cases"]
HERE = pathlib.Path(__file__).resolve().parent


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.dont_write_bytecode = True
    os.environ["SLUICE_BINARY"] = str(pathlib.Path(sys.argv[1]).resolve())
    os.environ["SLUICE_SOURCE_DIR"] = str(pathlib.Path(sys.argv[2]).resolve())
    sys.path[:0] = [str(HERE), str(HERE.parent / "cli" / "command_line")]
    import environment
    sys.path.insert(0, str(environment.ensure("client-tools",
                                              environment.SOURCE / "scripts" / "client_tools.txt")))
    suite = unittest.defaultTestLoader.loadTestsFromNames(sys.argv[3:] or MODULES)
    result = unittest.TextTestRunner(verbosity=2, buffer=False).run(suite)
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)


if __name__ == "__main__":
    main()
