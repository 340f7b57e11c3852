#!/usr/bin/env python3
"""scripts/setup.sh on machines that are not this one: commands that would change the
system or reach the network are replaced by scripts that note how they were called."""

import hashlib
import os
import stat
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SETUP = ROOT / "scripts" / "setup.sh"
SDIST = "llama_cpp_python-0.3.36.tar.gz"
SDIST_HASH = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"


class Setup(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        self.cache = self.root / "cache"
        self.calls = self.root / "calls"
        (self.root / "bin").mkdir()
        self.release('ID=debian\nVERSION_ID="12"\n')
        self.command("dpkg-query", "printf installed")
        for name in ("apt-get", "sudo", "python3"):
            self.command(name, "exit 1")

    def release(self, text):
        (self.root / "os-release").write_text(text)

    def command(self, name, script):
        file = self.root / "bin" / name
        file.write_text(f'#!/bin/sh\necho "{name} $*" >> "{self.calls}"\n{script}\n')
        file.chmod(file.stat().st_mode | stat.S_IXUSR)

    def setup(self, *options):
        env = dict(os.environ, PATH=f"{self.root}/bin:/usr/bin:/bin",
                   FOREBAY_CACHE=str(self.cache), FOREBAY_OS_RELEASE=str(self.root / "os-release"))
        return subprocess.run(["bash", SETUP, *options], env=env, capture_output=True, text=True,
                              stdin=subprocess.DEVNULL)

    def called(self):
        return self.calls.read_text() if self.calls.exists() else ""

    def left_behind(self):
        return sorted(p.relative_to(self.cache).as_posix() for p in self.cache.rglob("*")
                      if p.is_file() and p.name != ".lock")

    def test_an_unknown_system_gets_the_list_and_nothing_is_done(self):
        self.release("ID=plan9\n")
        done = self.setup()
        self.assertEqual(done.returncode, 2)
        self.assertIn("neither Debian nor like it", done.stderr)
        for package in ("libfmt-dev", "cmake", "spin"):
            self.assertIn(package, done.stderr)
        self.assertEqual(self.called(), "")

    def test_fewer_checks_ask_for_fewer_packages(self):
        self.release("ID=plan9\n")
        self.assertNotIn("clang-tidy", self.setup("--no-checks").stderr)

    def test_a_derivative_is_known(self):
        self.release("ID=mint\nID_LIKE=\"ubuntu debian\"\n")
        self.assertEqual(self.setup("--no-checks", "--no-llama").returncode, 0)

    def test_an_unknown_option_is_named_with_what_is_allowed(self):
        done = self.setup("--no-lama")
        self.assertEqual(done.returncode, 2)
        self.assertIn("'--no-lama'; allowed: --no-checks, --no-llama", done.stderr)

    def test_nothing_is_installed_when_all_is_there(self):
        done = self.setup("--no-checks", "--no-llama")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertNotIn("apt-get", self.called())
        self.assertNotIn("sudo", self.called())

    def test_only_what_is_missing_is_installed(self):
        self.command("dpkg-query", 'case $* in *libfmt-dev*) exit 1;; esac; printf installed')
        self.command("apt-get", "exit 0")
        self.command("id", "echo 0")
        done = self.setup("--no-checks", "--no-llama")
        self.assertEqual(done.returncode, 0, done.stderr)
        installs = [c for c in self.called().splitlines() if c.startswith("apt-get") and " install " in c]
        self.assertEqual(len(installs), 1)
        self.assertTrue(installs[0].endswith(" install --no-install-recommends libfmt-dev"))
        self.assertNotIn("sudo", self.called())

    def test_sudo_is_used_by_those_who_are_not_root(self):
        self.command("dpkg-query", "exit 1")
        self.command("id", "echo 1000")
        self.command("sudo", "exit 0")
        self.assertEqual(self.setup("--no-checks", "--no-llama").returncode, 0)
        self.assertIn("sudo env DEBIAN_FRONTEND=noninteractive apt-get", self.called())

    def test_a_failed_install_shows_its_last_lines(self):
        self.command("dpkg-query", "exit 1")
        self.command("id", "echo 0")
        self.command("apt-get", "echo E: no such host; exit 100")
        done = self.setup("--no-llama")
        self.assertEqual(done.returncode, 1)
        self.assertIn("E: no such host", done.stderr)

    def test_a_download_of_the_wrong_hash_is_refused_with_both(self):
        place = self.cache / "downloads" / SDIST
        place.parent.mkdir(parents=True)
        place.write_text("not it")
        done = self.setup("--no-checks")
        self.assertEqual(done.returncode, 1)
        self.assertIn(str(place), done.stderr)
        self.assertIn(SDIST_HASH, done.stderr)
        self.assertIn(hashlib.sha256(b"not it").hexdigest(), done.stderr)
        self.assertEqual(place.read_text(), "not it")

    def test_what_pip_fetched_is_checked_before_it_is_kept(self):
        self.command("python3", "while [ $# -gt 1 ]; do [ $1 != --dest ] || dest=$2; shift; done\n"
                                f"echo forged > $dest/{SDIST}")
        done = self.setup("--no-checks")
        self.assertEqual(done.returncode, 1)
        self.assertIn(SDIST_HASH, done.stderr)
        self.assertEqual(self.left_behind(), [])

    def test_a_download_that_breaks_off_leaves_nothing(self):
        self.command("python3", "while [ $# -gt 1 ]; do [ $1 != --dest ] || dest=$2; shift; done\n"
                                f"echo half > $dest/{SDIST}; echo no route >&2; exit 1")
        done = self.setup("--no-checks")
        self.assertEqual(done.returncode, 1)
        self.assertIn("no route", done.stderr)
        self.assertIn("cannot fetch llama-cpp-python==0.3.36", done.stderr)
        self.assertEqual(self.left_behind(), [])

    def test_what_a_killed_run_left_is_cleared(self):
        stale = self.cache / "tmp.abcdef"
        stale.mkdir(parents=True)
        (stale / SDIST).write_text("half")
        self.setup("--no-checks")
        self.assertEqual(self.left_behind(), [])


if __name__ == "__main__":
    unittest.main()
