"""`forebay plan`, with shapes by flags, generated files and a real model."""

import unittest

from program import REFUSAL_KEYS, SHAPE, ProgramTest, environment, engine, forebay, gguf, model

KEYS = {
    "fits": bool, "weights_bytes": int, "kv_bytes_per_token": int,
    "kv_bytes_per_token_per_layer": int, "kv_bytes": int, "compute_bytes": int,
    "output_bytes": int, "other_bytes": int, "total_bytes": int, "context_tokens": int,
    "max_parallel_tokens": int, "smallest_line_bytes": int, "line_bytes": int, "measured": bool,
    "alternatives": list, "notes": list,
}
PARTS = ["weights_bytes", "kv_bytes", "compute_bytes", "output_bytes", "other_bytes"]


class Plan(ProgramTest):
    def plan(self, *args, code=0):
        run = forebay("plan", "--json", *args)
        self.assertEqual(run.returncode, code, run.stderr)
        answer = self.object_of(run)
        for key, kind in KEYS.items():
            self.assertIsInstance(answer[key], kind, key)
        return answer

    def test_parts_add_up_to_the_total(self):
        answer = self.plan("--line", "1GiB", *SHAPE)
        self.assertEqual(sum(answer[part] for part in PARTS), answer["total_bytes"])
        self.assertTrue(answer["fits"])
        self.assertLessEqual(answer["total_bytes"], answer["line_bytes"])
        self.assertLessEqual(answer["smallest_line_bytes"], answer["total_bytes"])

    def test_kv_bytes_follow_the_formula(self):
        for kind, per_layer in (("f16", 768), ("bf16", 768), ("q8_0", 408), ("q4_0", 216)):
            answer = self.plan("--line", "1GiB", "--kv-type", kind, "--context-tokens", "1024",
                               *SHAPE)
            self.assertEqual(answer["kv_bytes_per_token_per_layer"], per_layer)
            self.assertEqual(answer["kv_bytes_per_token"], 30 * per_layer)
            # Whole pages: at most one more for the K and the V of each layer.
            exact = 1024 * 30 * per_layer
            self.assertGreaterEqual(answer["kv_bytes"], exact)
            self.assertLessEqual(answer["kv_bytes"], exact + 30 * 2 * 4096)

    def test_the_selection_threshold_bounds_the_parallel_set(self):
        self.assertEqual(self.plan("--line", "1GiB", *SHAPE)["max_parallel_tokens"], 4)
        greedy = self.plan("--line", "1GiB", "--selection-threshold", "1", *SHAPE)
        self.assertEqual(greedy["max_parallel_tokens"], 1)

    def test_the_cache_limit_bounds_the_context(self):
        answer = self.plan("--line", "1GiB", "--max-cache-tokens", "512", *SHAPE)
        self.assertEqual(answer["context_tokens"], 512)

    def test_a_share_of_the_machine_is_a_line(self):
        half = self.plan("--line", "50%", *SHAPE)
        quarter = self.plan("--line", "25%", *SHAPE)
        self.assertAlmostEqual(half["line_bytes"] / quarter["line_bytes"], 2, places=3)

    def test_a_line_beyond_the_machine_is_lowered_and_says_so(self):
        answer = self.plan("--max-memory-gb", "1000000", *SHAPE)
        self.assertLess(answer["line_bytes"], 1000000 << 30)
        self.assertIn("977 TiB asked", answer["line_reason"])

    def test_the_default_line_leaves_room_for_others(self):
        answer = self.plan(*SHAPE)
        self.assertLessEqual(answer["line_bytes"], 36 << 30)
        self.assertRegex(answer["line_reason"], "by default|80 %")

    def test_people_get_a_table(self):
        run = forebay("plan", "--line", "1GiB", *SHAPE)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        for word in ("weights", "kv cache", "compute", "output", "other", "total", "line", "fits",
                     "context", "parallel set", "smallest line"):
            self.assertRegex(run.stdout, rf"(?m)^  {word} ")

    def test_a_plan_that_does_not_fit_is_refused_with_the_account(self):
        answer = self.plan("--line", "64MiB", *SHAPE, code=3)
        self.assertFalse(answer["fits"])
        self.assertLessEqual(REFUSAL_KEYS, answer.keys())
        self.assertEqual(answer["code"], "memory_refused")
        self.assertGreater(answer["smallest_line_bytes"], answer["line_bytes"])

    def test_a_refusal_tells_people_what_to_do(self):
        run = forebay("plan", "--line", "64MiB", *SHAPE)
        self.assertEqual(run.returncode, 3)
        self.assertRegex(run.stdout, r"(?m)^  fits +no$")
        self.assertTrue(run.stderr.startswith("forebay: "), run.stderr)
        self.assertRegex(run.stderr, r"(?m)^  held by +")
        self.assertRegex(run.stderr, r"(?m)^  try +")

    def test_the_smallest_line_is_enough(self):
        least = self.plan("--line", "64MiB", *SHAPE, code=3)["smallest_line_bytes"]
        margin = 2 << 20  # the process itself differs by some pages from run to run
        self.plan("--line", str(least + margin), *SHAPE)
        self.plan("--line", str(least - margin), *SHAPE, code=3)


class Shapes(ProgramTest):
    def test_a_missing_part_is_named(self):
        self.assert_refused(forebay("plan", "--layers", "30"), "--heads: not given; a shape needs")

    def test_shape_and_model_exclude_each_other(self):
        self.assert_refused(forebay("plan", "--model", "m.gguf", *SHAPE),
                            "--layers: a shape and a model (--model) are given")

    def test_a_shape_by_flags_wins_over_a_model_in_the_file(self):
        config = self.file("c.yaml", "model: /nowhere.gguf\nline: 1GiB\n")
        self.assertEqual(forebay("plan", "--config", config, *SHAPE).returncode, 0)

    def test_heads_must_divide_the_embedding(self):
        shape = [*SHAPE, "--heads", "7"]
        del shape[2:4]
        self.assert_refused(forebay("plan", *shape),
                            "--embedding: 576 is no multiple of --heads 7; give --head-dim")

    def test_key_value_heads_are_bounded_by_heads(self):
        shape = [*SHAPE, "--kv-heads", "10"]
        del shape[4:6]
        self.assert_refused(forebay("plan", *shape), "--kv-heads: 10 is not allowed")


class Files(ProgramTest):
    def test_a_header_is_enough_for_a_plan(self):
        file = self.file("tiny.gguf", gguf())
        run = forebay("plan", "--json", "--line", "1GiB", "--model", file)
        answer = self.object_of(run)
        self.assertEqual(run.returncode, 0)
        self.assertEqual(answer["model"], "tiny")
        self.assertEqual(answer["weights_bytes"], 4 * 64 * 96)
        self.assertEqual(answer["kv_bytes_per_token"], 2 * (2 * 16 + 2 * 16) * 2)

    def test_a_file_that_is_not_there_is_named(self):
        self.assert_refused(forebay("plan", "--model", "/nowhere/m.gguf"), "/nowhere/m.gguf")

    def test_a_truncated_file_is_one_clear_line(self):
        whole = gguf()
        for size in (0, 3, 16, 40, 200, len(whole) - 1):
            file = self.file("cut.gguf", whole[:size])
            self.assert_refused(forebay("plan", "--model", file), file)

    def test_a_file_that_is_no_model_is_one_clear_line(self):
        file = self.file("text.gguf", "not a model at all, just some text\n" * 100)
        self.assert_refused(forebay("plan", "--model", file), file)

    def test_without_a_default_model_the_way_to_one_is_shown(self):
        env = environment(FOREBAY_CACHE=str(self.folder))
        run = forebay("plan", env=env)
        self.assert_refused(run, f"{self.folder}/models/")
        self.assertIn("run 'make setup', or give --model FILE", run.stderr)

    @unittest.skipUnless(model() and engine() != "none", "needs a model and an engine")
    def test_a_real_model_is_measured(self):
        run = forebay("plan", "--json", "--line", "1GiB", "--model", model())
        answer = self.object_of(run)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertTrue(answer["measured"])

    @unittest.skipUnless(model() and engine() != "none", "needs a model and an engine")
    def test_a_prompt_plans_its_run_and_takes_no_context_beside_it(self):
        plan = ("plan", "--model", model(), "--line", "1GiB", "--prompt", "The ocean is")
        answer = self.object_of(forebay(*plan, "--max-tokens", "300", "--selection-threshold", "1",
                                        "--json"))
        self.assertEqual(answer["context_tokens"], 512)
        self.assertEqual(answer["parallel_tokens"], 1)
        self.assert_refused(forebay(*plan, "--context-tokens", "512"),
                            "--context-tokens: given with --prompt")

    def test_a_prompt_needs_a_file(self):
        self.assert_refused(forebay("plan", "--prompt", "x", *SHAPE), "--prompt: a prompt needs")


if __name__ == "__main__":
    unittest.main()
