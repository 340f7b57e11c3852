"""forebay snapshot, leaks and diff: on files, and on what is none."""

import gzip
import json
import os
import signal
import subprocess
import unittest

from program import BINARY, ProgramTest, forebay, on_terminal

MAKE_SNAPSHOTS = os.environ["FOREBAY_MAKE_SNAPSHOTS"]
MIB = 1 << 20


class SnapshotTest(ProgramTest):
    def setUp(self):
        super().setUp()
        subprocess.run([MAKE_SNAPSHOTS, str(self.folder)], check=True)
        self.small = str(self.folder / "small")

    def changed(self, name, change):
        """The small snapshot after `change` of its JSON."""
        with open(self.small, encoding="utf-8") as file:
            content = json.load(file)
        change(content)
        return self.file(name, json.dumps(content))

    def answer(self, *args, code=0):
        run = forebay(*args, "--json")
        self.assertEqual(run.returncode, code, run.stderr)
        return self.object_of(run)


class Snapshot(SnapshotTest):
    def test_it_says_who_holds_what(self):
        run = forebay("snapshot", self.small)
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        for text in ("/usr/bin/model server (process 4711)", "process/cache", "tensors",
                     "decoder/cache of tenant 1", "grow_cache(int)"):
            self.assertIn(text, run.stdout)
        self.assertNotIn("\x1b", run.stdout)

    def test_what_a_tag_holds_does_not_drive_the_terminal(self):
        self.assertIn("\x1b[", on_terminal("snapshot", self.small))
        file = self.changed("evil", lambda c: c["tags"][1].update(tag="\x1b[2J"))
        self.assertNotIn("\x1b[2J", forebay("snapshot", file).stdout)
        self.assertNotIn("\x1b[2J", forebay("leaks", file).stdout)

    def test_json_has_what_scripts_rely_on(self):
        answer = self.answer("snapshot", self.small)
        self.assertEqual(answer["pid"], 4711)
        self.assertEqual(answer["blocks"], 4)
        self.assertEqual(answer["budgets"][1]["used_bytes"], 600 * MIB)
        self.assertIsNone(answer["budgets"][0]["limit_bytes"])
        self.assertEqual(answer["tags"][0]["tag"], "decoder/cache")
        self.assertEqual(answer["sites"][0], {"site": "grow_cache(int)", "live_bytes": 500.0 * MIB,
                                              "live_blocks": 2.0, "oldest_seconds": 3600.25})

    def test_it_shows_devices_and_all_other_counters(self):
        def add(content):
            content["devices"] = [{"name": "gpu0", "kind": "device", "capacity_bytes": 4 * MIB,
                                   "free_bytes": MIB}]
            content["statistics"] = [{"kind": "cache", "name": "kernels",
                                      "values": {"hits_total": 3, "held_bytes": 2 * MIB, "x": None}}]

        file = self.changed("more", add)
        answer = self.answer("snapshot", file)
        self.assertEqual(answer["devices"], [{"name": "gpu0", "kind": "device",
                                              "capacity_bytes": 4 * MIB, "free_bytes": MIB}])
        self.assertEqual(answer["groups"], [{"kind": "cache", "name": "kernels", "statistics": {
            "hits_total": 3, "held_bytes": 2 * MIB, "x": None}}])
        out = forebay("snapshot", file).stdout
        self.assertRegex(out, r"gpu0 +device +4 MiB +1 MiB")
        self.assertRegex(out, r"cache kernels: held_bytes +2 MiB")
        self.assertRegex(out, r"cache kernels: x +-")

    def test_a_crash_snapshot_shows_budgets_and_pools_and_differs(self):
        def crash(used):
            def change(content):
                content.update(complete=False, budgets=[], pools=[])
                content["segments"] = {key: [] for key in content["segments"]}
                content["statistics"] = [
                    {"kind": "budget", "name": "process", "values": {"used_bytes": used}},
                    {"kind": "pool", "name": "tensors", "values": {"live_bytes": MIB}}]
            return change

        before = self.changed("before", crash(MIB))
        answer = self.answer("snapshot", before)
        self.assertEqual((answer["budgets"][0]["used_bytes"], answer["pools"][0]["live_bytes"]),
                         (MIB, MIB))
        changes = self.answer("diff", before, self.changed("after", crash(3 * MIB)))["changes"]
        self.assertEqual([(c["what"], c["name"], c["after_bytes"]) for c in changes],
                         [("budget", "process", 3 * MIB)])

    def test_it_is_saved_and_converted(self):
        out = self.folder / "out.json.zst"
        heap = self.folder / "heap.pb.gz"
        folded = self.folder / "heap.folded"
        self.answer("snapshot", self.small, "--out", str(out), "--export", f"pprof={heap}",
                    "--export", f"folded={folded}")
        self.assertEqual(out.stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.answer("snapshot", str(out))["pid"], 4711)
        self.assertIn(b"grow_cache(int)", gzip.decompress(heap.read_bytes()))
        self.assertIn("grow_cache(int) ", folded.read_text())

    def test_a_snapshot_of_a_crash_says_that_it_is_not_all(self):
        file = self.changed("crash", lambda c: c.update(complete=False, reason="signal 11"))
        run = forebay("snapshot", file)
        self.assertIn("because: signal 11", run.stdout)
        self.assertIn("written by a crash handler", run.stdout)

    def test_bad_input_is_one_line(self):
        self.assert_refused(forebay("snapshot"), "no process or file given; allowed: ")
        self.assert_refused(forebay("snapshot", "no.json"), "no.json: no such file\n")
        self.assert_refused(forebay("snapshot", str(self.folder)), f"{self.folder}: is no regular file")
        self.assert_refused(forebay("snapshot", str(self.folder / "cut")), f"{self.folder}/cut: ")
        self.assert_refused(forebay("snapshot", self.small, "--export", "pprof"),
                            "--export: pprof is not allowed; allowed: FORMAT=FILE\n")
        self.assert_refused(forebay("snapshot", self.small, "--export", "pdf=x"),
                            "--export: 'pdf' is no export format; allowed: memory_viz, ")
        self.assert_refused(forebay("snapshot", self.small, "--out", str(self.folder / "no" / "x")),
                            f"{self.folder}/no/x: cannot open its folder")
        self.assert_refused(forebay("snapshot", self.small, self.small), "--source: given twice")

    def test_a_symbolic_link_is_no_place_for_a_file(self):
        link = self.folder / "link"
        link.symlink_to("target")
        for flag in ("--out", str(link)), ("--export", f"folded={link}"):
            self.assert_refused(forebay("snapshot", self.small, *flag),
                                f"'{link}' is a symbolic link; allowed: the path of a new or regular file")
        self.assertTrue(link.is_symlink())

    def test_ctrl_c_while_it_writes_leaves_nothing(self):
        def grow(content):
            for column in content["blocks"].values():
                column *= 50_000
        large = self.changed("large", grow)
        folder = self.folder / "exports"
        folder.mkdir()
        exports = [part for i in range(20) for part in ("--export", f"memory_viz={folder}/{i}")]
        with subprocess.Popen([BINARY, "snapshot", large, *exports], text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as run:
            while not any(folder.iterdir()) and run.poll() is None:
                pass
            run.send_signal(signal.SIGINT)
            out, err = run.communicate()
        self.assertEqual((run.returncode, out), (130, ""))
        self.assertRegex(err, "^forebay: .*interrupted; nothing was written\n$")
        self.assertEqual([name for name in os.listdir(folder) if name.endswith(".tmp")], [])
        self.assertLess(len(os.listdir(folder)), 20)

    def test_a_process_that_does_not_publish_is_not_found(self):
        folder = self.folder / "publish"
        folder.mkdir(mode=0o700)
        run = forebay("snapshot", str(2 ** 22 + 1), "--publish-directory", str(folder))
        self.assertEqual(run.returncode, 2)
        self.assertEqual(run.stderr.count("\n"), 1, run.stderr)
        self.assertEqual(run.stdout, "")


class Leaks(SnapshotTest):
    def test_what_is_live_is_listed(self):
        run = forebay("leaks", str(self.folder / "compressed"))
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertIn("500 MiB in 2 blocks, decoder/cache of tenant 1, pool tensors, oldest 60 min",
                      run.stdout)
        self.assertIn("grow_cache(int) (model+0x1000)", run.stdout)

    def test_nothing_live_is_done(self):
        self.assertEqual(self.answer("leaks", str(self.folder / "empty"))["groups"], [])

    def test_groups_have_their_stacks(self):
        answer = self.answer("leaks", self.small)
        self.assertEqual(len(answer["groups"]), 3)
        self.assertEqual(answer["groups"][0]["live_bytes"], 500 * MIB)
        self.assertEqual(answer["groups"][0]["stack"], ["grow_cache(int) (model+0x1000)",
                                                        "main (model+0x2000)"])
        self.assertFalse(answer["exact"])

    def test_what_is_known_is_left_out(self):
        rules = self.file("known.txt", "tag:decoder/*\n# a comment\n")
        answer = self.answer("leaks", self.small, "--suppressions", rules)
        self.assertEqual((answer["groups"], answer["suppressed"]), ([], 3))
        rules = self.file("some.txt", "function:grow_*\n")
        self.assertEqual(self.answer("leaks", self.small, "--suppressions", rules, code=1)["suppressed"], 1)

    def test_what_is_young_is_left_out_and_what_is_left_is_an_expectation_that_failed(self):
        answer = self.answer("leaks", self.small, "--older-than", "3600", code=1)
        self.assertEqual([g["site"] for g in answer["groups"]], ["grow_cache(int)"])
        self.assertEqual(self.answer("leaks", self.small, "--older-than", "3601")["groups"], [])
        self.assertEqual(len(self.answer("leaks", self.small, "--older-than", "0", code=1)["groups"]), 3)
        self.assertIn("ends the command with 1", " ".join(forebay("leaks", "--help").stdout.split()))
        self.assert_refused(forebay("leaks", self.small, "--older-than", "-1"), "--older-than: -1 is not allowed")

    def test_a_bad_suppression_file_names_its_line(self):
        rules = self.file("bad.txt", "tag:a\nno rule\n")
        run = forebay("leaks", self.small, "--suppressions", rules)
        self.assert_refused(run, f"{rules}:2")


class Diff(SnapshotTest):
    def test_what_grew_comes_first(self):
        def grow(content):
            content["tags"][1]["live_bytes"] = 900 * MIB
            content["pools"][0]["stats"]["live_bytes"] = 600 * MIB

        after = self.changed("after", grow)
        answer = self.answer("diff", self.small, after)
        self.assertEqual([(c["what"], c["name"]) for c in answer["changes"]],
                         [("tag", "decoder/cache of tenant 1"), ("pool", "tensors")])
        run = forebay("diff", self.small, after)
        self.assertRegex(run.stdout, r"decoder/cache of tenant 1 +\+300 MiB +600 MiB +900 MiB")
        self.assertRegex(run.stdout, r"tensors +-100 MiB")

    def test_nothing_changed_is_said(self):
        self.assertIn("nothing changed", forebay("diff", self.small, self.small).stdout)
        self.assertEqual(self.answer("diff", self.small, self.small)["changes"], [])

    def test_it_takes_two(self):
        self.assert_refused(forebay("diff", self.small), "1 given; allowed: two snapshots")
        self.assert_refused(forebay("diff"), "0 given; allowed: two snapshots")


if __name__ == "__main__":
    unittest.main()
