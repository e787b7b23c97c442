"""How commands print: tables for people, aligned columns for pipes, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text


def print_json(value: object) -> None:
    """The result of a command, for programs."""
    typer.echo(json.dumps(value, indent=2))


def print_table(rows: Sequence[tuple[str, ...]]) -> None:
    """The first row is the head. A table on a terminal, else columns with two spaces between."""
    if sys.stdout.isatty():
        table = Table(*rows[0])
        for row in rows[1:]:
            table.add_row(*map(Text, row))  # Text: a name is not markup
        Console().print(table)
        return
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        padded = (f"{cell:{width}}" for cell, width in zip(row, widths, strict=True))
        typer.echo("  ".join(padded).rstrip())
