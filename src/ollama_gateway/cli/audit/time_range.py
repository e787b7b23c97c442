"""`--since` and `--until`: a duration before now, a moment (RFC 3339), or a day in UTC."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final

import typer

from ollama_gateway.ledger.read.filtering import TimeRange
from ollama_gateway.settings.units import seconds, shown

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

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII | re.IGNORECASE
)


def read_time_range(since: str | None, until: str | None) -> TimeRange:
    """Read the two options, either of which may be missing."""
    now = datetime.now(UTC)
    begin = None if since is None else _read("--since", since, now)
    end = None if until is None else _read("--until", until, now)
    if begin and end and end <= begin:
        raise typer.BadParameter("must be later than --since", param_hint="--until")
    return TimeRange(begin, end)


def _read(option: str, text: str, now: datetime) -> datetime:
    try:
        if _DAY.fullmatch(text):
            return datetime.fromisoformat(text).replace(tzinfo=UTC)
        if _MOMENT.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
        return now - timedelta(seconds=seconds(text))
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"{shown(text)} is neither a duration like 7d or 12h"
            " nor a moment like 2026-07-01T08:00:00Z",
            param_hint=option,
        ) from None
