"""Print lines and JSON, and end a command.

Without typer, which `health` does without (`cli/health.py`). `output.py` prints tables.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from itertools import islice
from typing import Final, NoReturn

from ollama_gateway.printable import printable

FORMULA: Final = ("=", "+", "-", "@")
"""The beginnings that make a spreadsheet take a text for a formula."""


def say(line: str, *, err: bool = False) -> None:
    """Print one line on stdout, or on stderr."""
    _write(f"{printable(line)}\n", err=err)


def exit_with(code: int, *lines: str) -> NoReturn:
    """Print these lines on stderr and end the command with this exit code."""
    for line in lines:
        say(line, err=True)
    raise SystemExit(code)


def say_over(line: str) -> None:
    """Replace the current line of stderr if that is a terminal; "" clears it."""
    if sys.stderr.isatty():
        _write(f"\r\x1b[K{printable(line)}", err=True)


def print_json(value: object) -> None:
    """Print the result of a command for programs, as ASCII with everything else escaped."""
    _write(f"{json.dumps(value, indent=2)}\n", err=False)


def print_lines(lines: Iterable[str], end: str = "\n") -> None:
    """Print any number of lines that hold no control characters, some thousand at a time."""
    rest = iter(lines)
    while block := list(islice(rest, 1000)):
        _write("".join(f"{line}{end}" for line in block), err=False)


def print_csv(rows: Iterable[Iterable[str | float | None]]) -> None:
    """Print rows as CSV (RFC 4180); nothing for None.

    A text that a spreadsheet would take for a formula gets an apostrophe in front. Characters that
    control a terminal are escaped, line ends among them.
    """
    print_lines((",".join(map(_cell, row)) for row in rows), "\r\n")


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    text = printable(str(value))
    if isinstance(value, str) and text.startswith(FORMULA):
        text = f"'{text}"
    return f'"{text.replace(chr(34), chr(34) * 2)}"' if any(map(text.__contains__, '",')) else text


def _write(text: str, *, err: bool) -> None:
    stream = sys.stderr if err else sys.stdout
    stream.write(text)
    stream.flush()
