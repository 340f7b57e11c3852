"""Opens an exported snapshot in PyTorch's memory_viz page code, in a headless browser.

Needs chromium, d3 (Debian: node-d3) and the page's code, which is not part of this project:
FOREBAY_MEMORY_VIZ names its file MemoryViz.js (torch/utils/viz in PyTorch's repository; newer
ones have process_alloc_data.js beside it). Where one of them is missing the test is skipped, and
says which. FOREBAY_MEMORY_VIZ_SHOTS names a folder for screenshots.
"""

import base64
import functools
import html.parser
import http.server
import json
import os
import pathlib
import pickle
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import unittest

SAMPLE = os.environ["FOREBAY_EXPORT_SAMPLE"]
D3 = pathlib.Path(os.environ.get("FOREBAY_D3", "/usr/share/nodejs/d3/dist/d3.min.js"))
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or ""
VIEWER = pathlib.Path(os.environ.get("FOREBAY_MEMORY_VIZ", "MemoryViz.js"))
SHOTS = os.environ.get("FOREBAY_MEMORY_VIZ_SHOTS")
TIMELINE = "Active Memory Timeline"
STATE = "Allocator State History"

# The page's code imports d3 by addresses on the network: an import map leads them to the copy
# here, so that the code itself stays as it is.
PAGE = """<!DOCTYPE html><html><head><script src="d3.js"></script>
<script type="importmap">{"imports": IMPORTS}</script></head><body>
<script>window.onerror = (m, f, l) => { document.title = "ERROR " + m + " at " + l; };
window.onunhandledrejection = e => { document.title = "ERROR " + e.reason; };</script>
<script type="module">
import {add_local_files} from "./MemoryViz.js";
add_local_files([{name: "snapshot.pickle", base64: "SNAPSHOT"}], "VIEW");
const choice = [...document.querySelectorAll("select")].find(
  s => s.options.length > 0 && [...s.options].every(o => /^[0-9]+$/.test(o.text)));
if (choice.value !== "DEVICE") {
  choice.value = "DEVICE";
  choice.dispatchEvent(new Event("change"));
}
// Views of devices that were shown before are hidden, not gone.
[...document.body.children].filter(e => e.style.display === "none").forEach(e => e.remove());
const steps = [];
function step() {  // selects each event of the history, last one first, as a mouse does
  const events = [...document.querySelectorAll("body > div pre")];
  const shown = events.shift();  // what the page tells of the selected one
  for (const event of events.reverse()) {
    event.dispatchEvent(new MouseEvent("mousedown", {bubbles: true}));
    steps.push(shown.textContent.split("\\n")[0]);
  }
  document.body.setAttribute("data-steps", JSON.stringify(steps));
}
if (STEP) setTimeout(step, 1000);
if (document.title === "") document.title = "drawn";
</script></body></html>"""


# d3 5 has the event under way as a variable of the module.
EVENT = """export let event;
for (const type of ["mousedown", "mouseover", "mouseleave", "keydown"]) {
  window.addEventListener(type, now => { event = now; }, true);
}"""


class Shapes(html.parser.HTMLParser):
    """Counts the elements of a page and keeps its title and the points of polygons."""

    def __init__(self, text):
        super().__init__()
        self.count = {}
        self.polygons = []
        self.rectangles = []
        self.steps = None
        self.title = ""
        self.within = None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.count[tag] = self.count.get(tag, 0) + 1
        self.within = tag
        if tag == "polygon":
            self.polygons.append(dict(attrs))
        if tag == "rect":
            self.rectangles.append(dict(attrs))
        if tag == "body" and "data-steps" in dict(attrs):
            self.steps = json.loads(dict(attrs)["data-steps"])

    def handle_endtag(self, tag):
        self.within = None

    def handle_data(self, data):
        if self.within == "title":
            self.title += data


def missing():
    for what, there in (("chromium", CHROMIUM), (f"d3 at {D3}", D3.exists()),
                        ("MemoryViz.js (FOREBAY_MEMORY_VIZ)", VIEWER.is_file())):
        if not there:
            return f"not here: {what}"
    return None


def import_map(code):
    """Each import of d3 from the network, as a module of what d3.js put into the window."""
    imports = {}
    for names, address in re.findall(r'^import\s+(.*?)\s+from\s+"(https:[^"]*)"', code, re.M):
        wanted = re.findall(r"\w+", names) if names.startswith("{") else None
        listed = ",".join(wanted) if wanted else None
        module = (f"export const {{{listed}}} = window.d3;" if wanted else
                  "export const {select, selectAll, format} = window.d3;" + EVENT)
        encoded = base64.b64encode(module.encode()).decode()
        imports[address] = "data:text/javascript;base64," + encoded
    return imports


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@unittest.skipIf(missing(), missing())
class MemoryVizPage(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        subprocess.run([SAMPLE, folder.name], check=True, capture_output=True)
        shutil.copy(D3, self.folder / "d3.js")
        for code in VIEWER.parent.glob("*.js"):
            if code.name in (VIEWER.name, "process_alloc_data.js"):
                shutil.copy(code, self.folder / code.name.replace(VIEWER.name, "MemoryViz.js"))
        handler = functools.partial(Quiet, directory=folder.name)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        self.address = f"http://127.0.0.1:{server.server_address[1]}/page.html"

    def chromium(self, *flags):
        with tempfile.TemporaryDirectory() as profile:
            command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu",
                       f"--user-data-dir={profile}", "--window-size=1200,800",
                       "--virtual-time-budget=5000", *flags, self.address]
            done = subprocess.run(command, capture_output=True, timeout=100, check=True)
            return done.stdout.decode(errors="replace")

    def draw(self, view, device=0, step=False):
        data = (self.folder / "memory_viz.pickle").read_bytes()
        data += b"\0" * (-len(data) % 3)
        page = PAGE.replace("SNAPSHOT", base64.b64encode(data).decode()).replace("VIEW", view)
        imports = import_map((self.folder / "MemoryViz.js").read_text())
        page = page.replace("IMPORTS", json.dumps(imports)).replace("DEVICE", str(device))
        page = page.replace("STEP", "true" if step else "false")
        (self.folder / "page.html").write_text(page)
        shapes = Shapes(self.chromium("--dump-dom"))
        self.assertEqual(shapes.title, "drawn")
        if SHOTS and not step:
            name = f"{view.replace(' ', '_')}_{device}.png"
            self.chromium(f"--screenshot={pathlib.Path(SHOTS).resolve() / name}")
        return shapes

    def snapshot(self):
        with open(self.folder / "memory_viz.pickle", "rb") as file:
            return pickle.load(file)

    def test_the_timeline_has_a_shape_for_each_block(self):
        snapshot = self.snapshot()
        for device in range(len(snapshot["device_traces"])):
            live = {b["address"] for s in snapshot["segments"] if s["device"] == device
                    for b in s["blocks"] if b["state"] == "active_allocated"}
            trace = snapshot["device_traces"][device]
            taken = [e for e in trace if e["action"] == "alloc"]
            freed = [e["addr"] for e in trace if e["action"] == "free_completed"]
            started = {e["addr"] for e in taken}
            # Blocks of the history, and those that were there before it.
            blocks = len(taken) + len(live - started) + len(set(freed) - started)
            shapes = self.draw(TIMELINE, device)
            # And one of all that is too small to be drawn, and the one of the small map.
            self.assertEqual(shapes.count["polygon"], blocks + 2, f"device {device}")

    def test_the_state_shows_each_segment_and_block(self):
        snapshot = self.snapshot()
        for device in range(len(snapshot["device_traces"])):
            segments = [s for s in snapshot["segments"] if s["device"] == device]
            live = [b for s in segments for b in s["blocks"] if b["state"] == "active_allocated"]
            shapes = self.draw(STATE, device)
            # A block is two rectangles: what was asked for, and what rounding took.
            self.assertEqual(shapes.count["rect"], len(segments) + 2 * len(live))
            drawn = sum(float(r["width"]) for r in shapes.rectangles if r.get("fill") == "white")
            self.assertGreaterEqual(drawn, 199)  # the largest segment is as wide as the view

    def test_the_history_can_be_played_backwards(self):
        if "d3@5" not in (self.folder / "MemoryViz.js").read_text():
            self.skipTest("this page's code wants d3 7 to be clicked on; Debian's is 5")
        snapshot = self.snapshot()
        for device in range(len(snapshot["device_traces"])):
            trace = [e for e in snapshot["device_traces"][device]
                     if e["action"] != "free_requested"]  # the page takes the pair for one event
            blocks = [b for s in snapshot["segments"] if s["device"] == device
                      for b in s["blocks"] if b["state"] == "active_allocated"]
            allocated = sum(b["size"] for b in blocks)
            wanted = []
            for event in reversed(trace):
                wanted.append(allocated)
                sign = {"alloc": -1, "free_completed": 1}.get(event["action"], 0)
                allocated += sign * event["size"]
            shapes = self.draw(STATE, device, step=True)
            shown = [int(re.search(r"\((\d+) bytes\) allocated", s)[1]) for s in shapes.steps]
            self.assertEqual(shown, wanted, f"device {device}")


if __name__ == "__main__":
    if missing():
        print(f"skipped: {missing()}")
        sys.exit(77)
    unittest.main()
