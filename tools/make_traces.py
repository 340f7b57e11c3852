#!/usr/bin/env python3
"""Writes the allocation traces of traces/: the same bytes each time.

usage: tools/make_traces.py [FOLDER]      (default: traces/ of this checkout)

  transformer_step.jsonl   training steps of a small GPT: weights, gradients and optimizer
                           state live on; activations are made forward and freed backward
  llm_serving.jsonl        requests arrive at random (Poisson), are prefilled in one
                           workspace, and grow their KV cache block by block
  random.csv               log-uniform sizes in random order, as RMM logs them

Sizes come from the shapes of real models; times are virtual. Only whole numbers are drawn
from the generator (SplitMix64), so that any Python makes the same files.
"""

import heapq
import sys
from pathlib import Path

MASK = (1 << 64) - 1
MICROSECOND = 1e-6


class Random:
    """SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): the same in every version of Python."""

    def __init__(self, seed):
        self.state = seed

    def word(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        x = self.state
        x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
        return x ^ (x >> 31)

    def below(self, bound):
        return self.word() * bound >> 64

    def between(self, least, most):
        return least + self.below(most - least + 1)

    def log_uniform(self, least, most):
        """Whole numbers, each doubling as likely: a power of two, and a place in it."""
        doublings = (most // least).bit_length() - 1
        start = least << self.below(doublings)
        return start + self.below(start)

    def geometric(self, mean):
        """Failures before a success of chance 1/mean: memoryless, as a Poisson process."""
        count = 0
        while self.below(mean) != 0:
            count += 1
        return count


class JsonTrace:
    """Lines of {t, op, id, bytes, stream, tag}; time in microseconds."""

    def __init__(self):
        self.lines = []
        self.now = 0
        self.next_id = 1
        self.live = {}

    def alloc(self, size, tag, stream=0):
        block, self.next_id = self.next_id, self.next_id + 1
        self.live[block] = stream
        where = f',"stream":{stream}' if stream else ""
        self.lines.append(f'{{"t":{self.time()},"op":"alloc","id":{block},"bytes":{size}{where},'
                          f'"tag":"{tag}"}}')
        return block

    def free(self, block):
        del self.live[block]
        self.lines.append(f'{{"t":{self.time()},"op":"free","id":{block}}}')

    def time(self):
        return f"{self.now // 1000000}.{self.now % 1000000:06d}"

    def text(self):
        return "\n".join(self.lines) + "\n"


# A GPT of 12 layers (GPT-2's smallest), bf16, with ragged batches.
LAYERS, HIDDEN, HEADS, VOCABULARY, BF16, F32 = 12, 768, 12, 50257, 2, 4


def layer_weights():
    """(name, numbers) of a layer's matrices and vectors."""
    return [("qkv", 3 * HIDDEN * HIDDEN), ("proj", HIDDEN * HIDDEN), ("up", 4 * HIDDEN * HIDDEN),
            ("down", 4 * HIDDEN * HIDDEN), ("norms", 4 * HIDDEN)]


class TransformerStep:
    def __init__(self, seed=1):
        self.random = Random(seed)
        self.trace = JsonTrace()

    def build(self, steps):
        trace = self.trace
        sizes = [("wte", VOCABULARY * HIDDEN), ("wpe", 1024 * HIDDEN)]
        for layer in range(LAYERS):
            sizes += [(f"h{layer}.{name}", count) for name, count in layer_weights()]
        for name, count in sizes:
            trace.alloc(count * BF16, f"weight {name}")
            trace.now += 20
        for step in range(steps):
            self.step(step, sizes)
        return trace.text()

    def step(self, step, sizes):
        trace = self.trace
        # The last batch of an epoch and padded lengths make sizes vary a little.
        sequence = [1024, 1024, 960, 1024, 896][step % 5]
        tokens = 8 * sequence
        inputs = trace.alloc(tokens * 8, "token ids")
        kept = [self.forward(layer, tokens, sequence) for layer in range(LAYERS)]
        logits = trace.alloc(tokens * VOCABULARY * BF16, "logits")
        trace.now += 900
        loss = trace.alloc(512, "loss")
        gradient = trace.alloc(tokens * HIDDEN * BF16, "gradient")
        trace.free(logits)
        gradients = []
        for layer in reversed(range(LAYERS)):
            gradient = self.backward(layer, tokens, kept[layer], gradient, gradients)
        for block in (gradient, inputs, loss):
            trace.free(block)
        self.update(step, sizes, gradients)

    def forward(self, layer, tokens, sequence):
        """Allocates what a layer keeps for its backward, and frees its workspaces."""
        trace, kept = self.trace, []
        for name, width in (("norm", 1), ("qkv", 3), ("attention", 1)):
            kept.append(trace.alloc(tokens * width * HIDDEN * BF16, f"h{layer}.{name}"))
            trace.now += 60
        scratch = trace.alloc(HEADS * sequence * 512 * F32, "attention workspace")
        trace.now += 300
        kept.append(trace.alloc(tokens * HEADS * F32, f"h{layer}.softmax"))
        trace.free(scratch)
        for name, width in (("norm", 1), ("up", 4), ("gelu", 4), ("out", 1)):
            kept.append(trace.alloc(tokens * width * HIDDEN * BF16, f"h{layer}.{name}"))
            trace.now += 120
        return kept

    def backward(self, layer, tokens, kept, gradient, gradients):
        """Frees a layer's activations in reverse, and leaves the gradients of its weights."""
        trace = self.trace
        weights = dict(layer_weights())
        for name in ("down", "up", "proj", "qkv", "norms"):
            gradients.append(trace.alloc(weights[name] * BF16, f"grad h{layer}.{name}"))
            workspace = trace.alloc(self.random.between(1, 4) << 21, "matmul workspace")
            trace.now += 400
            trace.free(workspace)
            if kept:
                trace.free(kept.pop())
        below = trace.alloc(tokens * HIDDEN * BF16, "gradient")
        trace.free(gradient)
        while kept:
            trace.free(kept.pop())
        return below

    def update(self, step, sizes, gradients):
        """AdamW; its two moments are made in the first step and stay."""
        trace = self.trace
        if step == 0:
            for name, count in sizes:
                trace.alloc(count * F32, f"moment1 {name}")
                trace.alloc(count * F32, f"moment2 {name}")
        temporary = trace.alloc(VOCABULARY * HIDDEN * F32, "update")
        trace.now += 2000
        trace.free(temporary)
        for block in gradients:
            trace.free(block)
        trace.now += 1500


# KV of an 8B model: 32 layers, 8 KV heads of 128, bf16: 128 KiB a token; 16 tokens a block.
KV_BLOCK = 16 * 32 * 2 * 8 * 128 * 2


class Serving:
    def __init__(self, seed=2):
        self.random = Random(seed)
        self.trace = JsonTrace()
        self.waiting = []  # (time, number, action)
        self.number = 0

    def at(self, time, action):
        self.number += 1
        heapq.heappush(self.waiting, (time, self.number, action))

    def build(self, requests):
        self.trace.alloc(512 << 20, "activations")  # fixed workspace of the engine
        arrival = 0
        for _ in range(requests):
            arrival += self.random.geometric(200) * 1000
            self.at(arrival, self.arrive)
        while self.waiting:
            time, _, action = heapq.heappop(self.waiting)
            self.trace.now = max(self.trace.now, time)
            action()
        return self.trace.text()

    def arrive(self):
        prompt = self.random.log_uniform(32, 1024)
        answer = self.random.log_uniform(16, 256)
        stream = self.random.below(2)
        # Prefill: inputs, hidden states and logits of the prompt, then its KV blocks.
        work = [self.trace.alloc(prompt * size, tag, stream)
                for tag, size in (("prefill qkv", 6144 * 2), ("prefill mlp", 14336 * 4),
                                  ("prefill hidden", 4096 * 2))]
        blocks = [self.trace.alloc(KV_BLOCK, "kv", stream) for _ in range(-(-prompt // 16))]
        for block in reversed(work):
            self.trace.free(block)
        logits = self.trace.alloc(128256 * 4, "logits", stream)
        self.at(self.trace.now + 25000 + prompt * 60,
                lambda: self.decode(prompt, answer, blocks, logits, stream))

    def decode(self, length, left, blocks, logits, stream):
        """16 more tokens, or the end of the request."""
        if left <= 0:
            self.trace.free(logits)
            for block in blocks:
                self.trace.free(block)
            return
        tokens = min(16, left)
        if -(-(length + tokens) // 16) > len(blocks):
            blocks.append(self.trace.alloc(KV_BLOCK, "kv", stream))
        self.at(self.trace.now + tokens * 22000 + self.random.below(4000),
                lambda: self.decode(length + tokens, left - tokens, blocks, logits, stream))


def random_csv(operations, seed=3):
    """Allocates and frees at random, sizes from 256 B to 16 MiB, up to 300 live."""
    random = Random(seed)
    lines, live, address = ["Thread,Time,Action,Pointer,Size,Stream"], [], 0x7F0000000000
    micros = (23 * 3600 + 59 * 60 + 59) * 1000000  # passes midnight after a second
    for _ in range(operations):
        micros = (micros + random.between(1, 2000)) % (86400 * 1000000)
        seconds = micros // 1000000
        time = (f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}."
                f"{micros % 1000000:06d}")
        if not live or (len(live) < 300 and random.below(100) < 55):
            size = random.log_uniform(256, 16 << 20)
            block = (address, size)
            address += (size + 4095) // 4096 * 4096
            live.append(block)
            action = "allocate"
        else:
            at = random.below(len(live))
            live[at], live[-1] = live[-1], live[at]
            block = live.pop()
            action = "free"
        lines.append(f"{4711 + random.below(2)},{time},{action},{block[0]:#x},{block[1]},0x0")
    return "\n".join(lines) + "\n"


def main():
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):
        print(__doc__, end="")
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    default = Path(__file__).resolve().parent.parent / "traces"
    folder = Path(sys.argv[1]) if len(sys.argv) == 2 else default
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "transformer_step.jsonl").write_bytes(TransformerStep().build(8).encode())
    (folder / "llm_serving.jsonl").write_bytes(Serving().build(80).encode())
    (folder / "random.csv").write_bytes(random_csv(4500).encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
