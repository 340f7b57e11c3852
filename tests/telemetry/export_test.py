"""Reads exported snapshots with other programs' readers: Python's pickle, protoc, pprof, forebay."""

import gzip
import importlib.util
import json
import os
import pathlib
import pickle
import pickletools
import re
import shutil
import subprocess
import tempfile
import unittest

SAMPLE = os.environ["FOREBAY_EXPORT_SAMPLE"]
SCHEMA = pathlib.Path(os.environ["FOREBAY_PROFILE_PROTO"])
PROGRAM = os.environ.get("FOREBAY_BINARY", "")
# What the code of PyTorch's viewer page can read.
VIEWER_OPCODES = {
    "PROTO", "FRAME", "STOP", "MARK", "EMPTY_DICT", "SETITEMS", "SETITEM", "DICT", "EMPTY_LIST",
    "APPEND", "APPENDS", "LIST", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "NONE",
    "NEWTRUE", "NEWFALSE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE",
    "SHORT_BINUNICODE", "MEMOIZE", "BINGET", "LONG_BINGET", "BINPUT", "LONG_BINPUT"}


def lists_for_tuples(value):
    if isinstance(value, (list, tuple)):
        return [lists_for_tuples(v) for v in value]
    if isinstance(value, dict):
        return {k: lists_for_tuples(v) for k, v in value.items()}
    return value


def pprof_command():
    """The pprof of Go's tools, or one that stands by itself; None: neither."""
    if shutil.which("pprof"):
        return ["pprof"]
    if shutil.which("go"):
        tool = subprocess.run(["go", "tool", "-n", "pprof"], capture_output=True, check=False)
        if tool.returncode == 0:
            return ["go", "tool", "pprof"]
    return None


def pytorchs_script():
    """torch/cuda/_memory_viz.py, which can be loaded without torch itself; None: not here."""
    named = os.environ.get("FOREBAY_TORCH_MEMORY_VIZ")
    if named:
        return named
    torch = importlib.util.find_spec("torch")
    if torch is None or not torch.submodule_search_locations:
        return None
    script = pathlib.Path(torch.submodule_search_locations[0]) / "cuda" / "_memory_viz.py"
    return str(script) if script.exists() else None


class ExportTest(unittest.TestCase):
    blocks = ()  # arguments of export_sample

    @classmethod
    def setUpClass(cls):
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        done = subprocess.run([SAMPLE, cls.temporary.name, *cls.blocks], check=True,
                              capture_output=True)
        cls.totals = json.loads(done.stdout)

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def unpickled(self):
        with open(self.folder / "memory_viz.pickle", "rb") as file:
            return pickle.load(file)


class AnySnapshot:
    """What holds for each of them."""

    def test_pickle_and_json_are_the_same(self):
        parsed = json.loads((self.folder / "memory_viz.json").read_text(encoding="utf-8"))
        self.assertEqual(lists_for_tuples(self.unpickled()), parsed)

    def test_pickle_is_of_protocol_4_and_uses_what_the_viewer_can_read(self):
        data = (self.folder / "memory_viz.pickle").read_bytes()
        self.assertEqual(data[:2], b"\x80\x04")
        used = {opcode.name for opcode, _, _ in pickletools.genops(data)}
        self.assertEqual(used - VIEWER_OPCODES, set())
        frames = [size for opcode, size, _ in pickletools.genops(data) if opcode.name == "FRAME"]
        self.assertEqual(2 + sum(9 + size for size in frames), len(data))

    def test_blocks_tile_their_segments(self):
        snapshot = self.unpickled()
        self.assertTrue(snapshot["segments"])
        live = 0
        for segment in snapshot["segments"]:
            at = segment["address"]
            for block in segment["blocks"]:
                self.assertEqual(block["address"], at)
                self.assertGreater(block["size"], 0)
                at += block["size"]
            self.assertEqual(at, segment["address"] + segment["total_size"])
            used = sum(b["size"] for b in segment["blocks"] if b["state"] == "active_allocated")
            self.assertEqual(used, segment["allocated_size"])
            live += used
        self.assertEqual(live, self.totals["blocks_bytes"])

    def test_segments_of_a_device_do_not_overlap(self):
        ends = {}
        for segment in sorted(self.unpickled()["segments"], key=lambda s: s["address"]):
            self.assertGreaterEqual(segment["address"], ends.get(segment["device"], 0))
            ends[segment["device"]] = segment["address"] + segment["total_size"]

    def test_the_history_ends_with_the_blocks(self):
        snapshot = self.unpickled()
        for device, trace in enumerate(snapshot["device_traces"]):
            live = {b["address"] for s in snapshot["segments"] if s["device"] == device
                    for b in s["blocks"] if b["state"] == "active_allocated"}
            for event in reversed(trace):
                if event["action"] == "alloc":
                    self.assertIn(event["addr"], live)
                    live.remove(event["addr"])
                elif event["action"] == "free_completed":
                    self.assertNotIn(event["addr"], live)
                    live.add(event["addr"])

    def test_entries_have_the_documented_keys(self):
        snapshot = self.unpickled()
        self.assertLessEqual({"segments", "device_traces"}, set(snapshot))
        frames = []
        for segment in snapshot["segments"]:
            self.assertLessEqual({"device", "address", "total_size", "allocated_size",
                                  "active_size", "stream", "segment_type", "segment_pool_id",
                                  "blocks", "frames"}, set(segment))
            self.assertLess(segment["device"], len(snapshot["device_traces"]))
            for block in segment["blocks"]:
                self.assertEqual({"address", "size", "requested_size", "state", "frames"},
                                 set(block))
                frames += block["frames"]
        for event in sum(snapshot["device_traces"], []):
            place = "device_free" if event["action"] == "oom" else "addr"
            self.assertEqual({"action", place, "size", "stream", "time_us", "frames"}, set(event))
            frames += event["frames"]
        for frame in frames:
            self.assertEqual({"name": str, "filename": str, "line": int},
                             {key: type(value) for key, value in frame.items()})


    def decoded(self):
        if not shutil.which("protoc"):
            self.skipTest("protoc is not here")
        message = gzip.decompress((self.folder / "heap.pb.gz").read_bytes())
        text = subprocess.run(["protoc", "--decode", "perftools.profiles.Profile",
                               f"-I{SCHEMA.parent}", SCHEMA.name], input=message, check=True,
                              capture_output=True).stdout.decode()
        # A field that the schema does not have is shown by its number.
        self.assertNotRegex(text, re.compile(r"^\s*\d+[: ]", re.M))
        return text

    def test_pprof_decodes_to_the_same_totals(self):
        text = self.decoded()
        samples = re.findall(r"^sample \{\n(.*?)^\}", text, re.M | re.S)
        values = [[int(v) for v in re.findall(r"^  value: (\d+)", s, re.M)] for s in samples]
        # proto3 writes zeros within a list, so that each sample has both.
        self.assertEqual({len(v) for v in values}, {2})
        self.assertEqual(sum(v[0] for v in values), round(self.totals["weight_blocks"]))
        self.assertLessEqual(abs(sum(v[1] for v in values) - self.totals["weight_bytes"]), 0.5)

    def test_pytorchs_own_script_finds_no_contradiction(self):
        script = pytorchs_script()
        if script is None:
            self.skipTest("torch is not installed; FOREBAY_TORCH_MEMORY_VIZ may name _memory_viz.py")
        spec = importlib.util.spec_from_file_location("memory_viz", script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        snapshot = self.unpickled()
        # It asserts that free and allocated bytes add up, of each segment and of all.
        self.assertIn(f"segments: {len(snapshot['segments'])}", module.segsum(snapshot))
        flames = module.memory(snapshot, format_flamegraph=str)
        # (A name may hold a line's end.)
        live = re.findall(r";active_allocated;.*? (\d+)$", flames, re.M | re.S)
        self.assertEqual(sum(map(int, live)), self.totals["blocks_bytes"])
        self.assertIn("entries", module.trace(snapshot))


class LargeSnapshot(AnySnapshot, ExportTest):
    blocks = ("20000",)

    def test_stacks_are_written_once(self):
        pickled = (self.folder / "memory_viz.pickle").stat().st_size
        self.assertLess(pickled, 20000 * 300)
        first = self.unpickled()["segments"][0]["blocks"]
        stacks = {id(block["frames"]) for block in first if block["frames"]}
        self.assertEqual(len(stacks), 1200)  # 300 stacks and 4 tags


class Sample(AnySnapshot, ExportTest):
    def test_names_survive_quotes_line_breaks_and_bytes_that_are_no_text(self):
        names = {f["name"] for s in self.unpickled()["segments"] for b in s["blocks"]
                 for f in b["frames"]}
        self.assertIn('odd "quote"\nline\t\\xff\\xfe (ow\\ner\\x80)', names)
        self.assertIn("void forward<int>(int, char)", names)

    def test_pprof_names_its_values(self):
        text = self.decoded()
        strings = re.findall(r'^string_table: "(.*)"$', text, re.M)
        self.assertEqual(strings[0], "")
        self.assertEqual(strings[int(re.search(r"default_sample_type: (\d+)", text)[1])],
                         "inuse_space")
        self.assertEqual(int(re.search(r"^period: (\d+)", text, re.M)[1]), 512 << 10)
        self.assertIn('string_table: "0123abcd"', text)

    def test_pprof_places_lie_in_their_mappings(self):
        text = self.decoded()
        limits = {}
        for mapping in re.findall(r"^mapping \{\n(.*?)^\}", text, re.M | re.S):
            fields = dict(re.findall(r"^  (\w+): (\w+)", mapping, re.M))
            limits[fields["id"]] = (int(fields["memory_start"]), int(fields["memory_limit"]))
        places = 0
        for location in re.findall(r"^location \{\n(.*?)^\}", text, re.M | re.S):
            fields = dict(re.findall(r"^  (\w+): (\w+)", location, re.M))
            if "mapping_id" in fields:
                start, limit = limits[fields["mapping_id"]]
                self.assertTrue(start <= int(fields["address"]) < limit)
                places += 1
        self.assertEqual(places, 3)

    def test_pprof_shows_who_holds_most(self):
        command = pprof_command()
        if command is None:
            self.skipTest("neither pprof nor Go's tools are here")
        done = subprocess.run([*command, "-top", "-unit=B", str(self.folder / "heap.pb.gz")],
                              capture_output=True, check=True, timeout=100,
                              env=os.environ | {"HOME": self.temporary.name})
        text = done.stdout.decode()
        self.assertIn("Type: inuse_space", text)
        rows = re.findall(r"^\s*(\d+)B\s+\S+%\s+\S+%\s+(\d+)B\s+\S+%\s+(.*)$", text, re.M)
        self.assertEqual(rows[0], ("16777216", "16777216", "(stack not known)"))
        self.assertEqual(rows[1][:2], ("5242880", "5242880"))
        self.assertTrue(rows[1][2].startswith("void forward"))
        tags = subprocess.run([*command, "-tags", "-unit=B", str(self.folder / "heap.pb.gz")],
                              capture_output=True, check=True, timeout=100,
                              env=os.environ | {"HOME": self.temporary.name}).stdout.decode()
        for label in ("tag:", "owner:", "pool:", "decoder/layer3", "request 7", "tensors"):
            self.assertIn(label, tags)

    def trace(self):
        return json.loads((self.folder / "trace.json").read_text(encoding="utf-8"))

    def test_chrome_trace_follows_the_trace_event_format(self):
        trace = self.trace()
        self.assertIn(trace["displayTimeUnit"], ("ms", "ns"))
        phases = set()
        for event in trace["traceEvents"]:
            phases.add(event["ph"])
            self.assertIsInstance(event["name"], str)
            for number in ("pid", "tid"):
                self.assertIsInstance(event[number], int)
            self.assertIsInstance(event["ts"], (int, float))
            self.assertGreaterEqual(event["ts"], 0)
            self.assertIsInstance(event["args"], dict)
            if event["ph"] == "C":
                self.assertTrue(event["args"])
                for value in event["args"].values():
                    self.assertIsInstance(value, int)
            if event["ph"] == "X":
                self.assertGreaterEqual(event["dur"], 0)
            if event["ph"] == "i":
                self.assertIn(event["s"], ("g", "p", "t"))
            if event["ph"] == "M":
                self.assertIn(event["name"], ("process_name", "thread_name"))
                self.assertIsInstance(event["args"]["name"], str)
        self.assertEqual(phases, {"C", "X", "i", "M"})

    def test_chrome_trace_counters_end_at_the_snapshot(self):
        last = {}
        for event in self.trace()["traceEvents"]:
            if event["ph"] == "C":
                last[event["name"]] = event["args"]["bytes"]
        mib = 1 << 20
        self.assertEqual(last["pool tensors live"], 22 * mib)
        self.assertEqual(last["pool tensors reserved"], 40 * mib)
        self.assertEqual(last["budget process/teacher"], 8 * mib)
        self.assertEqual(last["tag decoder/layer3 (request 7)"], 5 * mib)

    def test_chrome_trace_counters_go_back_by_the_events(self):
        values = [e["args"]["bytes"] >> 20 for e in self.trace()["traceEvents"]
                  if e["ph"] == "C" and e["name"] == "pool tensors reserved"]
        self.assertEqual(values, [32, 40, 40])

    def test_chrome_trace_slices_of_a_lane_do_not_overlap(self):
        ends = {}
        slices = [e for e in self.trace()["traceEvents"] if e["ph"] == "X"]
        self.assertEqual(len(slices), 5)
        for event in sorted(slices, key=lambda e: e["ts"]):
            self.assertGreaterEqual(event["ts"] + 0.01, ends.get(event["tid"], 0))
            ends[event["tid"]] = event["ts"] + event["dur"]

    def test_rmm_log_is_as_rmm_writes_it(self):
        lines = (self.folder / "rmm.csv").read_text().splitlines()
        self.assertEqual(lines[0], "Thread,Time,Action,Pointer,Size,Stream")
        line = re.compile(r"\d+,\d\d:\d\d:\d\d\.\d{6},(allocate|free|allocate failure),"
                          r"(0x[0-9a-f]+|\(nil\)),\d+,0x0")
        live = {}
        for text in lines[1:]:
            self.assertRegex(text, line)
            _, _, action, pointer, size, _ = text.split(",")
            if action == "allocate":
                self.assertNotIn(pointer, live)
                live[pointer] = int(size)
            elif action == "free":
                self.assertEqual(live.pop(pointer), int(size))
        self.assertEqual(sum(live.values()), self.totals["blocks_bytes"])

    def test_rmm_log_replays(self):
        if not PROGRAM:
            self.skipTest("the forebay program is not built")
        done = subprocess.run([PROGRAM, "replay", "alloc", str(self.folder / "rmm.csv"), "--json"],
                              capture_output=True, check=False, timeout=100)
        self.assertEqual(done.returncode, 0, done.stderr.decode())
        runs = json.loads(done.stdout)["runs"]
        self.assertTrue(runs)
        self.assertEqual({run["refused"] for run in runs}, {0})
        lines = (self.folder / "rmm.csv").read_text().splitlines()[1:]
        operations = sum("failure" not in line for line in lines)
        self.assertEqual({run["operations"] for run in runs}, {operations})

    def test_folded_stacks_are_outermost_first(self):
        lines = (self.folder / "folded.txt").read_text().splitlines()
        sums = {}
        for line in lines:
            stack, count = line.rsplit(" ", 1)
            sums[stack] = sums.get(stack, 0) + int(count)
        self.assertEqual(sums["decoder/layer3 (request 7);main;void forward<int>(int, char)"],
                         5 << 20)
        self.assertIn('odd "quote"\\x0aline\\x09\\xff\\xfe (ow\\ner\\x80);0xdeadbeef', sums)
        self.assertIn("kv:cache;0xdeadbeef", sums)
        self.assertLessEqual(abs(sum(sums.values()) - self.totals["weight_bytes"]), 0.5)


if __name__ == "__main__":
    unittest.main()
