#!/usr/bin/env python3
"""Runs everything that CI proves, one line a stage, and sums up.

usage: tools/run_tests.py [--list] [STAGE ...]

Without arguments all stages run, in the order of --list; a failed stage does not stop the
others, except those that need what it should have built. The last line is "N passed,
M failed": the tests of all CTest runs, and each other stage that failed. Logs are in
build/logs. Exit code 1 if anything failed.
"""

import argparse
import os
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / "build" / "logs"
JOBS = str(os.cpu_count() or 2)
TAIL = 60  # lines of a failed stage's log that are shown
TESTS_SHOWN, TEST_TAIL = 10, 15  # failed tests that are shown, and lines of each


class Stage:
    def __init__(self, name, commands, needs=None, tests=None, shown=False):
        self.name = name          # as on the command line
        self.commands = commands  # run one after the other, until one fails
        self.needs = needs        # stage that must not have failed before
        self.tests = tests        # preset whose CTest results these commands leave
        self.shown = shown        # whether the output goes to the terminal


def build(preset, *extra):
    return Stage(f"{preset}-build", [["cmake", "--preset", preset, *extra],
                                     ["cmake", "--build", "--preset", preset, "-j", JOBS]])


def ctest(preset):
    return Stage(f"{preset}-test",
                 [["ctest", "--preset", preset, "-j", JOBS, "--output-junit",
                   str(LOGS / f"{preset}.xml")]],
                 needs=f"{preset}-build", tests=preset)


STAGES = [
    Stage("setup", [["scripts/setup.sh"]], shown=True),
    Stage("format", [["tools/check_format.sh"]]),
    Stage("layers", [["tools/check_layers.py"]]),
    # Benchmarks are built by the release stage; the tidy stage looks at them too.
    build("dev", "-DFOREBAY_BUILD_BENCHMARKS=OFF"),
    ctest("dev"),
    Stage("tidy", [["cmake", "--preset", "dev", "-DFOREBAY_BUILD_BENCHMARKS=ON"],
                   ["tools/run_tidy.py", "-j", JOBS, "build/dev"]]),
    build("asan"),
    ctest("asan"),
    build("tsan"),
    ctest("tsan"),
    build("release", "-DFOREBAY_BUILD_TESTS=OFF", "-DFOREBAY_BUILD_BENCHMARKS=ON"),
    Stage("bench", [["tools/run_bench.sh", "--smoke", "build/release/bench"]],
          needs="release-build"),
]


class Counts:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add_junit(self, file):
        """Adds the results of a CTest run; False if it left none that can be read."""
        try:
            suite = xml.parse(file).getroot()
            total = int(suite.attrib["tests"])
            failed = int(suite.attrib["failures"])
            skipped = int(suite.attrib["skipped"]) + int(suite.attrib["disabled"])
        except (OSError, xml.ParseError, KeyError, ValueError):
            return False
        self.passed += total - failed - skipped
        self.failed += failed
        self.skipped += skipped
        return total > 0


def run(stage, log):
    """Runs the stage's commands; returns whether all succeeded."""
    for command in stage.commands:
        if log is not None:
            log.write(f"$ {' '.join(command)}\n")
            log.flush()
        try:
            done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=log,
                                  stderr=None if log is None else subprocess.STDOUT)
        except OSError as error:
            print(f"{command[0]}: {error.strerror}", file=log or sys.stderr)
            return False
        if done.returncode != 0:
            return False
    return True


def show_tail(path):
    lines = path.read_text(errors="replace").splitlines()
    if len(lines) > TAIL:
        print(f"    ... {len(lines) - TAIL} lines before these are in {path.relative_to(ROOT)}")
    for line in lines[-TAIL:]:
        print(f"    {line}")


def show_failed_tests(stage, results):
    """Shows the failed tests of a CTest run; False if its results name none."""
    try:
        failed = [case for case in xml.parse(results).iter("testcase")
                  if case.attrib.get("status") == "fail"]
    except (OSError, xml.ParseError):
        return False
    for case in failed[:TESTS_SHOWN]:
        # GoogleTest repeats itself after the line that ends the test.
        output = re.split(r"\n\[  FAILED  \] ", case.findtext("system-out") or "")[0]
        output = output.strip().splitlines()
        print(f"  failed: {case.attrib.get('name')}")
        for line in output[-TEST_TAIL:]:
            print(f"    {line}")
    for case in failed[TESTS_SHOWN:]:
        print(f"  failed: {case.attrib.get('name')}")
    if failed:
        print(f"  all of it is in build/logs/{stage.name}.log")
    return bool(failed)


def run_stage(stage, counts):
    """Runs one stage, prints its line, counts its results; returns whether it succeeded."""
    results = LOGS / f"{stage.tests}.xml"
    if stage.tests:
        results.unlink(missing_ok=True)
    path = LOGS / f"{stage.name}.log"
    start = time.monotonic()
    if stage.shown:
        ok = run(stage, None)
    else:
        with path.open("w") as log:
            ok = run(stage, log)
    before = counts.passed, counts.failed, counts.skipped
    counted = stage.tests is not None and counts.add_junit(results)
    if stage.tests and not counted:
        ok = False
    if not ok and counts.failed == before[1]:
        counts.failed += 1  # a stage without tests of its own, or whose CTest itself broke
    line = f"{stage.name:<14} {'ok' if ok else 'FAILED':<7} {time.monotonic() - start:6.1f} s"
    if counted:
        line += f"   {counts.passed - before[0]} passed, {counts.failed - before[1]} failed"
        if counts.skipped > before[2]:
            line += f", {counts.skipped - before[2]} skipped"
    print(line, flush=True)
    if not ok and not stage.shown and not (counted and show_failed_tests(stage, results)):
        show_tail(path)
    return ok


def chosen(names):
    known = [stage.name for stage in STAGES]
    for name in names:
        if name not in known:
            sys.exit(f"run_tests: unknown stage '{name}'; allowed: {', '.join(known)}")
    return [stage for stage in STAGES if not names or stage.name in names]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--list", action="store_true", help="print the stages and stop")
    parser.add_argument("stage", nargs="*")
    options = parser.parse_args()
    stages = chosen(options.stage)
    if options.list:
        print("\n".join(stage.name for stage in stages))
        return 0

    LOGS.mkdir(parents=True, exist_ok=True)
    counts = Counts()
    broken = set()
    start = time.monotonic()
    for stage in stages:
        if stage.needs in broken:
            print(f"{stage.name:<14} not run: {stage.needs} failed", flush=True)
            broken.add(stage.name)
        elif not run_stage(stage, counts):
            broken.add(stage.name)
    print(f"{'all':<14} {'FAILED' if broken else 'ok':<7} {time.monotonic() - start:6.1f} s")
    print(f"{counts.passed} passed, {counts.failed} failed")
    return 1 if broken or counts.failed else 0


if __name__ == "__main__":
    sys.exit(main())
