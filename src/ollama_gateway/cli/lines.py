"""Print lines and JSON, and end a command.

Without typer, which `health` does without (`cli/health.py`). `output.py` prints tables.
"""

from __future__ import annotations

import json
import sys
from typing import NoReturn

from ollama_gateway.printable import printable


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


def _write(text: str, *, err: bool) -> None:
    stream = sys.stderr if err else sys.stdout
    stream.write(text)
    stream.flush()
