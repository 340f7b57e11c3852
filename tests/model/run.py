#!/usr/bin/env python3
"""Checks a model with spin: every interleaving, or the first one that breaks a rule.

usage: run.py MODEL.pml [--expect-error] [-DNAME[=VALUE] ...]

With --expect-error the run succeeds only if an assertion is violated: so it is known that
the check can fail.
"""

import re
import subprocess
import sys
import tempfile
from pathlib import Path


def run(command, folder):
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main():
    arguments = sys.argv[1:]
    expect_error = "--expect-error" in arguments
    defines = [argument for argument in arguments if argument.startswith("-D")]
    model = Path(__file__).resolve().parent / arguments[0]
    with tempfile.TemporaryDirectory() as folder:
        run(["spin", "-a", *defines, str(model)], folder)
        run(["cc", "-O2", "-w", "-DSAFETY", "-DCOLLAPSE", "-o", "pan", "pan.c"], folder)
        report = run(["./pan", "-m100000", "-w24"], folder)
    print(report)
    if "max search depth too small" in report or "out of memory" in report:
        sys.exit("the search was cut off")
    errors = re.search(r"errors: (\d+)", report)
    if errors is None:
        sys.exit("no result")
    if expect_error:
        if "assertion violated" not in report:
            sys.exit("the race was not found: this check proves nothing")
    elif errors.group(1) != "0":
        sys.exit("an interleaving breaks a rule (above)")


if __name__ == "__main__":
    main()
