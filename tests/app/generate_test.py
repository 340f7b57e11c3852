"""`forebay generate`: prompts and refusals; with a real model, text under a line."""

import json
import os
import signal
import subprocess
import unittest

from program import (BINARY, REFUSAL_KEYS, SANITIZED, ProgramTest, engine, environment, forebay,
                     forebay_with_peak, gguf, model, on_terminal)

HAS_ENGINE = engine() != "none"
KEYS = {
    "text": str, "tokens_generated": int, "tokens_per_second": float, "line_bytes": int,
    "peak_bytes": int, "peak_rss_bytes": int, "line_held": bool, "trims": int, "denials": int,
    "owners": dict, "stages": list, "steps": list,
}


@unittest.skipIf(HAS_ENGINE, "this build has an engine")
class WithoutEngine(ProgramTest):
    def test_says_that_there_is_none(self):
        self.assert_refused(forebay("generate", "--prompt", "x"),
                            "generate: this build has no language-model engine")


@unittest.skipUnless(HAS_ENGINE, "needs an engine")
class Prompts(ProgramTest):
    def refused(self, *args, stdin="", message=""):
        tiny = self.file("tiny.gguf", gguf())
        self.assert_refused(forebay("generate", "--model", tiny, *args, stdin=stdin), message)

    def test_none_is_refused(self):
        self.refused(message="no prompt given; allowed: --prompt TEXT, --prompt-file FILE, or -")

    def test_two_are_refused(self):
        self.refused("--prompt", "a", "-", message="--prompt-file: a prompt is given by --prompt too")
        self.refused("-", "-", message="--prompt-file: given twice")

    def test_an_empty_one_is_refused(self):
        self.refused("--prompt", "", message="--prompt: an empty value is not allowed")
        self.refused("-", stdin="\n", message="standard input: the prompt is empty")

    def test_bytes_that_are_no_text_are_refused(self):
        self.refused("-", stdin=b"\xff\xfe", message="standard input: the prompt is not UTF-8 text")
        self.refused("-", stdin=b"a\0b", message="standard input: the prompt is not UTF-8 text")

    def test_an_endless_one_is_refused(self):
        self.refused("--prompt-file", "/dev/zero",
                     message="/dev/zero: the prompt is too long; allowed: at most 16 MiB")

    def test_a_file_that_cannot_be_read_is_named(self):
        self.refused("--prompt-file", "/nowhere.txt",
                     message="/nowhere.txt: cannot open the prompt: No such file or directory")
        self.refused("--prompt-file", str(self.folder),
                     message=f"{self.folder}: cannot read: Is a directory")


@unittest.skipUnless(HAS_ENGINE and model(), "needs an engine and a model")
class Generate(ProgramTest):
    def generate(self, *args, code=0, stdin=""):
        run = forebay("generate", "--model", model(), "--threads", "1", "--line", "1GiB", *args,
                      stdin=stdin)
        self.assertEqual(run.returncode, code, run.stderr)
        return run

    def test_the_json_object_has_its_keys(self):
        answer = self.object_of(self.generate("--prompt", "The ocean is", "--max-tokens", "6",
                                              "--json"))
        for key, kind in KEYS.items():
            self.assertIsInstance(answer[key], kind, key)
        self.assertEqual(answer["tokens_generated"], 6)
        self.assertEqual(len(answer["steps"]), 6)
        self.assertEqual(answer["line_bytes"], 1 << 30)
        self.assertTrue(answer["line_held"])
        self.assertLessEqual(answer["peak_bytes"], answer["line_bytes"])
        self.assertLessEqual(answer["peak_rss_bytes"], answer["line_bytes"])
        self.assertEqual(set(answer["owners"]),
                         {"weights", "kv", "compute", "output", "heap", "other"})
        for owner in answer["owners"].values():
            self.assertIsInstance(owner["peak_bytes"], int)
        names = [stage["name"] for stage in answer["stages"]]
        self.assertEqual(names[0], "start")
        self.assertEqual(names[-1], "end")
        for step in answer["steps"]:
            probabilities = [token["probability"] for token in step["tokens"]]
            self.assertEqual(probabilities, sorted(probabilities, reverse=True))
            self.assertFalse(step["tokens"][0]["pruned"])
        self.assertEqual("".join(step["tokens"][0]["text"] for step in answer["steps"]),
                         answer["text"])

    @unittest.skipIf(SANITIZED, "counts resident bytes")
    def test_the_process_stays_below_its_line_seen_from_outside(self):
        for gigabytes in ("0.2", "0.5", "1"):
            code, text, peak = forebay_with_peak(
                "generate", "--model", model(), "--threads", "1", "--prompt", "Once upon a time",
                "--max-tokens", "40", "--max-memory-gb", gigabytes, "--json")
            answer = json.loads(text)
            self.assertEqual(code, 0)
            self.assertTrue(answer["line_held"])
            self.assertLessEqual(peak, float(gigabytes) * 2**30)
            self.assertLessEqual(answer["peak_rss_bytes"], answer["peak_bytes"] + (1 << 20))

    @unittest.skipIf(SANITIZED, "counts resident bytes")
    def test_most_of_what_the_process_grows_by_has_an_owner(self):
        answer = self.object_of(self.generate("--prompt", "Once upon a time", "--max-tokens", "60",
                                              "--selection-threshold", "1", "--json"))
        self.assertGreaterEqual(answer["accounted_ratio"], 0.95)

    @unittest.skipIf(SANITIZED, "counts resident bytes")
    def test_a_plan_for_the_prompt_is_within_5_percent_of_what_the_run_uses(self):
        text = " ".join(f"Reservoir {i} feeds turbine {i % 7}." for i in range(60))
        for prompt, tokens, threshold in ((text, "16", "1"), ("Once upon a time", "260", "1"),
                                          ("Once upon a time there was", "100", "0.1")):
            flags = ("--prompt", prompt, "--max-tokens", tokens,
                     "--selection-threshold", threshold)
            used = self.object_of(self.generate(*flags, "--json"))
            self.assertEqual(used["stop"], "max_tokens")
            plan = self.object_of(forebay("plan", "--model", model(), "--line", "1GiB", *flags,
                                          "--json"))
            for key in ("peak_bytes", "peak_rss_bytes"):
                self.assertAlmostEqual(plan["total_bytes"] / used[key], 1, delta=0.05, msg=key)

    def test_tokens_over_the_threshold_share_a_position_and_are_trimmed_to_the_limit(self):
        flags = ("--prompt", "My favourite colour is", "--max-tokens", "12",
                 "--selection-threshold", "0.05", "--json")
        free = self.object_of(self.generate(*flags))
        self.assertGreater(max(len(step["tokens"]) for step in free["steps"]), 2)
        self.assertEqual(free["trims"], 0)
        tight = self.object_of(self.generate(*flags, "--max-parallel-tokens", "2"))
        self.assertGreater(tight["trims"], 0)
        for step in tight["steps"]:
            self.assertLessEqual(sum(not token["pruned"] for token in step["tokens"]), 2)

    def test_a_short_prompt_does_not_narrow_the_parallel_set(self):
        answer = self.object_of(self.generate("--prompt", "hi", "--max-tokens", "4",
                                              "--selection-threshold", "0.02", "--json"))
        self.assertEqual(answer["max_parallel_tokens"], 50)
        self.assertEqual(answer["trims"], 0)

    @unittest.skipIf(SANITIZED, "counts resident bytes")
    def test_a_vocabulary_of_candidates_does_not_cross_the_line(self):
        code, text, peak = forebay_with_peak(
            "generate", "--model", model(), "--threads", "1", "--prompt", "hi", "--max-tokens", "8",
            "--selection-threshold", "1e-12", "--max-memory-gb", "0.2", "--json")
        answer = json.loads(text)
        self.assertEqual((code, answer["line_held"]), (0, True))
        self.assertLessEqual(peak, answer["line_bytes"])

    @unittest.skipIf(SANITIZED, "counts resident bytes")
    def test_a_prompt_that_cannot_be_read_under_the_line_is_refused_before_it_is(self):
        file = self.file("long.txt", "many words " * 760000)
        code, text, peak = forebay_with_peak("generate", "--model", model(), "--prompt-file", file,
                                             "--max-memory-gb", "0.3", "--json")
        refusal = json.loads(text)
        self.assertEqual((code, refusal["budget"]), (3, "process/heap"))
        self.assertLessEqual(peak, refusal["limit_bytes"])

    @unittest.skipIf(SANITIZED, "counts resident bytes")
    def test_the_smallest_line_of_a_plan_is_enough_for_its_run(self):
        flags = ("--prompt", "Once upon a time", "--selection-threshold", "1", "--max-tokens", "30")
        plan = self.object_of(forebay("plan", "--model", model(), "--line", "1GiB", *flags,
                                      "--json"))
        slack = 1 << 20  # what a process takes at its start varies by some pages
        line = f"{plan['smallest_line_bytes'] + slack}B"
        run = forebay("generate", "--model", model(), "--threads", "1", *flags, "--line", line,
                      "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertTrue(self.object_of(run)["line_held"])

    def test_a_line_too_small_for_the_prompt_is_not_blamed_on_a_flag(self):
        text = " ".join(f"Reservoir {i} feeds turbine {i % 7}." for i in range(200))
        run = forebay("generate", "--model", model(), "--prompt", text, "--line", "150MiB", "--json")
        self.assertEqual(run.returncode, 3, run.stderr)
        self.assertIn("--max-memory-gb", " ".join(self.object_of(run)["advice"]))

    def test_text_goes_out_and_the_report_stays_aside(self):
        run = self.generate("--prompt", "The ocean is", "--max-tokens", "5")
        answer = self.object_of(self.generate("--prompt", "The ocean is", "--max-tokens", "5",
                                              "--json"))
        self.assertEqual(run.stdout.removesuffix("\n"), answer["text"].removesuffix("\n"))
        self.assertRegex(run.stderr, r"(?m)^  line held: +yes$")
        for owner in ("weights", "kv", "compute", "output", "other"):
            self.assertRegex(run.stderr, rf"(?m)^  {owner} +")

    def test_prompts_are_the_same_from_everywhere(self):
        prompt = "Grüße aus dem All:"
        args = ("--max-tokens", "4", "--selection-threshold", "1")
        texts = {
            self.generate("--prompt", prompt, *args).stdout,
            self.generate("--prompt-file", self.file("p.txt", prompt + "\n"), *args).stdout,
            self.generate("-", *args, stdin=prompt + "\n").stdout,
        }
        self.assertEqual(len(texts), 1)

    def test_verbose_logs_the_stages(self):
        run = self.generate("--prompt", "One two", "--max-tokens", "4", "--log-every", "2",
                            "--verbose")
        for stage in ("start", "planned", "model loaded", "prompt done", "2 tokens", "end"):
            self.assertRegex(run.stderr, rf"(?m) s  {stage} +used .* peak .* line .* resident ")

    def test_a_line_too_small_is_refused_before_loading(self):
        run = forebay("generate", "--model", model(), "--prompt", "x", "--line", "64MiB", "--json")
        self.assertEqual(run.returncode, 3)
        self.assertLessEqual(REFUSAL_KEYS, self.object_of(run).keys())
        self.assertTrue(run.stderr.startswith("forebay: "))

    def test_the_cache_limit_ends_the_text_with_a_refusal(self):
        run = self.generate("--prompt", "One two three", "--max-tokens", "600",
                            "--max-cache-tokens", "16", "--selection-threshold", "1", "--json",
                            code=3)
        answer = self.object_of(run)
        self.assertEqual(answer["code"], "memory_refused")
        self.assertEqual(answer["stop"], "cache_full")
        self.assertGreater(answer["tokens_generated"], 0)
        self.assertTrue(answer["line_held"])

    def started(self, *args):
        process = subprocess.Popen(
            [BINARY, "generate", "--model", model(), "--threads", "1", "--line", "1GiB", "--prompt",
             "Once upon a time", "--max-tokens", "4000", "--selection-threshold", "1", *args],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=environment())
        self.assertNotEqual(process.stdout.read(1), b"")  # the first text is there
        return process

    def test_control_c_ends_with_a_report(self):
        process = self.started()
        process.send_signal(signal.SIGINT)
        _, report = process.communicate(timeout=120)
        self.assertEqual(process.returncode, 130)
        self.assertRegex(report.decode(), r"(?m)^  line held: +yes$")
        self.assertRegex(report.decode(), r"(?m)^  ended +interrupted$")

    def test_another_process_sees_it_while_it_runs(self):
        place = str(self.folder / "published")
        process = self.started("--publish", "--publish-directory", place)
        run = forebay("top", "--once", "--json", "--publish-directory", place)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=120)
        self.assertEqual(run.returncode, 0, run.stderr)
        view = self.object_of(run)
        self.assertEqual((view["pid"], view["line_bytes"]), (process.pid, 1 << 30))
        self.assertIn("process/weights", [row["path"] for row in view["budgets"]])
        self.assertEqual(os.listdir(place), [])

    def test_a_reader_that_leaves_ends_the_run(self):
        process = self.started()
        process.stdout.close()
        report = process.stderr.read().decode()
        process.stderr.close()
        self.assertEqual(process.wait(timeout=120), 0, report)

    def test_nothing_is_left_behind(self):
        before = set(os.listdir("/dev/shm")), set(os.listdir("."))
        self.generate("--prompt", "x", "--max-tokens", "2")
        self.assertEqual((set(os.listdir("/dev/shm")), set(os.listdir("."))), before)

    def test_a_terminal_gets_text_without_a_bar_through_it(self):
        shown = on_terminal("generate", "--model", model(), "--threads", "1", "--prompt", "One",
                            "--max-tokens", "3", "--line", "1GiB")
        self.assertNotIn("[", shown)


if __name__ == "__main__":
    unittest.main()
