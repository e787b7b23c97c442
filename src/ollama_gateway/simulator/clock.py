"""Times as Ollama writes them: RFC 3339 with nanoseconds, and durations in nanoseconds.

Dates come from the wall clock, durations from the event loop's, so that virtual time costs none
and is still told.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import time

SECOND = 1_000_000_000
FOREVER = 292 * 365.25 * 86_400
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PIECE = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_NUMBER = re.compile(r"\d+\.?\d*|\.\d+")


def rfc3339(ns: int) -> str:
    """Write nanoseconds since 1970 as Go does: UTC, trailing zeros of the fraction dropped."""
    moment = dt.datetime.fromtimestamp(ns // SECOND, dt.UTC)
    fraction = f".{ns % SECOND:09d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def moment(value: dt.datetime) -> str:
    """Write a date as Go does."""
    return rfc3339(int(value.timestamp()) * SECOND + value.microsecond * 1000)


def today() -> dt.datetime:
    """Give the present, of the wall clock."""
    return dt.datetime.now(dt.UTC)


def now(ahead: float = 0) -> str:
    """Write the present, or what is so many seconds ahead of it."""
    return rfc3339(time.time_ns() + int(min(ahead, FOREVER) * SECOND))


def nanoseconds(seconds: float) -> int:
    """Turn a measured time into what an answer tells; never 0, which would be left out."""
    return max(int(seconds * SECOND), 1000)


def keep_alive(value: object) -> float:
    """Read a `keep_alive`: a number of seconds or a Go duration; negative means for ever.

    Raises:
        ValueError: with Go's text.

    """
    seconds = float(value) if isinstance(value, int | float) else _duration(str(value))
    return math.inf if seconds < 0 else seconds


def _duration(text: str) -> float:
    bare = text.lstrip("+-") if text[:1] in ("+", "-") else text
    if bare == "0":
        return 0.0
    if not bare or not _NUMBER.match(bare):
        raise ValueError(f'time: invalid duration "{text}"')
    if _NUMBER.fullmatch(bare):
        raise ValueError(f'time: missing unit in duration "{text}"')
    pieces = _PIECE.findall(bare)
    if "".join(number + unit for number, unit in pieces) != bare:
        raise ValueError(f'time: invalid duration "{text}"')
    seconds = sum(float(number) * _UNITS[unit] for number, unit in pieces)
    return -seconds if text[0] == "-" else seconds
