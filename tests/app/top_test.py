"""`forebay top`, on a small program that publishes made-up statistics."""

import fcntl
import json
import os
import pathlib
import pty
import select
import signal
import struct
import subprocess
import termios
import time
import unittest

from program import BINARY, ProgramTest, environment, forebay

PUBLISHER = os.environ["FOREBAY_PUBLISHING_PROGRAM"]


class Publishing(ProgramTest):
    def setUp(self):
        super().setUp()
        self.place = str(self.folder / "forebay")

    def publisher(self):
        """A new process that publishes."""
        process = subprocess.Popen([PUBLISHER, self.place], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, env=environment())
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.wait)
        self.addCleanup(process.stdin.close)
        self.assertEqual(process.stdout.readline(), b"ready\n")
        return process


class Top(Publishing):
    def top(self, *args):
        return forebay("top", "--publish-directory", self.place, *args)

    def test_json_is_one_object_with_every_key(self):
        process = self.publisher()
        run = self.top("--once", "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        view = self.object_of(run)
        self.assertEqual(view["pid"], process.pid)
        self.assertEqual(view["program"], "publishing_program")
        self.assertEqual((view["line_bytes"], view["used_bytes"]), (1 << 30, 943718400))
        self.assertEqual(view["pressure"], "high")
        self.assertGreater(view["resident_bytes"], 100_000)
        self.assertGreater(view["taken_seconds"], 1.6e9)
        self.assertEqual(view["interval_seconds"], 0.02)
        self.assertGreaterEqual(view["age_seconds"], 0)
        for key in ("updates", "publisher_cpu_seconds", "publisher_seconds"):
            self.assertGreaterEqual(view[key], 0)
        self.assertEqual([row["path"] for row in view["budgets"]], ["process", "process/teacher"])
        process_budget = view["budgets"][0]
        self.assertEqual(process_budget["denials"], 3)
        self.assertEqual(set(process_budget), {
            "path", "limit_bytes", "guarantee_bytes", "used_bytes", "charged_bytes", "peak_bytes",
            "available_bytes", "denials", "warnings", "pressure", "shrinking"})
        self.assertEqual(view["pools"], [{
            "name": "activations", "live_bytes": 209715200, "idle_bytes": 58720256,
            "reserved_bytes": 268435456, "largest_free_bytes": 14680064, "live_blocks": 1234,
            "refused": 1, "fragmentation": 0.75, "hit_rate": 0.98}])
        self.assertEqual(len(view["tags"]), 64)
        self.assertEqual(view["tags"][0], {
            "tag": "decoder/layer99", "owner": "", "live_bytes": 100 << 20, "live_blocks": 7,
            "allocated_bytes": 1 << 30, "allocations": 1000})
        self.assertEqual(view["left_out"], {"budgets": 0, "tags": 36, "pools": 0, "groups": 0})
        groups = [row for row in view["groups"] if row["kind"] != "tracker"]
        self.assertEqual([(row["kind"], row["name"]) for row in groups],
                         [("cache", "prefix"), ("kv", "kv0")])
        self.assertEqual(groups[0]["statistics"]["hits_total"], 75)
        self.assertEqual([(row["kind"], row["subject"]) for row in view["events"]],
                         [("mark", "epoch 1"), ("deny", "process")])

    def test_once_prints_a_plain_table(self):
        process = self.publisher()
        for run in (self.top("--once"), self.top(str(process.pid)),
                    self.top("--once", "--pid", str(process.pid))):
            self.assertEqual(run.returncode, 0, run.stderr)
            self.assertNotIn("\x1b", run.stdout)
            for text in ("publishing_program", "line 1 GiB", "88 %", "pressure high", "teacher",
                         "decoder/layer99", "and 36 more", "activations", "prefix", "75.0 %",
                         "kv kv0", "deny process"):
                self.assertIn(text, run.stdout)

    def test_several_processes_are_listed(self):
        pids = sorted(self.publisher().pid for _ in range(2))
        run = self.top("--once")
        self.assertEqual(run.returncode, 0)
        for pid in pids:
            self.assertRegex(run.stdout, rf"(?m)^ +{pid}  publishing_program ")
        listed = self.object_of(self.top("--once", "--json"))["processes"]
        self.assertEqual([row["pid"] for row in listed], pids)
        self.assertEqual(self.object_of(self.top(str(pids[1]), "--json"))["pid"], pids[1])

    def test_what_cannot_be_shown_is_said_in_one_line(self):
        self.assert_refused(self.top(), f"{self.place}: no process publishes its statistics there")
        self.publisher()
        self.assert_refused(self.top("1"), "process 1 does not publish its statistics (looked in "
                            f"{self.place}); forebay::Publisher::start() does\n")
        self.assert_refused(self.top("0"), "--pid: 0 is not allowed; allowed: ")
        self.assert_refused(self.top("me"), "--pid: me is not allowed; allowed: ")
        self.assert_refused(self.top("--interval", "1"), "--interval: 1 is not allowed")
        os.chmod(self.place, 0o755)
        self.assert_refused(self.top(), f"{self.place}: is open to others (mode 0755)")

    def test_a_stopped_process_is_said_to_have_no_updates(self):
        process = self.publisher()
        self.addCleanup(process.send_signal, signal.SIGCONT)
        process.send_signal(signal.SIGSTOP)
        while "no update for " not in self.top(str(process.pid)).stdout:
            pass
        self.assertGreater(self.object_of(self.top("--json"))["age_seconds"], 2)

    def test_a_process_that_was_killed_is_not_shown_and_its_files_go(self):
        killed = self.publisher()
        killed.kill()
        killed.wait()
        self.assertTrue((pathlib.Path(self.place) / f"{killed.pid}.stats").exists())
        self.assert_refused(self.top(), f"{self.place}: no process publishes")
        process = self.publisher()
        self.assertEqual(sorted(os.listdir(self.place)),
                         [f"{process.pid}.sock", f"{process.pid}.stats"])
        self.assertEqual(self.object_of(self.top("--json"))["pid"], process.pid)


class Screen:
    """`forebay top` on a terminal of 100 x 40."""

    def __init__(self, *args):
        self.leader, follower = pty.openpty()
        fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 100, 0, 0))
        self.process = subprocess.Popen([BINARY, "top", "--interval", "50", *args],
                                        stdin=follower, stdout=follower, stderr=subprocess.PIPE,
                                        env=environment(TERM="xterm", LC_ALL="C.UTF-8"))
        os.close(follower)
        self.seen = ""

    def close(self):
        os.close(self.leader)
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    def press(self, keys):
        """Keys, and Control-L: the whole screen is sent anew, not only what changed."""
        os.write(self.leader, keys.encode() + b"\x0c")

    def until(self, text, limit=30):
        """Reads until the terminal was sent `text`; what came before is forgotten."""
        end = time.monotonic() + limit
        while text not in self.seen:
            ready, _, _ = select.select([self.leader], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise AssertionError(f"{text!r} never came: {self.seen[-2000:]!r}")
            try:
                self.seen += os.read(self.leader, 65536).decode(errors="replace")
            except OSError:
                raise AssertionError(f"{text!r} never came: {self.seen[-2000:]!r}") from None
        self.seen = self.seen[self.seen.index(text) + len(text):]


class FullScreen(Publishing):
    def screen(self):
        screen = Screen("--publish-directory", self.place)
        self.addCleanup(screen.close)
        try:
            screen.until("q quit")
        except AssertionError:
            if b"no full screen" in screen.process.stderr.read():
                self.skipTest("built without ncurses")
            raise
        return screen

    def test_q_quits_and_leaves_the_terminal_as_it_was(self):
        process = self.publisher()
        screen = self.screen()
        screen.press("")
        screen.until(f"publishing_program ({process.pid})")
        for text in ("pressure high", "budgets", "teacher", "decoder/layer99", "q quit"):
            screen.until(text)
        screen.press("q")
        screen.until("\x1b[?1049l")  # back from the alternate screen
        self.assertEqual(screen.process.wait(timeout=30), 0)
        self.assertTrue(termios.tcgetattr(screen.leader)[3] & termios.ECHO)

    def test_keys_sort_pause_and_scroll(self):
        self.publisher()
        screen = self.screen()
        screen.press("s")
        screen.until("s order: name")
        screen.press(" ")
        screen.until("PAUSED")
        screen.until("space go on")
        screen.press(" ")
        screen.until("space pause")
        screen.press("s")
        screen.until("s order: count")
        screen.press("\x1b[6~" * 9)  # page down
        screen.until("deny process")
        screen.press("q")
        self.assertEqual(screen.process.wait(timeout=30), 0)

    def test_a_filter_leaves_what_it_names(self):
        self.publisher()
        screen = self.screen()
        for key in "/layer42":
            screen.press(key)
        screen.until("filter: layer42_")
        screen.press("\n")
        screen.until("tags")
        screen.until("decoder/layer42")
        screen.until("/ filter: layer42")
        screen.press("q")
        self.assertEqual(screen.process.wait(timeout=30), 0)

    def test_the_end_of_the_process_is_said_and_its_last_figures_stay(self):
        process = self.publisher()
        screen = self.screen()
        process.stdin.close()
        process.wait(timeout=30)
        screen.until(f"process {process.pid} does not publish its statistics")
        screen.press("")
        screen.until("decoder/layer99")
        screen.press("q")
        self.assertEqual(screen.process.wait(timeout=30), 0)

    def test_an_interrupt_ends_it_as_it_ends_other_commands(self):
        self.publisher()
        screen = self.screen()
        screen.process.send_signal(signal.SIGINT)
        screen.until("\x1b[?1049l")
        self.assertEqual(screen.process.wait(timeout=30), 130)


if __name__ == "__main__":
    unittest.main()
