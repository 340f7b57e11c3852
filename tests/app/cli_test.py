"""The program as a whole: commands, flags, help, exit codes, streams."""

import os
import subprocess
import unittest

from program import BINARY, SHAPE, ProgramTest, environment, forebay, on_terminal

COMMANDS = ["generate", "plan", "replay alloc", "top", "snapshot", "leaks", "diff", "report"]
FLAGS = {"replay alloc": ("--pool NAME[:SPEC]", "(default host)"),
         "top": ("--once", "--interval MS"), "report": ("--top N", "(default 10)"),
         "snapshot": ("--out FILE", "--export FORMAT=FILE"),
         "leaks": ("--suppressions FILE", "--older-than SECONDS", "--json"), "diff": ("--snapshot PID|FILE", "--json")}


class Commands(ProgramTest):
    def test_no_command_is_bad_input(self):
        self.assert_refused(forebay(), "no command given; see 'forebay --help'")

    def test_a_misspelt_command_is_corrected(self):
        self.assert_refused(forebay("genrate", "--seed", "1"),
                            "genrate: unknown command; did you mean 'generate'?")

    def test_a_strange_command_points_to_the_help(self):
        self.assert_refused(forebay("fly"), "fly: unknown command; see 'forebay --help'")

    def test_version_is_one_line(self):
        run = forebay("--version")
        self.assertEqual(run.returncode, 0)
        self.assertRegex(run.stdout, r"^forebay \d+\.\d+\.\d+ \(engine: .+\)\n$")


class Flags(ProgramTest):
    def test_a_misspelt_flag_is_corrected(self):
        self.assert_refused(forebay("plan", "--max-memroy-gb", "1"),
                            "--max-memroy-gb: unknown flag; did you mean '--max-memory-gb'?")
        self.assert_refused(forebay("plan", "--max-memroy-gb=1"),
                            "--max-memroy-gb: unknown flag; did you mean '--max-memory-gb'?")

    def test_a_flag_of_another_command_is_told_apart(self):
        self.assert_refused(forebay("plan", "--soft", "0.5"), "--soft: not a flag of 'plan'")

    def test_a_value_may_look_like_a_flag(self):
        run = forebay("plan", "--model", "--json")
        self.assert_refused(run, "--json: ")

    def test_a_missing_value_says_what_is_allowed(self):
        self.assert_refused(forebay("plan", "--kv-type"),
                            "--kv-type: no value given; allowed: f16, bf16, q8_0, q4_0\n")
        self.assert_refused(forebay("plan", "--config"), "--config: no value given")

    def test_an_empty_value_does_not_take_the_next_flag(self):
        self.assert_refused(forebay("plan", "--model=", "--verbose"),
                            "--model: an empty value is not allowed")

    def test_a_value_out_of_range_says_what_is_allowed(self):
        self.assert_refused(
            forebay("plan", "--selection-threshold", "1.7"),
            "--selection-threshold: 1.7 is not allowed; allowed: a number above 0 and at most 1\n")

    def test_a_flag_twice_is_refused(self):
        self.assert_refused(forebay("plan", "--line", "1GiB", "--line", "2GiB"),
                            "--line: given twice; allowed: once")

    def test_both_names_of_the_line_are_refused(self):
        self.assert_refused(forebay("plan", "--line", "1GiB", "--max-memory-gb", "2"),
                            "--line: is the same setting as --max-memory-gb")

    def test_a_stray_word_is_refused(self):
        self.assert_refused(forebay("plan", "model.gguf"), "model.gguf: not expected")
        self.assert_refused(forebay("plan", "-"), "-: ")

    def test_control_characters_do_not_reach_the_terminal(self):
        run = forebay("plan", "--kv-type", "a\x1b[2J\nb")
        self.assert_refused(run, "--kv-type: a\\x1b[2J\\nb is not allowed")

    def test_bad_input_is_answered_in_json_too(self):
        run = forebay("plan", "--json", "--seeed")
        self.assertEqual(run.returncode, 2)
        answer = self.object_of(run)
        self.assertEqual(answer["code"], "invalid_argument")
        self.assertEqual(run.stderr, f"forebay: {answer['error']}\n")


class ConfigFiles(ProgramTest):
    def test_a_flag_wins_over_the_file(self):
        config = self.file("c.yaml", "max_memory_gb: 0.5\nkv_type: q8_0\njson: true\n")
        run = forebay("plan", "--config", config, "--max-memory-gb", "0.75", *SHAPE)
        answer = self.object_of(run)
        self.assertEqual(answer["line_bytes"], 3 << 28)
        self.assertEqual(answer["kv_type"], "q8_0")

    def test_a_toggle_of_the_file_can_be_taken_back(self):
        config = self.file("c.yaml", "json: true\n")
        run = forebay("plan", "--config", config, "--json=false", "--line", "1GiB", *SHAPE)
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertFalse(run.stdout.startswith("{"))

    def test_a_bad_key_names_file_and_line(self):
        config = self.file("c.yaml", "seed: 1\nmax_memroy_gb: 36\n")
        self.assert_refused(
            forebay("plan", "--config", config),
            f"{config}:2: max_memroy_gb: unknown key; did you mean 'max_memory_gb'?\n")

    def test_a_file_that_is_not_there_is_named(self):
        self.assert_refused(forebay("plan", "--config", "/nowhere/c.yaml"),
                            "/nowhere/c.yaml: no such configuration file")

    def test_an_endless_file_ends(self):
        self.assert_refused(forebay("plan", "--config", "/dev/zero"),
                            "/dev/zero: too large for a configuration; allowed: at most 1 MiB")


class Help(ProgramTest):
    def test_the_program_lists_its_commands(self):
        for flag in ("--help", "-h"):
            run = forebay(flag)
            self.assertEqual(run.returncode, 0)
            for command in COMMANDS:
                self.assertIn(f"  {command} ", run.stdout)

    def test_each_command_has_an_example_and_its_flags(self):
        for command in COMMANDS:
            run = forebay(*command.split(), "--help")
            self.assertEqual((run.returncode, run.stderr), (0, ""))
            examples = run.stdout.split("examples\n")[1].split("\n\n")[0]
            self.assertIn(f"forebay {command} ", examples)
            own = FLAGS.get(command, ("--max-memory-gb GB", "(default f16)"))
            for word in ("--config FILE", "exit codes", *own):
                self.assertIn(word, run.stdout)

    def test_help_wins_over_other_flags(self):
        self.assertEqual(forebay("plan", "--kv-type", "f17", "--help").returncode, 0)

    def test_descriptions_stay_within_the_width(self):
        for command in COMMANDS:
            flags = forebay(*command.split(), "--help").stdout.split("\n\n", 3)[3]
            self.assertLessEqual(max(len(line) for line in flags.splitlines()), 100)


class Streams(ProgramTest):
    PLAN = ["plan", "--line", "1GiB", *SHAPE]

    def test_a_reader_that_leaves_is_no_failure(self):
        for args in (self.PLAN, [*self.PLAN, "--json"], ["--help"]):
            reader, writer = os.pipe()
            os.close(reader)
            run = subprocess.run([BINARY, *args], stdout=writer, stderr=subprocess.PIPE,
                                 check=False, env=environment(), timeout=60)
            os.close(writer)
            self.assertEqual((run.returncode, run.stderr), (0, b""))

    def test_a_full_disk_is_a_failure(self):
        with open("/dev/full", "w", encoding="ascii") as full:
            run = subprocess.run([BINARY, *self.PLAN], stdout=full, stderr=subprocess.PIPE,
                                 check=False, env=environment(), timeout=60)
        self.assertEqual(run.returncode, 2)
        self.assertEqual(run.stderr, b"forebay: cannot write standard output: "
                                     b"No space left on device\n")

    def test_a_closed_standard_error_is_survived(self):
        run = subprocess.run(["/bin/sh", "-c", f'"{BINARY}" nothing 2>&-'], check=False,
                             env=environment(), timeout=60)
        self.assertEqual(run.returncode, 2)

    def test_colours_are_for_terminals(self):
        self.assertIn("\x1b[", on_terminal(*self.PLAN))
        self.assertNotIn("\x1b", forebay(*self.PLAN).stdout)

    def test_colours_can_be_declined(self):
        for change in ({"NO_COLOR": "1"}, {"TERM": "dumb"}, {"TERM": None}):
            self.assertNotIn("\x1b", on_terminal(*self.PLAN, env=environment(**change)))

    def test_json_has_no_colours_even_on_a_terminal(self):
        self.assertNotIn("\x1b", on_terminal(*self.PLAN, "--json"))


if __name__ == "__main__":
    unittest.main()
