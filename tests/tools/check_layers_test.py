#!/usr/bin/env python3
"""Plants violations in a small tree and expects tools/check_layers.py to find each."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

TOOL = Path(__file__).resolve().parents[2] / "tools" / "check_layers.py"
PUBLIC = ("#pragma once\n{includes}\n#pragma GCC visibility push(default)\n"
          "namespace forebay {{\n}}  // namespace forebay\n#pragma GCC visibility pop\n")


class CheckLayers(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.addCleanup(self.folder.cleanup)
        self.root = Path(self.folder.name)
        for name in ("bytes", "device", "budget", "governor", "config", "llama", "forebay"):
            self.public(name)
        self.write("src/budget/node.hpp", "#pragma once\n")
        self.write("src/budget/budget.cpp",
                   '#include "forebay/budget.hpp"\n#include <vector>\n'
                   '#include "budget/node.hpp"\n#include "forebay/device.hpp"\n')
        self.write("apps/forebay/main.cpp",
                   '#include "forebay/forebay.hpp"\n#include "forebay/config.hpp"\n')

    def write(self, path, text):
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")

    def public(self, name, *includes):
        lines = "\n".join(f'#include "{path}"' for path in includes)
        self.write(f"include/forebay/{name}.hpp", PUBLIC.format(includes=lines))

    def check(self):
        done = subprocess.run([sys.executable, TOOL, self.root], capture_output=True, text=True)
        return done.returncode, done.stdout

    def expect(self, *words):
        code, output = self.check()
        self.assertEqual(code, 1, output)
        for word in words:
            self.assertIn(word, output)
        self.assertIn("check_layers: 1 findings", output)

    def test_a_clean_tree_passes(self):
        code, output = self.check()
        self.assertEqual((code, output), (0, "check_layers: 0 findings\n"))

    def test_a_source_that_includes_a_layer_above_is_found(self):
        self.write("src/device/host.cpp", '\n#include "forebay/budget.hpp"\n')
        self.expect("src/device/host.cpp:2:", "layer device includes forebay/budget.hpp")

    def test_a_public_header_that_includes_a_layer_above_is_found(self):
        self.public("bytes", "forebay/governor.hpp")
        self.expect("include/forebay/bytes.hpp:2:", "layer governor")

    def test_angle_brackets_hide_nothing(self):
        self.write("src/device/host.cpp", "  #  include <forebay/budget.hpp>\n")
        self.expect("src/device/host.cpp:1:")

    def test_a_private_header_of_another_layer_is_found_even_from_above(self):
        self.write("src/governor/relief.cpp", '#include "budget/node.hpp"\n')
        self.expect("src/governor/relief.cpp:1: budget/node.hpp is private to budget")

    def test_a_shared_private_header_is_for_core_layers_above(self):
        self.write("src/device/request.hpp", "#pragma once\n")
        self.write("src/budget/more.cpp", '#include "device/request.hpp"\n')
        self.assertEqual(self.check()[0], 0)
        self.write("src/config/config.cpp", '#include "device/request.hpp"\n')
        self.expect("src/config/config.cpp:1: device/request.hpp is private to device")

    def test_a_program_that_includes_a_private_header_is_found(self):
        self.write("apps/forebay/top.cpp", '#include "budget/node.hpp"\n')
        self.expect("apps/forebay/top.cpp:1:")

    def test_headers_of_an_internal_door_are_for_the_program_alone(self):
        self.write("src/trace/reader.hpp", '#pragma once\n#include "forebay/config.hpp"\n')
        self.write("apps/forebay/replay.cpp", '#include "trace/reader.hpp"\n')
        self.assertEqual(self.check()[0], 0)
        self.write("src/config/config.cpp", '#include "trace/reader.hpp"\n')
        self.expect("src/config/config.cpp:1: trace/reader.hpp is private to trace")

    def test_a_public_header_that_includes_a_private_one_is_found(self):
        self.public("budget", "budget/node.hpp")
        self.expect("include/forebay/budget.hpp:2: a public header includes the private")

    def test_a_path_that_climbs_is_found(self):
        self.write("src/governor/relief.cpp", '#include "../budget/node.hpp"\n')
        self.expect("src/governor/relief.cpp:1: ../budget/node.hpp")

    def test_the_core_may_not_include_the_whole_door(self):
        self.write("src/config/config.cpp", '#include "forebay/forebay.hpp"\n')
        self.expect("src/config/config.cpp:1: only programs")

    def test_whoever_is_a_door_may_include_the_c_door(self):
        self.write("include/forebay/forebay.h", "int forebay_version(void);\n")
        self.write("src/c/cache.cpp", '#include "forebay/forebay.h"\n')
        self.assertEqual(self.check(), (0, "check_layers: 0 findings\n"))

    def test_a_door_that_includes_another_is_found(self):
        self.write("src/config/config.cpp", '#include "forebay/llama.hpp"\n')
        self.expect("src/config/config.cpp:1: forebay/llama.hpp is another door's")

    def test_a_public_door_that_includes_another_is_found(self):
        self.public("config", "forebay/llama.hpp")
        self.expect("include/forebay/config.hpp:2: forebay/llama.hpp is another door's")

    def test_generation_stands_on_the_llama_door(self):
        self.public("generate", "forebay/llama.hpp")
        self.write("src/llama/generate.cpp", '#include "forebay/generate.hpp"\n')
        self.assertEqual(self.check()[0], 0)

    def test_the_core_may_not_include_a_door(self):
        self.write("src/governor/relief.cpp", '#include "forebay/config.hpp"\n')
        self.expect("layer governor includes forebay/config.hpp of layer doors")

    def test_a_header_that_is_not_there_is_found(self):
        self.write("src/governor/relief.cpp", '#include "forebay/releif.hpp"\n')
        self.expect("src/governor/relief.cpp:1: forebay/releif.hpp is no public header")

    def test_a_header_of_no_layer_is_found(self):
        self.public("mystery")
        self.expect("include/forebay/mystery.hpp:1: belongs to no layer")

    def test_a_folder_of_no_layer_is_found(self):
        self.write("src/misc/x.cpp", "int x;\n")
        self.expect("src/misc/x.cpp:1: folder misc is no layer")

    def test_a_long_public_header_is_found(self):
        header = self.root / "include/forebay/bytes.hpp"
        header.write_text(header.read_text() + "\n" * 420)
        self.expect("include/forebay/bytes.hpp:426: 426 lines")

    def test_a_hidden_public_header_is_found(self):
        self.write("include/forebay/bytes.hpp", "#pragma once\nnamespace forebay {}\n")
        self.expect("include/forebay/bytes.hpp:2: not between")

    def test_too_many_public_headers_are_found(self):
        for number in range(18):
            self.public(f"extra{number}")
        code, output = self.check()
        self.assertEqual(code, 1)
        self.assertIn("25 public headers; at most 24", output)

    def test_an_include_in_a_comment_is_none(self):
        self.write("src/device/host.cpp",
                   '// #include "forebay/budget.hpp"\n/* and\n#include "forebay/budget.hpp"\n*/\n')
        self.assertEqual(self.check()[0], 0)

    def test_a_root_that_is_no_checkout_is_refused(self):
        done = subprocess.run([sys.executable, TOOL, self.root / "src"], capture_output=True)
        self.assertEqual(done.returncode, 2)


if __name__ == "__main__":
    unittest.main()
