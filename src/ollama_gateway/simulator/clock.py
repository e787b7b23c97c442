"""Times as Ollama writes them: RFC 3339 with nanoseconds, and durations in nanoseconds.

Dates come from the wall clock and durations from the event loop's, so virtual time takes no real
time but still appears in answers.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import time

SECOND = 1_000_000_000
FOREVER = (2**63 - 1) / SECOND
"""Seconds of Go's longest duration, 292 years."""
_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_NUMBER = re.compile(r"[0-9]+\.?[0-9]*|\.[0-9]+")
_UNIT = re.compile(r"[^0-9.]*")


def rfc3339(ns: int) -> str:
    """Write nanoseconds since 1970 as Go does: UTC, without trailing zeros of the fraction."""
    moment = dt.datetime.fromtimestamp(ns // SECOND, dt.UTC)
    fraction = f".{ns % SECOND:09d}".rstrip("0").rstrip(".")
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"


def moment(value: dt.datetime) -> str:
    """Write a date as Go does."""
    return rfc3339(int(value.timestamp()) * SECOND + value.microsecond * 1000)


def today() -> dt.datetime:
    """Return the present by the wall clock."""
    return dt.datetime.now(dt.UTC)


def now(ahead: float = 0) -> str:
    """Write the present plus a number of seconds."""
    return rfc3339(time.time_ns() + int(min(ahead, FOREVER) * SECOND))


def nanoseconds(seconds: float) -> int:
    """Convert a measured time to nanoseconds in an answer; never 0, which would be left out."""
    return max(int(seconds * SECOND), 1000)


def keep_alive(value: object) -> float:
    """Read a `keep_alive`: a number of seconds or a Go duration; negative means for ever.

    Raises:
        ValueError: with Go's text.

    """
    match value:
        case bool():
            raise ValueError("Unsupported type: 'bool'")
        case int() | float():
            seconds = float(value)
        case str():
            seconds = _duration(value)
        case _:
            kind = "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"
            raise ValueError(f"Unsupported type: '{kind}'")
    return math.inf if seconds < 0 else seconds


def _duration(text: str) -> float:
    bare = text.lstrip("+-") if text[:1] in ("+", "-") else text
    if bare == "0":
        return 0.0
    seconds, place = 0.0, 0
    while not place or place < len(bare):
        number = _NUMBER.match(bare, place)
        if number is None:
            raise ValueError(f'time: invalid duration "{text}"')
        unit = _UNIT.match(bare, number.end())
        if unit is None or not unit[0]:
            raise ValueError(f'time: missing unit in duration "{text}"')
        if unit[0] not in _UNITS:
            raise ValueError(f'time: unknown unit "{unit[0]}" in duration "{text}"')
        seconds += float(number[0]) * _UNITS[unit[0]]
        place = unit.end()
    if seconds > FOREVER:
        raise ValueError(f'time: invalid duration "{text}"')
    return -seconds if text[0] == "-" else seconds
