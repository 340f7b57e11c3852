#!/usr/bin/env python3
"""Draws a terminal session as an SVG: docs/images/*.svg are made with it.

  forebay generate --prompt "…" --verbose 2>&1 | tools/terminal_svg.py --title "make run" > run.svg

Reads plain text on standard input (escape sequences are dropped, a carriage return
overwrites its line, long lines are wrapped).
"""

import argparse
import html
import re
import sys
import textwrap

CHAR_WIDTH, LINE_HEIGHT, MARGIN, BAR = 7.83, 18, 16, 28


def screen_lines(text: str, columns: int) -> list[str]:
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    lines = []
    for line in text.rstrip("\n").split("\n"):
        shown = line.rstrip("\r").split("\r")[-1].expandtabs()
        lines += textwrap.wrap(shown, columns, drop_whitespace=False) or [""]
    return lines


def svg(lines: list[str], title: str, columns: int) -> str:
    width = int(columns * CHAR_WIDTH + 2 * MARGIN)
    height = BAR + len(lines) * LINE_HEIGHT + 2 * MARGIN
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}" font-family="ui-monospace, DejaVu Sans Mono, monospace" '
        f'font-size="13">',
        f'<rect width="{width}" height="{height}" rx="8" fill="#1b1f24"/>',
        f'<text x="{width / 2}" y="19" fill="#8b949e" text-anchor="middle">{html.escape(title)}</text>',
    ]
    for number, line in enumerate(lines):
        y = BAR + MARGIN + (number + 0.7) * LINE_HEIGHT
        out.append(f'<text x="{MARGIN}" y="{y:.1f}" fill="#e6edf3" xml:space="preserve">'
                   f"{html.escape(line)}</text>")
    return "\n".join(out + ["</svg>", ""])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--title", default="")
    parser.add_argument("--columns", type=int, default=100, help="width in characters")
    arguments = parser.parse_args()
    lines = screen_lines(sys.stdin.read(), arguments.columns)
    sys.stdout.write(svg(lines, arguments.title, arguments.columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
