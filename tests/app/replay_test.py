"""`forebay replay alloc`, on small traces and on those that are shipped."""

import json
import os
import pathlib
import pty
import signal
import struct
import subprocess
import unittest
import xml.etree.ElementTree

from program import BINARY, REFUSAL_KEYS, ProgramTest, environment, forebay, on_terminal

TRACES = pathlib.Path(__file__).resolve().parents[2] / "traces"
RUN_KEYS = {
    "name": str, "spec": str, "operations": int, "ns_per_operation": float,
    "peak_live_bytes": int, "peak_served_bytes": int, "peak_reserved_bytes": int,
    "peak_resident_bytes": int, "hit_rate": float, "refused": int, "fragmentation": dict,
    "samples": list, "device_calls": int,
}
BUILT_IN = ["default", "tight", "no-retention", "huge-pages", "direct"]


def alloc(block, size):
    return json.dumps({"t": block / 1000, "op": "alloc", "id": block, "bytes": size}) + "\n"


def free(block):
    return json.dumps({"op": "free", "id": block}) + "\n"


SMALL = alloc(1, 1 << 20) + alloc(2, 5000) + free(1) + alloc(3, 1 << 20) + free(2) + free(3)


def charts():
    return "install cairo" not in forebay("replay", "alloc", "x", "--chart", "x.svg").stderr


class Replay(ProgramTest):
    def replay(self, *args, code=0):
        run = forebay("replay", "alloc", "--json", "--repeat", "1", *args)
        self.assertEqual(run.returncode, code, run.stderr)
        return self.object_of(run)

    def small(self):
        return self.file("small.jsonl", SMALL)

    def test_every_configuration_has_every_key(self):
        answer = self.replay(self.small())
        self.assertEqual([run["name"] for run in answer["runs"]], BUILT_IN)
        for run in answer["runs"]:
            for key, kind in RUN_KEYS.items():
                self.assertIsInstance(run[key], kind, key)
            self.assertEqual(run["operations"], 6)
            self.assertEqual(run["peak_live_bytes"], (1 << 20) + 5000)
            self.assertGreaterEqual(run["peak_reserved_bytes"], run["peak_live_bytes"])
            self.assertEqual(run["refused"], 0)
            for sample in run["samples"]:
                self.assertLessEqual(sample["live_bytes"], sample["reserved_bytes"])
        self.assertIn(answer["recommended"], BUILT_IN)
        self.assertEqual(answer["format"], "JSON lines")
        self.assertEqual((answer["allocations"], answer["frees"]), (3, 3))

    def test_the_shipped_traces_are_replayed_and_both_formats_known(self):
        formats = set()
        for name in ("transformer_step.jsonl", "llm_serving.jsonl", "random.csv"):
            answer = self.replay(str(TRACES / name), "--device", "simulated")
            formats.add(answer["format"])
            self.assertEqual(len({run["peak_live_bytes"] for run in answer["runs"]}), 1)
            self.assertNotIn("huge-pages", [run["name"] for run in answer["runs"]])
            self.assertTrue(all(run["refused"] == 0 for run in answer["runs"]))
        self.assertEqual(formats, {"RMM CSV", "JSON lines"})

    def test_own_configurations_replace_the_built_in_ones(self):
        answer = self.replay(self.small(), "--pool", "mine:ttl=10s,max_retained=1GiB",
                             "--pool", "tight")
        self.assertEqual([(run["name"], run["spec"]) for run in answer["runs"]],
                         [("mine", "ttl=10s,max_retained=1GiB"), ("tight", "max_retained=64MiB")])

    def test_a_configuration_file_may_name_one_and_flags_win(self):
        config = self.file("c.yaml", f"trace: {self.small()}\npool: direct\nrepeat: 2\n")
        run = forebay("replay", "alloc", "--config", config, "--json")
        answer = self.object_of(run)
        self.assertEqual([r["name"] for r in answer["runs"]], ["direct"])
        self.assertEqual(answer["repeat"], 2)
        run = forebay("replay", "alloc", "--config", config, "--json", "--pool", "tight",
                      "--pool", "default")
        self.assertEqual([r["name"] for r in self.object_of(run)["runs"]], ["tight", "default"])

    def test_written_pages_are_resident(self):
        trace = self.file("t.jsonl", alloc(1, 64 << 20) + free(1))
        answer = self.replay(trace, "--touch", "--pool", "default", "--pool", "direct")
        for run in answer["runs"]:
            self.assertGreaterEqual(run["peak_resident_bytes"], 64 << 20)
        self.assertIsInstance(answer["capacity_bytes"], int)  # a share of what is free

    def test_without_a_pool_the_host_is_limited_to_what_is_free(self):
        self.assertIsInstance(self.replay(self.small())["capacity_bytes"], int)
        answer = self.replay(self.small(), "--pool", "default")
        self.assertIsNone(answer["capacity_bytes"])
        large = self.file("l.jsonl", alloc(1, 1 << 47))
        answer = self.replay(large, "--pool", "default", "--pool", "direct", code=3)
        self.assertTrue(all(run["refused"] == 1 for run in answer["runs"]))

    def test_refusals_are_counted_and_no_failure_while_one_serves_all(self):
        trace = self.file("t.jsonl", alloc(1, 4 << 20) + free(1) + alloc(2, 4 << 20))
        answer = self.replay(trace, "--device", "simulated", "--capacity", "4MiB",
                             "--pool", "direct", "--pool", "default")
        self.assertEqual(answer["runs"][0]["refused"], 0)
        self.assertNotIn("error", answer)

    def test_refused_by_all_is_memory_refused_with_the_account(self):
        trace = self.file("t.jsonl", alloc(1, 3 << 20) + alloc(2, 2 << 20))
        args = [trace, "--device", "simulated", "--capacity", "4MiB"]
        answer = self.replay(*args, code=3)
        self.assertTrue(REFUSAL_KEYS <= set(answer))
        self.assertEqual(answer["asked_bytes"], 2 << 20)
        self.assertTrue(all(run["refused"] == 1 for run in answer["runs"]))
        run = forebay("replay", "alloc", *args)
        self.assertEqual(run.returncode, 3)
        self.assertIn("recommended: ", run.stdout)
        self.assertIn("asked 2 MiB", run.stderr)
        self.assertIn("raise --capacity to at least 5 MiB", run.stderr)

    def test_a_refusal_without_a_capacity_is_told_in_its_own_words(self):
        trace = self.file("t.jsonl", alloc(1, 4096) + alloc(2, 1 << 48))
        run = forebay("replay", "alloc", trace, "--pool", "default", "--repeat", "1")
        self.assertEqual(run.returncode, 3)
        self.assertRegex(run.stderr, r"^forebay: 256 TiB refused with 4 KiB of the trace "
                                     r"live, though no capacity is set: \S.*\n$")
        self.assertNotIn("--capacity", run.stderr)
        self.assertNotIn("unlimited", run.stderr)
        answer = self.replay(trace, "--pool", "default", code=3)
        self.assertEqual(answer["code"], "memory_refused")

    def test_none_is_recommended_that_served_nothing(self):
        trace = self.file("t.jsonl", alloc(1, 1 << 40))
        answer = self.replay(trace, "--device", "simulated", code=3)
        self.assertIsNone(answer["recommended"])
        run = forebay("replay", "alloc", trace, "--device", "simulated")
        self.assertIn("\nrecommended: none\n  none served an allocation", run.stdout)
        self.assertRegex(run.stdout, r"\n  default .* -        1\n")

    def test_the_report_names_trace_configurations_and_choice(self):
        run = forebay("replay", "alloc", self.small())
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertIn("small.jsonl\n  JSON lines, 6 operations", run.stdout)
        for name in BUILT_IN:
            self.assertRegex(run.stdout, rf"\n  {name} +[\d.]+ [nu]s ")
        self.assertRegex(run.stdout, r"\nrecommended: (\S+)\n  \S.*\n")
        self.assertNotIn("\x1b", run.stdout)

    def test_colours_are_for_terminals(self):
        self.assertIn("\x1b[", on_terminal("replay", "alloc", self.small()))
        plain = on_terminal("replay", "alloc", self.small(), env=environment(NO_COLOR="1"))
        self.assertNotIn("\x1b", plain)

    def test_verbose_says_what_is_run_on_standard_error(self):
        run = forebay("replay", "alloc", self.small(), "--verbose", "--pool", "tight")
        self.assertIn("pool tight: max_retained=64MiB\n", run.stderr)


class BadInput(ProgramTest):
    def refused(self, message, *args):
        self.assert_refused(forebay("replay", "alloc", *args), message)

    def test_a_trace_must_be_given_once_and_be_there(self):
        trace = self.file("t.jsonl", SMALL)
        self.refused("no trace given; allowed: forebay replay alloc TRACE\n")
        self.refused("no.jsonl: no such trace\n", "no.jsonl")
        self.refused(f"{self.folder}: is no regular file", str(self.folder))
        self.refused("--trace: given twice", trace, trace)
        self.refused("--trace: an empty value", "--trace", "")

    def test_a_broken_trace_is_answered_with_file_line_and_what_is_allowed(self):
        trace = self.file("t.jsonl", SMALL + free(9))
        self.refused(f"{trace}:7: id: 9 is freed and not live; allowed: ", trace)
        trace = self.file("e.csv", "Thread,Time,Action,Pointer,Size,Stream\n")
        self.refused(f"{trace}: no operations", trace)
        trace = self.file("b.bin", bytes(range(256)) * 1000)
        self.refused(f"{trace}:1: ", trace)

    def test_a_bad_configuration_is_answered_with_its_key(self):
        trace = self.file("t.jsonl", SMALL)
        self.refused("--pool: defalt: unknown configuration; did you mean 'default'?", trace,
                     "--pool", "defalt")
        self.refused("--pool: a: tll: unknown key; did you mean 'ttl'?", trace, "--pool", "a:tll=1s")
        self.refused("--pool: tight: given twice", trace, "--pool", "tight", "--pool", "tight")
        config = self.file("c.yaml", "repeat: 1\npool: nono\n")
        self.refused(f"{config}:2: pool: nono: unknown configuration", trace, "--config", config)

    def test_settings_that_do_not_go_together_are_refused(self):
        trace = self.file("t.jsonl", SMALL)
        self.refused("--touch: a simulated device has no bytes", trace, "--touch", "--device",
                     "simulated")
        self.refused("--device: gpu is not allowed; allowed: host, simulated\n", trace, "--device",
                     "gpu")
        self.refused("--repeat: 0 is not allowed", trace, "--repeat", "0")
        self.refused("--capacity: 0 is not allowed", trace, "--capacity", "0")

    def test_a_refusal_is_an_object_with_json(self):
        run = forebay("replay", "alloc", "no.jsonl", "--json")
        self.assertEqual(run.returncode, 2)
        self.assertEqual(self.object_of(run)["code"], "not_found")

    def test_the_group_has_help_and_corrects(self):
        self.assert_refused(forebay("replay"), "replay: which one? See 'forebay replay --help'")
        self.assert_refused(forebay("replay", "aloc", "x"),
                            "replay aloc: unknown command; did you mean 'replay alloc'?")
        self.assert_refused(forebay("replay", "--fast"), "--fast: unknown flag")
        run = forebay("replay", "--help")
        self.assertEqual(run.returncode, 0)
        self.assertIn("replay alloc ", run.stdout)

    def test_a_trace_may_be_named_like_a_command(self):
        trace = self.folder / "plan"
        trace.write_text(SMALL)
        run = subprocess.run([BINARY, "replay", "alloc", "plan"], cwd=self.folder,
                             capture_output=True, check=False)
        self.assertEqual(run.returncode, 0, run.stderr)


class Interrupt(ProgramTest):
    def test_ctrl_c_ends_the_replay_and_the_bar(self):
        trace = self.file("t.jsonl", "".join(alloc(i, 64) for i in range(1, 20001)))
        leader, follower = pty.openpty()
        process = subprocess.Popen([BINARY, "replay", "alloc", trace, "--repeat", "1000"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=follower, env=environment())
        os.close(follower)
        shown = b""
        while b"replaying" not in shown:  # the bar: the replay is under way
            shown += os.read(leader, 65536)
        process.send_signal(signal.SIGINT)
        try:
            while chunk := os.read(leader, 65536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        os.close(leader)
        self.assertEqual(process.wait(timeout=60), 130)
        self.assertRegex(shown.decode(), r"interrupted after \d+ of 5005 passes")


@unittest.skipUnless(charts(), "built without cairo")
class Charts(ProgramTest):
    def draw(self, name, *args):
        chart = self.folder / name
        run = forebay("replay", "alloc", str(TRACES / "random.csv"), "--repeat", "1", "--chart",
                      str(chart), *args)
        self.assertEqual(run.returncode, 0, run.stderr)
        return chart

    def test_an_svg_is_well_formed_and_has_its_size(self):
        chart = self.draw("c.svg")
        root = xml.etree.ElementTree.parse(chart).getroot()
        self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
        self.assertRegex(root.get("viewBox"), r"^0 0 1120 700$")
        self.assertGreater(len(list(root.iter("{http://www.w3.org/2000/svg}path"))), 20)
        self.assertLess(chart.stat().st_size, 500_000)

    def test_a_png_is_one_and_has_its_size(self):
        data = self.draw("c.png").read_bytes()
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(struct.unpack(">II", data[16:24]), (2240, 1400))
        self.assertTrue(data.endswith(b"IEND\xaeB`\x82"))

    def test_one_configuration_and_one_operation_can_be_drawn(self):
        trace = self.file("t.jsonl", alloc(1, 1))
        chart = self.folder / "c.svg"
        run = forebay("replay", "alloc", trace, "--pool", "direct", "--chart", str(chart), "--json")
        self.assertEqual(run.returncode, 0, run.stderr)
        self.assertEqual(self.object_of(run)["chart"], str(chart))
        xml.etree.ElementTree.parse(chart)

    def test_a_replay_that_served_nothing_can_be_drawn(self):
        trace = self.file("t.jsonl", alloc(1, 1 << 40))
        chart = self.folder / "c.svg"
        run = forebay("replay", "alloc", trace, "--device", "simulated", "--chart", str(chart))
        self.assertEqual(run.returncode, 3, run.stderr)
        xml.etree.ElementTree.parse(chart)

    def test_what_cannot_be_drawn_is_refused_before_the_work(self):
        trace = self.file("t.jsonl", SMALL)
        run = forebay("replay", "alloc", trace, "--chart", "c.gif")
        self.assert_refused(run, "--chart: c.gif is not allowed; allowed: a file that ends in .svg or .png")
        run = forebay("replay", "alloc", trace, "--chart", f"{self.folder}/no/c.svg")
        self.assert_refused(run, f"--chart: {self.folder}/no: no such folder")
        (self.folder / "d.svg").mkdir()
        run = forebay("replay", "alloc", trace, "--chart", f"{self.folder}/d.svg")
        self.assert_refused(run, "--chart: cannot write ")

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_chart_that_cannot_be_written_does_not_cost_the_report(self):
        trace = self.file("t.jsonl", SMALL)
        (self.folder / "full.svg").symlink_to("/dev/full")
        args = ("replay", "alloc", trace, "--repeat", "1", "--chart", f"{self.folder}/full.svg")
        run = forebay(*args)
        self.assertEqual(run.returncode, 2)
        self.assertIn("recommended: ", run.stdout)
        self.assertRegex(run.stderr, r"^forebay: --chart: cannot write .*/full.svg: .*\n$")
        run = forebay(*args, "--json")
        self.assertEqual(run.returncode, 2)
        self.assertEqual(self.object_of(run)["operations"], 6)
        self.assertRegex(run.stderr, r"^forebay: --chart: cannot write .*\n$")


if __name__ == "__main__":
    unittest.main()
