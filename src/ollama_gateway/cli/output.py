"""Print for commands: lines and tables for people, aligned columns for pipes, JSON for programs.

Commands print in no other way (tests/test_house.py), so that no text of a backend, a client or a
file controls the terminal. A caller makes each foreign text in a line `printable`; quoting the
whole line here is only the last safeguard.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Final, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ollama_gateway.printable import printable

_MAX_BAR: Final = 24
"""Characters of the longest bar."""


def say(line: str, *, err: bool = False) -> None:
    """Print one line on stdout, or on stderr."""
    typer.echo(printable(line), err=err)


def exit_with(code: int, *lines: str) -> NoReturn:
    """Print these lines on stderr and end the command with this exit code."""
    for line in lines:
        say(line, err=True)
    raise typer.Exit(code)


def confirmed(question: str) -> bool:
    """Ask the operator on stderr; False without a terminal to ask on."""
    return sys.stdin.isatty() and typer.confirm(question, err=True)


def say_over(line: str) -> None:
    """Replace the current line of stderr if that is a terminal; "" clears it."""
    if sys.stderr.isatty():
        typer.echo(f"\r\x1b[K{printable(line)}", err=True, nl=False)


def print_json(value: object) -> None:
    """Print the result of a command for programs, as ASCII with everything else escaped."""
    typer.echo(json.dumps(value, indent=2))


def print_table(
    rows: Sequence[tuple[str, ...]],
    *,
    bars: Sequence[int | None] | None = None,
    piped_head: bool = True,
) -> None:
    """Print a table on a terminal, otherwise columns with two spaces between them.

    Args:
        rows: the cells, the head first.
        bars: for each row after the head, the amount that a bar behind it shows; None: no bar.
        piped_head: whether the head is printed when stdout is not a terminal.

    """
    cells = [tuple(map(printable, row)) for row in rows]
    if not sys.stdout.isatty():
        barred = cells if bars is None else _with_bars(cells, bars, _MAX_BAR, "#")
        _print_columns(barred, with_head=piped_head)
    elif bars is not None:
        _print_bars(cells, bars)
    else:
        table = Table(*cells[0])
        for row in cells[1:]:
            table.add_row(*map(Text, row))  # Text: a name is not markup
        Console().print(table)


def _print_columns(cells: Sequence[tuple[str, ...]], *, with_head: bool) -> None:
    printed = cells if with_head else cells[1:]
    widths = [max(map(len, column)) for column in zip(*printed, strict=True)]
    for row in printed:
        padded = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        say("  ".join(padded).rstrip())


def _print_bars(cells: Sequence[tuple[str, ...]], amounts: Sequence[int | None]) -> None:
    """Print a table with bars. They get the rest of the line; no cell is ever cut."""
    console = Console()
    width = sum(max(map(len, column)) + 2 for column in zip(*cells, strict=True))
    head, *rows = _with_bars(cells, amounts, min(_MAX_BAR, max(0, console.width - width)), "█")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for name in head:
        table.add_column(Text(name), no_wrap=True)
    for *row, bar in rows:
        table.add_row(*map(Text, row), Text(bar, style="cyan"))
    console.width = max(console.width, width + _MAX_BAR)
    console.print(table)


def _with_bars(
    cells: Sequence[tuple[str, ...]], amounts: Sequence[int | None], longest: int, mark: str
) -> list[tuple[str, ...]]:
    """Add a column of bars; the largest amount has `longest` marks."""
    most = max(filter(None, amounts), default=0)
    bars = [mark * -(-longest * amount // most) if amount else "" for amount in amounts]
    return [(*row, bar) for row, bar in zip(cells, ["", *bars], strict=True)]
