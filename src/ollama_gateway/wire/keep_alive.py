"""Read and write `keep_alive` as Ollama does: how long a model stays loaded after a request.

A number counts seconds, a text is a duration of Go, and whatever is negative means for ever
(api/types.go, Duration). Anything else Ollama refuses with a 400.
"""

from __future__ import annotations

import math
import re
from typing import Final

from ollama_gateway.wire.body import LongText, lookup

FIELD: Final = "keep_alive"
_UNITS: Final = {
    "ns": 1e-9,
    "us": 1e-6,
    "\u00b5s": 1e-6,
    "\u03bcs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
}
_PART: Final = re.compile(r"([0-9]++(?:\.[0-9]*+)?+|\.[0-9]++)(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_DURATION: Final = re.compile(rf"([+-]?)((?:{_PART.pattern})+|0)")
_LONGEST: Final = 1000
"""Characters of a text that is read. Ollama reads longer ones, which count as 0 here: no honest
client writes one."""
_NANOSECOND: Final = 1e-9
"""Ollama counts in whole ones."""


def keep_alive_of(document: dict[str, object]) -> float | None:
    """Return the seconds that a request asks for, infinite for ever.

    None if the field is absent or null, or holds what Ollama refuses.
    """
    value = lookup(document, FIELD)
    if isinstance(value, str):
        is_long = isinstance(value, LongText) or len(value) > _LONGEST
        seconds = 0.0 if is_long else _seconds_in(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        seconds = float(value) if abs(value) < 10**300 else math.inf
    else:
        seconds = None
    if seconds is None:
        return None
    return math.inf if seconds < 0 else seconds if seconds >= _NANOSECOND else 0.0


def keep_alive_text(seconds: float) -> str:
    """Return a finite time as JSON that every version of Ollama reads."""
    return f'"{int(seconds)}s"' if seconds == int(seconds) else f'"{round(seconds * 1000)}ms"'


def _seconds_in(text: str) -> float | None:
    """Read a duration as Go's time.ParseDuration does; None if it is none."""
    found = _DURATION.fullmatch(text)
    if found is None:
        return None
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(found[2]))
    return -seconds if found[1] == "-" else seconds
