#!/usr/bin/env python3
"""Runs the real binary as a person would: python3 command_line_test.py BINARY SOURCE_DIR [CASE...]

The embedded packages are read from SOURCE_DIR/models, or from $SLUICE_TEST_MODELS.
Only Python's standard library is used.
"""
import os
import pathlib
import sys
import unittest

MODULES = ["help_cases", "generate_cases", "batch_cases", "chat_cases", "serve_cases", "tool_cases",
           "bad_input_cases", "bad_package_cases", "import_cases", "quantized_cases", "access_cases",
           "http_cases", "admin_cases", "log_cases"]


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    os.environ["SLUICE_BINARY"] = str(pathlib.Path(sys.argv[1]).resolve())
    os.environ["SLUICE_SOURCE_DIR"] = str(pathlib.Path(sys.argv[2]).resolve())
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "command_line"))
    sys.dont_write_bytecode = True
    names = sys.argv[3:] or MODULES
    suite = unittest.defaultTestLoader.loadTestsFromNames(names)
    result = unittest.TextTestRunner(verbosity=2, buffer=False).run(suite)
    sys.exit(0 if result.wasSuccessful() and result.testsRun > 0 else 1)


if __name__ == "__main__":
    main()
