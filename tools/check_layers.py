#!/usr/bin/env python3
"""Checks that no file includes a layer above its own, and that the public API stays small.

usage: tools/check_layers.py [ROOT]

A file under src/<layer>/ may include "forebay/X.hpp" and "<layer>/Y.hpp" of its own layer
and of those before it in LAYERS. A private header is for its own layer only, unless it is in
SHARED. Findings are printed as file:line: what is wrong; exit code 1 if there are any.
"""

import re
import sys
from pathlib import Path

# From the bottom up. A layer stands on those before it.
LAYERS = ["base", "device", "track", "pool", "budget", "cache", "tier", "kv", "governor",
          "telemetry", "training", "doors"]

# The doors stand on all of the core, and on these public headers of doors: by folder of
# src/ and apps/, and by public header.
DOORS = {"c": set(), "config": {"config"}, "llama": {"llama", "generate"}, "trace": {"config"},
         "forebay": {"config", "llama", "generate"}}
DOOR_HEADERS = {"config": set(), "llama": set(), "generate": {"llama"}, "forebay": set()}

# Which layer a public header belongs to.
HEADERS = {
    "check": "base", "bytes": "base", "status": "base", "clock": "base",
    "device": "device",
    "tracker": "track",
    "buffer": "pool", "pool": "pool", "tensor": "pool",
    "standard": "pool",
    "budget": "budget",
    "cache": "cache", "cache_core": "cache", "cache_file": "cache", "cache_shapes": "cache",
    "cache_streams": "cache",
    "tier": "tier",
    "model": "kv", "kv_cache": "kv",
    "governor": "governor",
    "telemetry": "telemetry",
    "training": "training",
    "config": "doors", "llama": "doors", "generate": "doors", "forebay": "doors",
}

# Doors without a public header, and a layer with headers for the program: the folders that may
# include their private headers.
INTERNAL = {"trace": {"forebay"}, "telemetry": {"forebay"},
            "cache": {"trace"}}  # replays run the policies themselves

# Private headers that core layers above theirs may include too.
SHARED = {"base/atomic_file.hpp", "base/text.hpp",  # files that are whole; texts from outside
          "base/upkeep.hpp",  # threads of the process's own
          "device/request.hpp",  # what every resource checks and says about a request
          "device/mapping.hpp",  # pages for bookkeeping
          # What whoever has blocks or budgets tells the tracker.
          "track/context.hpp", "track/stack.hpp", "track/timeline.hpp", "track/event_file.hpp",
          "track/event_format.hpp", "track/hooks.hpp", "track/source.hpp", "track/records.hpp",
          "track/retired_tags.hpp", "track/settings.hpp", "track/leak_report.hpp"}

MAX_PUBLIC_HEADERS = 24
MAX_HEADER_LINES = 420

EXPORT_BEGIN = "#pragma GCC visibility push(default)"
EXPORT_END = "#pragma GCC visibility pop"

INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]')
SOURCES = {".hpp", ".h", ".cpp", ".c", ".inc"}


def rank(layer):
    return LAYERS.index(layer)


def includes_of(file):
    """(line number, included path) for each include that is not in a comment block."""
    in_comment = False
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not in_comment and (match := INCLUDE.match(line)):
            yield number, match[1]
        code = re.sub(r"//.*", "", line)
        in_comment = code.rfind("/*") > code.rfind("*/") or (in_comment and "*/" not in code)


class Checker:
    def __init__(self, root):
        self.root = Path(root)
        self.findings = []

    def report(self, file, line, what):
        self.findings.append(f"{file.relative_to(self.root)}:{line}: {what}")

    def files(self, folder):
        found = (self.root / folder).rglob("*")
        return sorted(f for f in found if f.suffix in SOURCES and f.is_file())

    def run(self):
        self.check_public_headers()
        for folder in ("src", "apps"):
            for file in self.files(folder):
                self.check_private_file(file)
        return self.findings

    def check_public_headers(self):
        headers = self.files("include/forebay")
        if len(headers) > MAX_PUBLIC_HEADERS:
            self.report(headers[-1], 1, f"{len(headers)} public headers; at most "
                                        f"{MAX_PUBLIC_HEADERS} are allowed")
        for file in headers:
            layer = HEADERS.get(file.stem)
            if layer is None:
                self.report(file, 1, "belongs to no layer; add it to HEADERS in "
                                     "tools/check_layers.py")
                continue
            lines = len(file.read_text(encoding="utf-8").splitlines())
            if lines > MAX_HEADER_LINES:
                self.report(file, lines, f"{lines} lines; a public header has at most "
                                         f"{MAX_HEADER_LINES}")
            self.check_export(file)
            for number, path in includes_of(file):
                self.check_public_include(file, number, path, layer,
                                          DOOR_HEADERS.get(file.stem, set()))
                if self.is_private(path):
                    self.report(file, number, f"a public header includes the private {path}")

    # Everything else is hidden in a shared library.
    def check_export(self, file):
        text = file.read_text(encoding="utf-8")
        for number, line in enumerate(text.splitlines(), 1):
            if line.startswith("namespace forebay"):
                before, after = text.split(line, 1)
                if EXPORT_BEGIN not in before or EXPORT_END not in after:
                    self.report(file, number, f"not between '{EXPORT_BEGIN}' and "
                                              f"'{EXPORT_END}': hidden in a shared library")
                return

    def is_private(self, path):
        return (self.root / "src" / path).is_file()

    def layer_of(self, file):
        """(layer, folder) of a file under src/ or apps/."""
        folder = file.relative_to(self.root).parts[1]
        return ("doors" if folder in DOORS else folder), folder

    def check_private_file(self, file):
        layer, folder = self.layer_of(file)
        if layer not in LAYERS:
            self.report(file, 1, f"folder {folder} is no layer; add it to LAYERS or DOORS in "
                                 "tools/check_layers.py")
            return
        for number, path in includes_of(file):
            self.check_public_include(file, number, path, layer, DOORS.get(folder, set()))
            self.check_private_include(file, number, path, folder, layer)

    def check_public_include(self, file, number, path, layer, doors):
        if not path.startswith("forebay/"):
            return
        name = Path(path).stem
        other = HEADERS.get(name)
        if not (self.root / "include" / path).is_file() or other is None:
            self.report(file, number, f"{path} is no public header")
        elif rank(other) > rank(layer):
            self.report(file, number, f"layer {layer} includes {path} of layer {other}, "
                                      "which stands above it")
        elif path.endswith("forebay.hpp") and file.relative_to(self.root).parts[0] != "apps":
            self.report(file, number, "only programs include the whole forebay.hpp")
        elif other == "doors" and name != "forebay" and name not in doors:
            self.report(file, number, f"{path} is another door's")

    def check_private_include(self, file, number, path, folder, layer):
        other = path.split("/")[0]
        if path in SHARED and layer != "doors" and rank(other) < rank(layer):
            return
        if path.startswith(".."):
            self.report(file, number, f"{path}: write \"layer/file.hpp\" instead")
        elif self.is_private(path) and other != folder and folder not in INTERNAL.get(other, ()):
            self.report(file, number, f"{path} is private to {other}")


def main():
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):
        print(__doc__, end="")
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    root = Path(sys.argv[1]) if len(sys.argv) == 2 else Path(__file__).resolve().parent.parent
    if not (root / "include" / "forebay").is_dir():
        print(f"check_layers: {root} has no include/forebay", file=sys.stderr)
        return 2
    findings = Checker(root).run()
    print("\n".join(findings + [f"check_layers: {len(findings)} findings"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
