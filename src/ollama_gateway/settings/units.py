"""Read durations, sizes, numbers and words, and show them again.

An annotation in `model.py` carries a `Codec`. It reads a TOML value into the unit that the program
uses (seconds, bytes), turns the text of an environment variable into such a TOML value, and shows a
value in the form of a settings file. A reader raises `ValueError` with half a sentence that follows
the setting's path; the text never spans lines and holds at most a clipped, escaped copy of the
value. `from_text` never fails: text that it cannot convert goes unchanged to the reader, which then
reports it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

import attrs

from ollama_gateway.printable import printable

ValueReader = Callable[[object], Any]

MAX_SECONDS: Final = 36_500 * 86_400.0
"""The longest duration accepted, so that no later sum or timedelta overflows."""

MAX_INT64: Final = 2**63 - 1
"""The largest whole number accepted: SQLite and PostgreSQL hold no larger one."""

_CLIP: Final = 60
_SECRETIVE: Final = re.compile(
    r":[^@]*@ | \bogw_ | \bbearer\s | (?:password|passwd|pwd|secret|token|key)=",
    re.IGNORECASE | re.VERBOSE,
)
"""`user:password@`, a key, a credential in a header, a parameter with one."""
_SECONDS: Final = {"ms": "0.001", "s": "1", "m": "60", "h": "3600", "d": "86400"}
_BYTES: Final = {
    "": 1,
    "b": 1,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
}
_DURATION = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,9})?) ?(ms|s|m|h|d)")
_SAMPLED = re.compile(r"sampled (0?\.[0-9]{1,9})")
_SIZE = re.compile(r"([0-9]{1,19}) ?([A-Za-z]{0,3})")


def _itself(value: object) -> object:
    return value


@attrs.frozen
class Codec:
    """The conversions of one type of setting."""

    read: ValueReader
    """From a TOML value to the unit of the program; raises `ValueError`."""
    from_text: Callable[[str], object] = str
    """From an environment variable's text to a TOML value; never fails."""
    show: Callable[[Any], object] = _itself
    """From the unit of the program to the form of JSON and a settings file."""


def shown(value: object) -> str:
    """Show a value in a message: text escaped and clipped, lists and tables by their type only."""
    if isinstance(value, str):
        clipped = json.dumps(value if len(value) <= _CLIP else value[:_CLIP] + "...")
        return discreet(value) if _SECRETIVE.search(value) else clipped
    if isinstance(value, int) and abs(value) > MAX_INT64:
        return "a number beyond 64 bits"  # Python refuses to print thousands of digits
    if value is None or isinstance(value, bool | int | float):
        return json.dumps(value)
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a table"
    return "a date or time"


def discreet(text: str) -> str:
    """Show text in a message, made printable, unless it looks like a secret.

    The values of secrets are never passed here: this protects a secret in the wrong setting.
    """
    return "(not shown, as it may hold a secret)" if _SECRETIVE.search(text) else printable(text)


def seconds(value: object) -> float:
    """Read a duration such as `"250ms"`, in seconds; zero is allowed."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{shown(value)} is not a duration like "250ms", "30s", "5m"')
    # Decimal, because 9 * 0.001 as floats is not 0.009.
    total = float(Decimal(match[1]) * Decimal(_SECONDS[match[2]]))
    if total > MAX_SECONDS:
        raise ValueError(f"{shown(value)} is longer than {show_seconds(MAX_SECONDS)}")
    return total


def some_seconds(value: object) -> float:
    """Read a duration longer than zero, in seconds."""
    total = seconds(value)
    if total == 0:
        raise ValueError("must be longer than 0s")
    return total


def hedge_delay(value: object) -> object:
    """Read a duration longer than zero, in seconds, or one of the words `auto` and `off`."""
    return value if value in ("auto", "off") else some_seconds(value)


def ping_delay(value: object) -> object:
    """Read a duration longer than zero, in seconds, or the word `off`."""
    return value if value == "off" else some_seconds(value)


def show_seconds(value: object) -> object:
    """Show seconds in the largest unit that divides them; words are unchanged."""
    if not isinstance(value, float | int):
        return value
    exact = Decimal(repr(float(value)))
    for unit in ("d", "h", "m", "s", "ms"):
        count = exact / Decimal(_SECONDS[unit])
        if count == int(count) and (count or unit == "s"):
            return f"{int(count)}{unit}"
    return f"{exact:f}s"


def some_bytes(value: object) -> int:
    """Read a size such as `"64MiB"`, or a plain count, in bytes; never zero."""
    if isinstance(value, int) and not isinstance(value, bool):
        return counted(1)(value)
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    factor = _BYTES.get(match[2].lower()) if match else None
    if match is None or factor is None:
        raise ValueError(f'{shown(value)} is not a size like "512KiB", "64MiB", "1GiB"')
    return counted(1)(int(match[1]) * factor)


def show_bytes(value: int) -> str:
    """Show bytes in the largest binary unit that divides them."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if value and value % _BYTES[unit.lower()] == 0:
            return f"{value // _BYTES[unit.lower()]}{unit}"
    return f"{value}B"


def counted(least: int) -> Callable[[object], int]:
    """Return a reader of whole numbers from `least` up to 64 bits."""

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"{shown(value)} is not a whole number")  # noqa: TRY004 - one class
        if not least <= value <= MAX_INT64:
            raise ValueError(f"{shown(value)} is not a whole number from {least} up to 64 bits")
        return value

    return read


def ratio(value: object) -> float:
    """Read a number from 0 to 1."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 <= value <= 1:  # type: ignore[operator]
        raise ValueError(f"{shown(value)} is not a number from 0 to 1")
    return float(value)  # type: ignore[arg-type]


def logged_share(value: object) -> float:
    """Read `all`, `failed` or `sampled 0.01`, as a share from 0 to 1."""
    if value in ("all", "failed"):
        return float(value == "all")
    match = _SAMPLED.fullmatch(value) if isinstance(value, str) else None
    if match is None or not 0 < float(match[1]) < 1:
        raise ValueError(f'{shown(value)} is not one of "all", "failed", "sampled 0.01"')
    return float(match[1])


def show_logged_share(share: float) -> str:
    """Show a share as `logged_share` reads it."""
    return {1.0: "all", 0.0: "failed"}.get(share) or f"sampled {Decimal(repr(share)):f}"


def flag(value: object) -> bool:
    """Read true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{shown(value)} is not true or false")  # noqa: TRY004 - one class
    return value


def words(value: object) -> tuple[str, ...]:
    """Read a list of strings, none of them empty."""
    if not isinstance(value, list):
        raise ValueError(f"{shown(value)} is not a list of strings")  # noqa: TRY004 - one class
    for item in value:
        if not isinstance(item, str) or not item:
            raise ValueError(f"{shown(item)} in the list is not a string, or is empty")
    return tuple(value)


def one_of(*choices: str) -> ValueReader:
    """Return a reader of one of these words."""

    def read(value: object) -> str:
        if not isinstance(value, str) or value not in choices:
            listed = ", ".join(f'"{choice}"' for choice in choices)
            raise ValueError(f"{shown(value)} is not one of {listed}")
        return value

    return read


def number_from_text(text: str) -> object:
    """Convert text to a number if it is one."""
    if re.fullmatch(r"[+-]?[0-9]{1,20}", text):
        return int(text)
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


def flag_from_text(text: str) -> object:
    """Convert `true`, `false`, `1` and `0`, in any case."""
    return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)


def list_from_text(text: str) -> object:
    """Convert a JSON list if the text begins like one, else items separated by commas."""
    if not text.lstrip().startswith("["):
        return [item.strip() for item in text.split(",") if item.strip()]
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
