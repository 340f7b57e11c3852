#!/usr/bin/env python3
"""Runs clang-tidy over our own sources, at most one run a file and content.

usage: tools/run_tidy.py [-j JOBS] BUILD_FOLDER [FILTER ...]

Takes the files from BUILD_FOLDER/compile_commands.json that are under src/, apps/,
examples/ or bench/ (or whose path contains a FILTER), each with the first of its commands:
clang-tidy by itself would look at a file of two libraries twice. A file that was clean is not
looked at again until it, a header of ours that it includes, its flags, .clang-tidy or clang-tidy
itself changes: the clean ones are noted, by hash, in $FOREBAY_CACHE/tidy.
"""

import argparse
import concurrent.futures
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("src", "apps", "examples", "bench")
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.M)
MONTH = 30 * 24 * 3600


def cache_folder():
    base = os.environ.get("FOREBAY_CACHE") or Path.home() / ".cache" / "forebay"
    return Path(base) / "tidy"


def sources(build, filters):
    """The entry of each of our own sources, by file."""
    chosen = {}
    for entry in json.loads((build / "compile_commands.json").read_text()):
        file = (Path(entry["directory"]) / entry["file"]).resolve()
        if not file.is_relative_to(ROOT) or file.is_relative_to(build):
            continue
        name = file.relative_to(ROOT).as_posix()
        wanted = any(f in name for f in filters) if filters else name.split("/")[0] in FOLDERS
        if wanted:
            chosen.setdefault(file, entry)
    return chosen


def own_headers(file, folders, seen):
    """Our headers that `file` includes, however indirectly."""
    for path in INCLUDE.findall(file.read_text(encoding="utf-8", errors="replace")):
        for folder in (file.parent, *folders):
            header = (folder / path).resolve()
            if header.is_file() and header.is_relative_to(ROOT):
                if header not in seen:
                    seen.add(header)
                    own_headers(header, folders, seen)
                break
    return seen


def key_of(file, entry, version):
    """A hash of all that the verdict on `file` depends on, wherever the checkout lies."""
    command = entry.get("command") or shlex.join(entry["arguments"])
    folders = [Path(f) for f in re.findall(r"(?:-I|-isystem )(\S+)", command)]
    digest = hashlib.sha256()
    for text in (version, command.replace(str(ROOT), "."), (ROOT / ".clang-tidy").read_text()):
        digest.update(text.encode() + b"\0")
    for part in [file, *sorted(own_headers(file, folders, set()))]:
        digest.update(str(part.relative_to(ROOT)).encode() + b"\0" + part.read_bytes() + b"\0")
    return digest.hexdigest()


def check(tidy, database, file):
    # Unknown warning flags: the compile commands are gcc's.
    done = subprocess.run([tidy, "-p", database, "--quiet", "--extra-arg=-Wno-unknown-warning-option",
                           "--extra-arg=-Wreserved-identifier", file],
                          capture_output=True, text=True, stdin=subprocess.DEVNULL)
    return done.returncode == 0, done.stdout + (done.stderr if done.returncode else "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("-j", dest="jobs", type=int, default=os.cpu_count())
    parser.add_argument("build", type=Path)
    parser.add_argument("filter", nargs="*")
    options = parser.parse_args()
    tidy = shutil.which("clang-tidy-14") or shutil.which("clang-tidy")
    if tidy is None:
        parser.exit(2, "run_tidy: needs clang-tidy (Debian: clang-tidy)\n")
    build = options.build.resolve()
    if not (build / "compile_commands.json").is_file():
        parser.exit(2, f"run_tidy: {build} has no compile_commands.json; configure it first\n")
    version = subprocess.run([tidy, "--version"], capture_output=True, text=True).stdout

    cache = cache_folder()
    cache.mkdir(parents=True, exist_ok=True)
    for note in cache.iterdir():
        if time.time() - note.stat().st_mtime > MONTH:
            note.unlink(missing_ok=True)
    entries = sources(build, options.filter)
    todo = {file: cache / key_of(file, entry, version) for file, entry in entries.items()}
    known = [file for file, note in todo.items() if note.exists()]
    for file in known:
        todo.pop(file).touch()

    failed = 0
    with (tempfile.TemporaryDirectory() as database,
          concurrent.futures.ThreadPoolExecutor(options.jobs) as pool):
        (Path(database) / "compile_commands.json").write_text(json.dumps(list(entries.values())))
        runs = {pool.submit(check, tidy, database, file): file for file in sorted(todo)}
        for run in concurrent.futures.as_completed(runs):
            clean, output = run.result()
            if clean:
                todo[runs[run]].touch()
            else:
                failed += 1
                print(f"--- {runs[run].relative_to(ROOT)}\n{output.strip()}", flush=True)
    print(f"run_tidy: {len(todo)} files checked, {len(known)} known clean, {failed} with findings")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
