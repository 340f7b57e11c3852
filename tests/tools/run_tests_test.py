#!/usr/bin/env python3
"""tools/run_tests.py, the driver of `make test`, on stages made up here."""

import contextlib
import importlib.util
import io
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

TOOL = Path(__file__).resolve().parents[2] / "tools" / "run_tests.py"
spec = importlib.util.spec_from_file_location("run_tests", TOOL)
run_tests = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_tests)

Stage = run_tests.Stage
TRUE, FALSE = ["true"], ["false"]


class RunTests(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.logs = Path(folder.name)

    def run_with(self, *stages, arguments=()):
        output = io.StringIO()
        with mock.patch.multiple(run_tests, ROOT=self.logs, LOGS=self.logs, STAGES=list(stages)), \
                mock.patch.object(sys, "argv", ["run_tests", *arguments]), \
                contextlib.redirect_stdout(output):
            code = run_tests.main()
        return code, output.getvalue().splitlines()

    def junit(self, preset, tests, failures=0, skipped=0, code=0, cases=""):
        text = (f'<testsuite tests="{tests}" failures="{failures}" skipped="{skipped}" '
                f'disabled="0">{cases}</testsuite>')
        script = f"printf '%s' '{text}' > {self.logs}/{preset}.xml; exit {code}"
        return Stage(f"{preset}-test", [["sh", "-c", script]], tests=preset)

    def test_sums_all_runs_in_the_last_line(self):
        code, lines = self.run_with(Stage("setup", [TRUE]), self.junit("dev", 10, skipped=1),
                                    self.junit("asan", 5))
        self.assertEqual(code, 0)
        self.assertEqual(lines[-1], "14 passed, 0 failed")
        self.assertIn("9 passed, 0 failed, 1 skipped", lines[1])

    def test_a_failed_test_fails_the_run_and_the_rest_still_runs(self):
        code, lines = self.run_with(self.junit("dev", 10, failures=2, code=8), self.junit("asan", 5))
        self.assertEqual((code, lines[-1]), (1, "13 passed, 2 failed"))

    def test_a_failed_test_is_shown_with_the_end_of_its_output(self):
        case = ('<testcase name="Budget.Adds" status="run"/><testcase name="Budget.Holds" '
                'status="fail"><system-out>noise\n1 is not 2</system-out></testcase>')
        _, lines = self.run_with(self.junit("dev", 2, failures=1, code=8, cases=case))
        self.assertIn("  failed: Budget.Holds", lines)
        self.assertIn("    1 is not 2", lines)
        self.assertFalse(any("Budget.Adds" in line for line in lines))

    def test_a_failed_stage_without_tests_counts_as_one(self):
        code, lines = self.run_with(Stage("layers", [FALSE]), self.junit("dev", 3))
        self.assertEqual((code, lines[-1]), (1, "3 passed, 1 failed"))

    def test_what_needs_a_failed_stage_is_not_run(self):
        needy = self.junit("dev", 3)
        needy.needs = "dev-build"
        code, lines = self.run_with(Stage("dev-build", [TRUE, FALSE]), needy)
        self.assertEqual((code, lines[-1]), (1, "0 passed, 1 failed"))
        self.assertTrue(any("not run: dev-build failed" in line for line in lines))

    def test_a_run_that_leaves_no_results_fails(self):
        (self.logs / "dev.xml").write_text('<testsuite tests="3" failures="0" skipped="0" '
                                           'disabled="0"/>')  # of an earlier run
        code, lines = self.run_with(Stage("dev-test", [TRUE], tests="dev"))
        self.assertEqual((code, lines[-1]), (1, "0 passed, 1 failed"))

    def test_a_run_of_no_tests_fails(self):
        code, lines = self.run_with(self.junit("dev", 0))
        self.assertEqual((code, lines[-1]), (1, "0 passed, 1 failed"))

    def test_a_run_that_crashes_after_passing_fails(self):
        code, lines = self.run_with(self.junit("dev", 3, code=1))
        self.assertEqual((code, lines[-1]), (1, "3 passed, 1 failed"))

    def test_the_log_of_a_failed_stage_is_shown(self):
        _, lines = self.run_with(Stage("layers", [["sh", "-c", "echo the reason; exit 1"]]))
        self.assertIn("    the reason", lines)

    def test_a_command_that_is_not_there_fails(self):
        code, lines = self.run_with(Stage("format", [["no-such-tool-at-all"]]))
        self.assertEqual((code, lines[-1]), (1, "0 passed, 1 failed"))

    def test_stages_can_be_chosen(self):
        code, lines = self.run_with(Stage("layers", [FALSE]), self.junit("dev", 3),
                                    arguments=["dev-test"])
        self.assertEqual((code, lines[-1]), (0, "3 passed, 0 failed"))

    def test_an_unknown_stage_is_refused_with_those_there_are(self):
        with self.assertRaises(SystemExit) as stop:
            self.run_with(Stage("layers", [TRUE]), arguments=["tests"])
        self.assertIn("unknown stage 'tests'; allowed: layers", str(stop.exception))


if __name__ == "__main__":
    unittest.main()
