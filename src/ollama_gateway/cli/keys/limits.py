"""Show a key's limits to people: its own in a few words, and the usage of those in force.

Only a running gateway knows the usage, and which defaults are in force. The figures of its admin
listener are checked; an unexpected answer counts as none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from http import HTTPStatus
from itertools import pairwise
from typing import Final
from urllib.parse import quote

import attrs

from ollama_gateway.cli.admin import NoAnswer, ask, unexpected
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.settings.units import MAX_INT64, MAX_SECONDS

_UNITS: Final = {
    "requests_per_minute": "/min",
    "concurrent_requests": " at once",
    "tokens_per_day": "/day",
    "tokens_per_month": "/month",
}
_THOUSANDS: Final = ("", "k", "M", "G", "T")
_TIMES: Final = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


@attrs.frozen
class LimitUsage:
    """The usage of one limit in force."""

    limit: int
    used: int
    left: int
    reset_s: float
    """Seconds until the whole limit is free again, without further requests."""


def limits_in_words(limits: Mapping[str, int | None]) -> str:
    """Return the key's own limits, e.g. `60/min 4 at once 100k/day`, or `-` if it has none."""
    found = {name: limits.get(name) for name in _UNITS}
    words = [_count(limit) + _UNITS[name] for name, limit in found.items() if limit is not None]
    return " ".join(words) or "-"


def ask_usage(address: AdminAddress, key_id: str) -> dict[str, LimitUsage]:
    """Ask the running gateway for the usage of a key's limits in force, by name.

    Raises:
        NoAnswer: no gateway answers, or the answer is not one of a gateway.

    """
    answer = ask(address, f"/limits/{quote(key_id, safe='')}")
    limits = answer.value.get("limits")
    is_answer = answer.value.get("key_id") == key_id
    if answer.status != HTTPStatus.OK:
        raise unexpected(answer)
    if not is_answer or not isinstance(limits, dict) or not limits.keys() <= _LINES.keys():
        raise NoAnswer
    # Our own order: that of the answer is undefined.
    return {name: _read(limits[name]) for name in _LINES if name in limits}


def usage_lines(used: Mapping[str, LimitUsage]) -> list[str]:
    """Return one line for each limit."""
    if not used:
        return ["usage:      no limit is in force"]
    return [_LINES[name].format(**_texts(one)) for name, one in used.items()]


_LINES: Final = {
    "rate": "requests:          {used} of {limit} in the last minute, {left} left",
    "concurrency": "at once:           {used} of {limit} now, {left} left",
    "day": "tokens today:      {used} of {limit}, {left} left, resets in {reset}",
    "month": "tokens this month: {used} of {limit}, {left} left, resets in {reset}",
}


def _read(value: object) -> LimitUsage:
    match value:
        case {"limit": limit, "used": used, "left": left, "reset_s": reset} if (
            all(type(count) is int and 0 <= count <= MAX_INT64 for count in (limit, used, left))
            and type(reset) in (int, float)
            and 0 <= reset <= MAX_SECONDS
        ):
            return LimitUsage(limit, used, left, reset)
    raise NoAnswer


def _count(limit: int) -> str:
    """Return a number with the largest unit that divides it."""
    if limit == 0:
        return "unlimited"
    size = 0
    while limit % 1000 == 0 and size + 1 < len(_THOUSANDS):
        limit, size = limit // 1000, size + 1
    return f"{limit:,}{_THOUSANDS[size]}"


def _texts(used: LimitUsage) -> dict[str, str]:
    counts = {name: f"{getattr(used, name):,}" for name in ("used", "limit", "left")}
    return {**counts, "reset": _duration(used.reset_s)}


def _duration(seconds: float) -> str:
    """Return a duration in its two largest units, rounded up, e.g. `5 h 12 min`."""
    total = math.ceil(seconds)
    for (unit, size), (smaller, step) in pairwise(_TIMES):
        if total >= size:
            whole, rest = divmod(math.ceil(total / step) * step, size)
            return f"{whole} {unit}" + (f" {rest // step} {smaller}" if rest else "")
    return f"{total} s"
