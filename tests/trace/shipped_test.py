"""The traces in traces/ are what the generators in tools/ write, byte for byte."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["llm_serving.jsonl", "random.csv", "transformer_step.jsonl"]
CACHE_NAMES = ["cdn.csv", "llm_blocks.jsonl", "zipf.csv", "zipf_and_loop.oracleGeneral"]
GENERATORS = {"make_traces.py": NAMES, "make_cache_traces.py": CACHE_NAMES}


class Shipped(unittest.TestCase):
    def test_the_generators_write_them_again(self):
        for generator, names in GENERATORS.items():
            with tempfile.TemporaryDirectory() as folder:
                subprocess.run([sys.executable, "-B", ROOT / "tools" / generator, folder],
                               check=True)
                self.assertEqual(sorted(p.name for p in Path(folder).iterdir()), names)
                for name in names:
                    self.assertEqual((Path(folder) / name).read_bytes(),
                                     (ROOT / "traces" / name).read_bytes(), name)

    def test_they_are_all_there_is_and_small(self):
        self.assertEqual(sorted(p.name for p in (ROOT / "traces").iterdir()),
                         sorted(NAMES + CACHE_NAMES))
        for name in NAMES:
            self.assertLessEqual((ROOT / "traces" / name).stat().st_size, 300_000, name)
        for name in CACHE_NAMES:
            self.assertLessEqual((ROOT / "traces" / name).stat().st_size, 80_000, name)

    def test_an_unknown_flag_is_answered_with_the_usage(self):
        for generator in GENERATORS:
            done = subprocess.run([sys.executable, "-B", ROOT / "tools" / generator, "--fast"],
                                  capture_output=True, text=True, check=False)
            self.assertEqual(done.returncode, 2)
            self.assertIn(f"usage: tools/{generator}", done.stdout)

    def test_training_repeats_its_sizes_and_frees_what_it_makes(self):
        lines = (ROOT / "traces" / "transformer_step.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        sizes = [r["bytes"] for r in records if r["op"] == "alloc"]
        self.assertGreater(len(sizes), 15 * len(set(sizes)))
        tags = {r["id"]: r["tag"] for r in records if r["op"] == "alloc"}
        for record in records:
            if record["op"] == "free":
                del tags[record["id"]]
        self.assertEqual({tag.split()[0] for tag in tags.values()},
                         {"weight", "moment1", "moment2"})


if __name__ == "__main__":
    unittest.main()
