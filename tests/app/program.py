"""Runs the forebay program the way a user does, for the tests beside this file."""

import json
import os
import pathlib
import pty
import struct
import subprocess
import tempfile
import unittest

BINARY = os.environ["FOREBAY_BINARY"]

SHAPE = ["--layers", "30", "--heads", "9", "--kv-heads", "3", "--embedding", "576",
         "--feed-forward", "1536", "--vocabulary", "49152", "--weights", "92.1MiB"]
REFUSAL_KEYS = {"error", "code", "budget", "asked_bytes", "used_bytes", "limit_bytes", "holders",
                "advice"}


def environment(**changes):
    """This process's environment, without what would change the program's output."""
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FOREBAY_CACHE")}
    env["TERM"] = "xterm-256color"
    for key, value in changes.items():
        if value is None:
            env.pop(key, None)
        else:
            env[key] = value
    return env


def forebay(*args, stdin="", env=None):
    """A finished run; stdin is text or bytes."""
    data = stdin.encode() if isinstance(stdin, str) else stdin
    done = subprocess.run([BINARY, *args], input=data, capture_output=True, check=False,
                          env=env or environment(), timeout=240)
    done.stdout = done.stdout.decode(errors="replace")
    done.stderr = done.stderr.decode(errors="replace")
    return done


def forebay_with_peak(*args):
    """A run's standard output, and its peak resident bytes as the kernel tells its parent."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen([BINARY, *args], stdin=subprocess.DEVNULL, stdout=out,
                                   stderr=subprocess.DEVNULL, env=environment())
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        return process.returncode, out.read().decode(errors="replace"), usage.ru_maxrss * 1024


def on_terminal(*args, env=None):
    """Standard output of a run that has a terminal for it."""
    leader, follower = pty.openpty()
    process = subprocess.Popen([BINARY, *args], stdin=subprocess.DEVNULL, stdout=follower,
                               stderr=subprocess.DEVNULL, env=env or environment())
    os.close(follower)
    output = b""
    try:
        while chunk := os.read(leader, 65536):
            output += chunk
    except OSError:  # the other end is closed: Linux says EIO
        pass
    os.close(leader)
    process.wait(timeout=60)
    return output.decode(errors="replace")


def engine():
    """What --version says of the engine: "none", or its name."""
    return forebay("--version").stdout.split("(engine: ")[1].rstrip(")\n")


def model():
    """A real model to test with, or None."""
    named = os.environ.get("FOREBAY_TEST_MODEL")
    cache = os.environ.get("FOREBAY_CACHE") or os.path.expanduser("~/.cache/forebay")
    file = pathlib.Path(named or f"{cache}/models/SmolLM2-135M-Instruct.Q4_1.gguf")
    return str(file) if file.exists() else None


def gguf(layers=2, heads=4, kv_heads=2, embedding=64, feed_forward=128, vocabulary=96):
    """A GGUF file (version 3) with a llama model's header and one F32 tensor."""
    def string(text):
        return struct.pack("<Q", len(text)) + text.encode()

    def u32(key, value):
        return string(key) + struct.pack("<II", 4, value)

    def text(key, value):
        return string(key) + struct.pack("<I", 8) + string(value)

    metadata = [
        text("general.architecture", "llama"), text("general.name", "tiny"),
        u32("llama.block_count", layers), u32("llama.attention.head_count", heads),
        u32("llama.attention.head_count_kv", kv_heads),
        u32("llama.embedding_length", embedding),
        u32("llama.feed_forward_length", feed_forward), u32("llama.context_length", 2048),
        u32("llama.vocab_size", vocabulary),
    ]
    tensor = string("token_embd.weight") + struct.pack("<IQQIQ", 2, embedding, vocabulary, 0, 0)
    header = b"GGUF" + struct.pack("<IQQ", 3, 1, len(metadata)) + b"".join(metadata) + tensor
    padding = b"\0" * (-len(header) % 32)
    return header + padding + b"\0" * (4 * embedding * vocabulary)


class ProgramTest(unittest.TestCase):
    """Assertions that all suites share, and a folder for files."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def file(self, name, content):
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return str(path)

    def assert_refused(self, run, message, code=2):
        """One line on standard error that begins so, nothing on standard output."""
        self.assertEqual(run.returncode, code, run.stderr)
        self.assertEqual(run.stdout, "")
        self.assertTrue(run.stderr.startswith(f"forebay: {message}"), run.stderr)
        self.assertEqual(run.stderr.count("\n"), 1, run.stderr)

    def object_of(self, run):
        """The one JSON object that standard output is."""
        parsed = json.loads(run.stdout)
        self.assertIsInstance(parsed, dict)
        return parsed
