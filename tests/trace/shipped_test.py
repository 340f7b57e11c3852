"""The traces in traces/ are what tools/make_traces.py writes, byte for byte."""

import json
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
NAMES = ["llm_serving.jsonl", "random.csv", "transformer_step.jsonl"]


class Shipped(unittest.TestCase):
    def test_the_generator_writes_them_again(self):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, ROOT / "tools" / "make_traces.py", folder], check=True)
            self.assertEqual(sorted(p.name for p in Path(folder).iterdir()), NAMES)
            for name in NAMES:
                self.assertEqual((Path(folder) / name).read_bytes(),
                                 (ROOT / "traces" / name).read_bytes(), name)

    def test_they_are_small(self):
        for name in NAMES:
            self.assertLessEqual((ROOT / "traces" / name).stat().st_size, 300_000, name)

    def test_an_unknown_flag_is_answered_with_the_usage(self):
        done = subprocess.run([sys.executable, ROOT / "tools" / "make_traces.py", "--fast"],
                              capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)
        self.assertIn("usage: tools/make_traces.py", done.stdout)

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
