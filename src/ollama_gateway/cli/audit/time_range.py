"""The options `--since` and `--until`."""

from __future__ import annotations

from typing import Annotated

import typer

from ollama_gateway.ledger.read.filtering import TimeRange

SinceOption = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only requests that began since then: 7d, 12h, 2026-07-01, 2026-07-01T08:00:00Z.",
    ),
]
UntilOption = Annotated[
    str | None,
    typer.Option("--until", metavar="TIME", help="Only requests that began before; like --since."),
]


def read_time_range(since: str | None, until: str | None) -> TimeRange:
    """Read the two options, either of which may be missing."""
    if since is None and until is None:
        return TimeRange()
    from ollama_gateway.cli.wrong_input import as_options  # noqa: PLC0415 - seldom needed
    from ollama_gateway.control.time_ranges import time_range_of  # noqa: PLC0415

    with as_options():
        return time_range_of(since, until)
