"""`forebay replay cache`, on small traces and on those that are shipped."""

import json
import os
import pathlib
import pty
import signal
import struct
import subprocess
import unittest
import xml.etree.ElementTree

from program import BINARY, ProgramTest, environment, forebay, on_terminal

TRACES = pathlib.Path(__file__).resolve().parents[2] / "traces"
SHIPPED = {"zipf.csv": "CSV", "cdn.csv": "CSV", "llm_blocks.jsonl": "JSON lines",
           "zipf_and_loop.oracleGeneral": "oracleGeneral"}
RUN_KEYS = {
    "policy": str, "offline": bool, "capacity_bytes": int, "requests": int, "hits": int,
    "object_miss_ratio": float, "byte_miss_ratio": float, "cost_miss_ratio": float,
    "requests_per_second": float, "evictions": int, "refused": int, "entries": int,
    "metadata_bytes": int,
}
# Six requests of three objects, 600 bytes of them.
SMALL = "0,1,100\n1,2,200\n2,1,100\n3,3,300\n4,1,100\n5,2,200\n"


def record(time, key, size, following=-1):
    return struct.pack("<IQIq", time, key, size, following)


def charts():
    return "install cairo" not in forebay("replay", "cache", "x", "--chart", "x.svg").stderr


class Replay(ProgramTest):
    def replay(self, *args, code=0, stdin=""):
        run = forebay("replay", "cache", "--json", *args, stdin=stdin)
        self.assertEqual(run.returncode, code, run.stderr)
        return self.object_of(run)

    def small(self):
        return self.file("small.csv", SMALL)

    def test_every_run_has_every_key_and_counts_add_up(self):
        answer = self.replay(self.small(), "--policy", "lru,fifo,belady", "--capacity", "300,50%")
        self.assertEqual([(run["policy"], run["capacity_bytes"]) for run in answer["runs"]],
                         [(policy, 300) for policy in ("lru", "fifo", "belady")] * 2)
        for run in answer["runs"]:
            for key, kind in RUN_KEYS.items():
                self.assertIsInstance(run[key], kind, key)
            self.assertEqual(run["requests"], 6)
            self.assertAlmostEqual(run["object_miss_ratio"], 1 - run["hits"] / 6)
            self.assertEqual(run["offline"], run["policy"] == "belady")
        self.assertEqual([run["capacity_share"] for run in answer["runs"]],
                         [None] * 3 + [0.5] * 3)
        self.assertIn(answer["best"], ("lru", "fifo"))
        self.assertEqual(len(answer["best_by_capacity"]), 2)
        self.assertEqual((answer["objects"], answer["footprint_bytes"], answer["requests"]),
                         (3, 600, 6))
        self.assertEqual(answer["curves"], [])

    def test_lru_on_a_trace_that_can_be_followed_by_hand(self):
        # Room for 1 and 2; 3 takes the place of both, after which 1 and 2 are missed again.
        run = self.replay(self.small(), "--policy", "lru", "--capacity", "300")["runs"][0]
        self.assertEqual((run["hits"], run["evictions"], run["refused"]), (1, 3, 0))
        self.assertAlmostEqual(run["byte_miss_ratio"], 900 / 1000)

    def test_the_shipped_traces_are_replayed_and_all_formats_known(self):
        for name, form in SHIPPED.items():
            answer = self.replay(str(TRACES / name), "--policy", "all,belady")
            self.assertEqual(answer["format"], form)
            self.assertEqual(len({run["capacity_bytes"] for run in answer["runs"]}), 3)
            by_policy = {run["policy"]: run["hits"] for run in answer["runs"]
                         if run["capacity_share"] == 0.1}
            self.assertTrue({"lru", "sieve", "arc", "gdsf", "auto", "belady"} <= set(by_policy))
            self.assertGreater(by_policy["lru"], 0)
            if name != "cdn.csv":  # one size: the optimum is one
                self.assertEqual(max(by_policy.values()), by_policy["belady"])

    def test_without_a_policy_those_that_differ_most_and_auto(self):
        answer = self.replay(self.small())
        policies = [run["policy"] for run in answer["runs"][:len(answer["runs"]) // 3]]
        self.assertEqual(policies[0], "lru")
        self.assertEqual(policies[-1], "auto")
        self.assertNotIn("belady", policies)
        self.assertNotIn("random", policies)
        self.assertEqual([entry["capacity_bytes"] for entry in answer["best_by_capacity"]],
                         [1, 6, 60])

    def test_the_same_twice_and_from_a_file_pipe_and_standard_input(self):
        args = ("--policy", "all", "--capacity", "300")
        def hits(answer):
            return {run["policy"]: run["hits"] for run in answer["runs"]}
        first = hits(self.replay(self.small(), *args))
        self.assertEqual(first, hits(self.replay(self.small(), *args)))
        self.assertEqual(first, hits(self.replay("-", *args, stdin=SMALL)))
        self.assertEqual(first, hits(self.replay("/dev/stdin", *args, stdin=SMALL)))

    def test_the_three_formats_say_the_same(self):
        rows = [line.split(",") for line in SMALL.split()]
        lines = "".join(json.dumps({"t": float(t), "key": int(key), "bytes": int(size)}) + "\n"
                        for t, key, size in rows)
        records = b"".join(record(int(t), int(key), int(size)) for t, key, size in rows)
        files = [self.small(), self.file("s.jsonl", lines), self.file("s.bin", records)]
        answers = [self.replay(file, "--policy", "all,belady", "--capacity", "300,10%")
                   for file in files]
        for answer in answers:
            self.assertEqual([run["hits"] for run in answer["runs"]],
                             [run["hits"] for run in answers[0]["runs"]])

    def test_packed_traces_are_unpacked(self):
        zstd = subprocess.run(["zstd", "-q", "-c"], input=SMALL.encode(), capture_output=True,
                              check=False) if self.has_zstd() else None
        if zstd is None:
            self.skipTest("no zstd here")
        file = self.file("small.csv.zst", zstd.stdout)
        self.assertEqual(self.replay(file, "--policy", "lru", "--capacity", "300")["runs"][0]["hits"],
                         1)
        cut = self.file("cut.csv.zst", zstd.stdout[:-5])
        run = forebay("replay", "cache", cut)
        self.assert_refused(run, f"{cut}:")
        self.assertIn("the file ends within a zstd frame; allowed: whole frames", run.stderr)

    @staticmethod
    def has_zstd():
        return any((pathlib.Path(folder) / "zstd").exists()
                   for folder in os.environ["PATH"].split(os.pathsep))

    def test_sizes_can_be_ignored(self):
        answer = self.replay(self.small(), "--ignore-size", "--policy", "lru", "--capacity", "2")
        self.assertEqual(answer["footprint_bytes"], 3)
        self.assertEqual(answer["runs"][0]["hits"], 2)
        self.assertEqual(answer["configuration"],
                         "caches:\n  mine: {policy: lru, max_entries: 2}\n")

    def test_the_objective_decides_what_is_best(self):
        trace = str(TRACES / "cdn.csv")
        for objective, key in (("objects", "object"), ("bytes", "byte"), ("cost", "cost")):
            answer = self.replay(trace, "--policy", "lru,sieve,arc,gdsf", "--capacity", "5%",
                                 "--objective", objective)
            least = min(answer["runs"], key=lambda run: run[f"{key}_miss_ratio"])
            self.assertEqual(answer["best"], least["policy"])
            self.assertEqual(answer["objective"], objective)
            self.assertEqual(f"objective: {objective}" in answer["configuration"],
                             objective != "objects")

    def test_a_curve_has_thirteen_points_that_end_at_the_first_requests(self):
        answer = self.replay(str(TRACES / "zipf.csv"), "--policy", "lru,belady", "--curve",
                             "--capacity", "10%")
        self.assertEqual(answer["curve_sampling"], 1)
        for curve, run in zip(answer["curves"], answer["runs"]):
            self.assertEqual(curve["policy"], run["policy"])
            self.assertEqual(len(curve["points"]), 13)
            self.assertAlmostEqual(curve["points"][-1]["object_miss_ratio"],
                                   answer["objects"] / answer["requests"])
            self.assertAlmostEqual(curve["points"][8]["object_miss_ratio"],
                                   run["object_miss_ratio"])

    def test_a_configuration_file_may_say_it_and_flags_win(self):
        config = self.file("c.yaml", f"trace: {self.small()}\npolicy: lru,fifo\n"
                                     "capacity: 100,50%\nignore_size: false\n")
        answer = self.object_of(forebay("replay", "cache", "--config", config, "--json"))
        self.assertEqual([(run["policy"], run["capacity_bytes"]) for run in answer["runs"]],
                         [("lru", 100), ("fifo", 100), ("lru", 300), ("fifo", 300)])
        run = forebay("replay", "cache", "--config", config, "--json", "--policy", "arc",
                      "--policy", "lru")
        self.assertEqual({r["policy"] for r in self.object_of(run)["runs"]}, {"arc", "lru"})

    def test_the_report_names_trace_policies_and_what_to_configure(self):
        run = forebay("replay", "cache", self.small(), "--policy", "lru,sieve", "--capacity", "50%")
        self.assertEqual((run.returncode, run.stderr), (0, ""))
        self.assertIn("small.csv\n  CSV, 6 requests of 3 objects, 600 B of them, 1000 B asked for\n",
                      run.stdout)
        self.assertIn("  capacity 300 B, 50 % of all objects\n", run.stdout)
        self.assertRegex(run.stdout, r"\n  lru +83\.33 % +90\.00 % +0\.0 %")
        self.assertRegex(run.stdout, r"\nbest: \S+\n  misses least objects")
        self.assertRegex(run.stdout, r"to configure it:\n    caches:\n      mine: \{policy: \S+, "
                                     r"max_bytes: 300B\}\n$")
        self.assertNotIn("\x1b", run.stdout)

    def test_colours_are_for_terminals(self):
        self.assertIn("\x1b[", on_terminal("replay", "cache", self.small()))
        plain = on_terminal("replay", "cache", self.small(), env=environment(NO_COLOR="1"))
        self.assertNotIn("\x1b", plain)

    def test_verbose_says_what_the_trace_is_about_on_standard_error(self):
        run = forebay("replay", "cache", self.small(), "--verbose", "--policy", "lru")
        self.assertEqual(run.stderr, "trace: 6 requests of 3 objects, 600 B of them, the largest "
                                     "300 B, 0 left out\n")

    def test_the_optimum_alone_recommends_nothing(self):
        answer = self.replay(self.small(), "--policy", "belady")
        self.assertIsNone(answer["best"])
        self.assertEqual(answer["configuration"], "")
        run = forebay("replay", "cache", self.small(), "--policy", "belady")
        self.assertIn("\nbest: none\n", run.stdout)


class BadInput(ProgramTest):
    def refused(self, message, *args, stdin=""):
        self.assert_refused(forebay("replay", "cache", *args, stdin=stdin), message)

    def test_a_trace_must_be_given_once_and_be_there(self):
        trace = self.file("t.csv", SMALL)
        self.refused("no trace given; allowed: forebay replay cache TRACE\n")
        self.refused("no.csv: no such trace\n", "no.csv")
        self.refused(f"{self.folder}: is a folder", str(self.folder), "--capacity", "1")
        self.refused("--trace: given twice", trace, trace)

    def test_a_broken_trace_is_answered_with_place_value_and_what_is_allowed(self):
        trace = self.file("t.csv", SMALL + "6,1,-1\n")
        self.refused(f"{trace}:7: size: -1 is not allowed; allowed: a whole number", trace)
        trace = self.file("t.jsonl", '{"key":1,"bites":2}\n')
        self.refused(f"{trace}:1: bites: unknown key; did you mean 'bytes'?", trace)
        trace = self.file("t.bin", record(0, 1, 100) + record(1, 2, 100)[:11])
        self.refused(f"{trace}: record 2: the file ends after 11 bytes of it; allowed: whole "
                     "records of 24 bytes\n", trace)
        trace = self.file("u.bin", record(0, 1, 100, -5))
        self.refused(f"{trace}: record 1: next: -5 is not allowed", trace)
        trace = self.file("e.csv", "time,key,size\n")
        self.refused(f"{trace}: no requests; allowed: at least one", trace)
        self.refused(f"{self.file('n.csv', '')}: the trace is empty", str(self.folder / "n.csv"))
        self.refused("standard input:1: time: x is not allowed", "-", "--capacity", "1",
                     stdin="x,1,1\n")

    def test_what_is_read_once_cannot_be_surveyed(self):
        message = "standard input: can be read once only; allowed: with --capacity in bytes"
        self.refused(message, "-", stdin=SMALL)
        self.refused(message, "-", "--capacity", "10%", stdin=SMALL)
        self.refused(message, "-", "--capacity", "100", "--policy", "belady", stdin=SMALL)
        self.refused(message, "-", "--capacity", "100", "--curve", stdin=SMALL)
        self.refused("/dev/stdin: can be read once only", "/dev/stdin", stdin=SMALL)

    def test_settings_are_answered_with_their_key(self):
        trace = self.file("t.csv", SMALL)
        self.refused("--policy: lrru: unknown policy; did you mean 'lru'?\n", trace, "--policy",
                     "lrru")
        self.refused("--policy: lru: given twice", trace, "--policy", "lru,fifo", "--policy", "lru")
        for value in ("0", "0%", "101%", "1%,", "a", "1%,-3"):
            self.refused(f"--capacity: {value} is not allowed; allowed: sizes above 0 as 512MiB, or "
                         "shares as 10%, several with commas, or auto\n", trace, "--capacity", value)
        self.refused("--capacity: 2048 PiB is not allowed; allowed: at most 1024 PiB\n", trace,
                     "--capacity", str(1 << 61))
        self.refused("--objective: misses is not allowed; allowed: objects, bytes, cost\n", trace,
                     "--objective", "misses")
        self.refused("--device: not a flag of 'replay cache'", trace, "--device", "host")
        config = self.file("c.yaml", "ignore_size: true\npolicy: nono\n")
        self.refused(f"{config}:2: policy: nono: unknown policy", trace, "--config", config)
        alloc = forebay("replay", "alloc", trace, "--capacity", "1GiB,2GiB")
        self.assert_refused(alloc, "--capacity: several, or a share, is not allowed; allowed: ")

    def test_a_refusal_is_an_object_with_json(self):
        run = forebay("replay", "cache", "no.csv", "--json")
        self.assertEqual(run.returncode, 2)
        self.assertEqual(self.object_of(run)["code"], "not_found")

    def test_help_names_the_command(self):
        run = forebay("replay", "cache", "--help")
        self.assertEqual(run.returncode, 0)
        for flag in ("--policy", "--capacity", "--objective", "--ignore-size", "--curve", "--chart"):
            self.assertIn(flag, run.stdout)
        self.assertIn("replay cache ", forebay("replay", "--help").stdout)


class Interrupt(ProgramTest):
    def test_ctrl_c_ends_the_replay_and_the_bar(self):
        pipe = self.folder / "pipe"
        os.mkfifo(pipe)
        leader, follower = pty.openpty()
        process = subprocess.Popen([BINARY, "replay", "cache", pipe, "--capacity", "100"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=follower, env=environment())
        os.close(follower)
        with open(pipe, "wb") as trace:
            trace.write(b"0,1,1\n" * 100000)
            trace.flush()
            shown = b""
            while b"replaying" not in shown:  # the bar: the replay is under way
                shown += os.read(leader, 65536)
            process.send_signal(signal.SIGINT)
            try:
                while True:
                    trace.write(b"0,1,1\n" * 100000)
            except BrokenPipeError:
                pass
            try:
                trace.close()
            except BrokenPipeError:
                pass
        try:
            while chunk := os.read(leader, 65536):
                shown += chunk
        except OSError:  # the other end is closed
            pass
        os.close(leader)
        self.assertEqual(process.wait(timeout=60), 130)
        self.assertIn("interrupted while reading the trace", shown.decode())


@unittest.skipUnless(charts(), "built without cairo")
class Charts(ProgramTest):
    def draw(self, name, *args):
        chart = self.folder / name
        run = forebay("replay", "cache", str(TRACES / "zipf.csv"), "--policy", "all,belady",
                      "--chart", str(chart), *args)
        self.assertEqual(run.returncode, 0, run.stderr)
        return chart

    def test_svg_has_axes_and_every_policy(self):
        root = xml.etree.ElementTree.parse(self.draw("c.svg")).getroot()
        self.assertTrue(root.tag.endswith("svg"))
        self.assertGreater(len(list(root.iter())), 100)

    def test_png_is_one_of_the_right_size(self):
        data = self.draw("c.png", "--objective", "bytes").read_bytes()
        self.assertEqual(data[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(struct.unpack(">II", data[16:24]), (2240, 1280))

    def test_a_chart_makes_the_curves(self):
        chart = str(self.folder / "c.svg")
        run = forebay("replay", "cache", str(TRACES / "zipf.csv"), "--policy", "lru", "--chart",
                      chart, "--json")
        answer = self.object_of(run)
        self.assertEqual(len(answer["curves"]), 1)
        self.assertEqual(answer["chart"], chart)

    def test_a_name_that_is_no_picture_is_refused_before_the_work(self):
        trace = self.file("t.csv", SMALL)
        self.assert_refused(forebay("replay", "cache", trace, "--chart", "c.gif"),
                            "--chart: c.gif is not allowed; allowed: a file that ends in .svg or")


if __name__ == "__main__":
    unittest.main()
