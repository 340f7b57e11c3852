#!/usr/bin/env python3
"""Writes the traces of cache requests in traces/: the same bytes each time.

usage: tools/make_cache_traces.py [FOLDER]      (default: traces/ of this checkout)

  zipf.csv                     a few keys are asked for most of the time (Zipf, exponent 1);
                               blocks of 4 KiB, no header
  zipf_and_loop.oracleGeneral  the same, and a loop over keys that are more than a small cache
                               holds, as a scan that is made again and again
  cdn.csv                      objects of 1 KiB to 4 MiB under text keys, with what it costs to
                               fetch them; a third of the requests are for what nobody wants again
  llm_blocks.jsonl             KV blocks of conversations that share system prompts: each turn
                               asks for all blocks of its prefix, in order

Only whole numbers are drawn, so that any Python makes the same files.
"""

import bisect
import itertools
import struct
import sys
from pathlib import Path

from make_traces import KV_BLOCK, Random


class Zipf:
    """Ranks from 0, each with a chance of 1 / (rank + 1)."""

    def __init__(self, random, count):
        self.random = random
        self.sums = list(itertools.accumulate((1 << 40) // (i + 1) for i in range(count)))

    def draw(self):
        return bisect.bisect_right(self.sums, self.random.below(self.sums[-1]))


def zipf(requests, seed=11):
    random = Random(seed)
    keys = Zipf(random, 1000)
    now, lines = 0, []
    for _ in range(requests):
        now += random.below(3)
        lines.append(f"{now},{keys.draw()},4096")
    return ("\n".join(lines) + "\n").encode()


def oracle_general(rows):
    """libCacheSim's binary format: time, key, size, number of the key's next request or -1."""
    following, records = {}, []
    for number in range(len(rows) - 1, -1, -1):
        time, key, size = rows[number]
        records.append(struct.pack("<IQIq", time, key, size, following.get(key, -1)))
        following[key] = number
    return b"".join(reversed(records))


def zipf_and_loop(requests, seed=12):
    random = Random(seed)
    keys = Zipf(random, 600)
    rows, at = [], 0
    for now in range(requests):
        if now // 200 % 2 == 0:
            rows.append((now, keys.draw(), 4096))
        else:
            rows.append((now, 100000 + at, 4096))
            at = (at + 1) % 150
    return oracle_general(rows)


def cdn(requests, seed=13):
    random = Random(seed)
    keys = Zipf(random, 400)
    sizes = [random.log_uniform(1 << 10, 1 << 22) for _ in range(400)]
    now, once, lines = 0, 0, ["time,key,size,cost"]
    for _ in range(requests):
        now += random.geometric(20)
        if random.below(3) == 0:
            once += 1
            name, size = f"search?{once}", random.log_uniform(1 << 10, 1 << 18)
        else:
            rank = keys.draw()
            name, size = f"asset/{rank}", sizes[rank]
        # Microseconds: two milliseconds to reach the origin, 50 bytes a microsecond from it.
        lines.append(f"{now // 1000}.{now % 1000:03d},{name},{size},{2000 + size // 50}")
    return ("\n".join(lines) + "\n").encode()


class Conversations:
    """Turns of conversations; each begins with one of a few system prompts."""

    def __init__(self, seed=14):
        self.random = Random(seed)
        self.next_block = 0
        self.prompts = [self.blocks(count) for count in (6, 4, 4, 2)]
        self.popular = Zipf(self.random, len(self.prompts))
        self.going_on = []

    def blocks(self, count):
        first, self.next_block = self.next_block, self.next_block + count
        return list(range(first, self.next_block))

    def turn(self):
        """The blocks of the prefix, oldest first; the conversation may go on later."""
        if self.going_on and self.random.below(3) > 0:
            # Who spoke last is most likely to speak next.
            back = min(len(self.going_on), 1 + self.random.geometric(4))
            prefix = self.going_on.pop(-back)
        else:
            prefix = self.prompts[self.popular.draw()]
        prefix = prefix + self.blocks(self.random.between(1, 4))
        if self.random.below(5) > 0:
            self.going_on.append(prefix)
        return prefix

    def text(self, requests):
        micros, lines = 0, []
        while len(lines) < requests:
            micros += self.random.between(1000, 90000)
            lines += [f'{{"t":{micros // 1000000}.{micros % 1000000:06d},"key":{block},'
                      f'"bytes":{KV_BLOCK}}}' for block in self.turn()]
        return ("\n".join(lines) + "\n").encode()


def main():
    if len(sys.argv) > 2 or (len(sys.argv) == 2 and sys.argv[1].startswith("-")):
        print(__doc__, end="")
        return 0 if sys.argv[1] in ("-h", "--help") else 2
    default = Path(__file__).resolve().parent.parent / "traces"
    folder = Path(sys.argv[1]) if len(sys.argv) == 2 else default
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "zipf.csv").write_bytes(zipf(3000))
    (folder / "zipf_and_loop.oracleGeneral").write_bytes(zipf_and_loop(3000))
    (folder / "cdn.csv").write_bytes(cdn(2000))
    (folder / "llm_blocks.jsonl").write_bytes(Conversations().text(1500))
    return 0


if __name__ == "__main__":
    sys.exit(main())
