"""How commands print: lines and tables for people, aligned columns for pipes, JSON for programs.

Nothing is printed in another way (tests/test_house.py), so that whatever a backend, a client or a
file has put into a line reaches no terminal as a command to it. A line that holds several words of
others has each made `printable` by itself: the whole is quoted only where that was forgotten.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ollama_gateway.printable import printable


def say(line: str, *, err: bool = False) -> None:
    """One line on stdout, or stderr."""
    typer.echo(printable(line), err=err)


def say_over(line: str) -> None:
    """A line on stderr in place of the one before, where somebody looks on; "" for none."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{printable(line)}", err=True, nl=False)


def print_json(value: object) -> None:
    """The result of a command, for programs: in ASCII, all else escaped."""
    typer.echo(json.dumps(value, indent=2))


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """The first row is the head. A table on a terminal, else columns with two spaces between."""
    head, *rest = [tuple(map(printable, row)) for row in rows]
    if sys.stdout.isatty():
        table = Table(*head)
        for row in rest:
            table.add_row(*map(Text, row))  # Text: a name is not markup
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(head, *rest, strict=True)]
    for row in (head, *rest):
        padded = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        say("  ".join(padded).rstrip())
