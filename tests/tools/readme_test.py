"""The README's program is the example that is built and run, to the letter."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]


class Readme(unittest.TestCase):
    def setUp(self):
        self.text = (ROOT / "README.md").read_text()

    def test_its_program_is_examples_first(self):
        shown = re.search(r"```cpp\n(.*?)\n```", self.text, re.S).group(1)
        built = (ROOT / "examples/first.cpp").read_text().split("\n", 1)[1]
        self.assertEqual(shown.strip(), built.strip())

    def test_every_file_it_points_to_is_there(self):
        for target in re.findall(r"\]\(([^)#]+)\)", self.text):
            if not target.startswith("http"):
                self.assertTrue((ROOT / target).exists(), target)


if __name__ == "__main__":
    unittest.main()
