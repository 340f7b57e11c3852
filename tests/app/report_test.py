"""`forebay report`, on recordings made by the program that seeds the analyser's fuzzing."""

import os
import subprocess
import unittest

from program import ProgramTest, forebay, on_terminal

MAKE_RECORDINGS = os.environ["FOREBAY_MAKE_RECORDINGS"]


class Report(ProgramTest):
    def setUp(self):
        super().setUp()
        subprocess.run([MAKE_RECORDINGS, str(self.folder)], check=True)
        self.whole = str(self.folder / "whole")

    def report(self, *args):
        run = forebay("report", "--json", *args)
        self.assertEqual(run.returncode, 0, run.stderr)
        return self.object_of(run)

    def test_sums_are_of_the_whole_recording(self):
        answer = self.report(self.whole)
        self.assertEqual(answer["allocations"], 7)
        self.assertEqual(answer["allocated_bytes"], (1 << 20) + 4096 + 2 * 256 + 100 + 64 + 1)
        self.assertEqual(answer["events"], 13)
        self.assertEqual((answer["live_blocks"], answer["live_bytes"]), (2, 256 + 100))
        self.assertEqual((answer["temporary"], sum(answer["lifetimes"])), (4, 5))
        self.assertEqual((answer["threads"], answer["process"]), (2, 77))
        self.assertEqual((answer["seconds"], answer["closed"]), (3, True))
        self.assertEqual((answer["dropped"], answer["older_frees"]), (2, 1))
        self.assertEqual(max(p["live_bytes"] for p in answer["timeline"]), answer["peak_bytes"])

    def test_places_have_tags_owners_and_functions(self):
        first = self.report(self.whole)["by_allocated"][0]
        self.assertEqual((first["tag"], first["owner"]), ("decoder/layer3", "session 7"))
        self.assertEqual([f["function"] for f in first["frames"]], ["model::attention(int)", "main"])
        self.assertEqual(first["frames"][0]["module"], "/no/such/lib.so")
        self.assertEqual(first["frames"][0]["offset"], 0x1100)

    def test_top_bounds_each_table(self):
        answer = self.report(self.whole, "--top", "1")
        for table in ("by_allocated", "by_live", "by_temporary"):
            self.assertEqual(len(answer[table]), 1, table)
        self.assertGreater(answer["sites"], 1)

    def test_the_report_for_people_has_the_same(self):
        run = forebay("report", self.whole)
        self.assertEqual(run.returncode, 0, run.stderr)
        for part in ("p, process 77, 3 s", "most allocated", "most live at the end",
                     "most temporary blocks", "decoder/layer3 for session 7", "model::attention",
                     "< main", "lib.so+0x1200", "2 events could not be written"):
            self.assertIn(part, run.stdout)
        self.assertNotIn("\x1b", run.stdout)
        self.assertIn("\x1b[", on_terminal("report", self.whole))

    def test_a_recording_that_goes_on_is_read_as_far_as_it_goes(self):
        run = forebay("report", str(self.folder / "begun"))
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertIn("was not closed", run.stdout)

    def test_lies_do_no_harm(self):
        self.assertGreater(self.report(str(self.folder / "lies"))["allocations"], 0)

    def test_what_is_no_recording_is_refused_in_one_line(self):
        self.assert_refused(forebay("report"), "no recording given; allowed: forebay report FILE")
        self.assert_refused(forebay("report", "no.events"), "no.events: no such file")
        text = self.file("text", "not a recording, but long enough to have been one, perhaps")
        self.assert_refused(forebay("report", text), f"{text}: no file of events; allowed: one that "
                                                     "Tracker::record_to wrote")
        self.assert_refused(forebay("report", str(self.folder)),
                            f"{self.folder}: is no regular file")


if __name__ == "__main__":
    unittest.main()
