"""JSON as Go reads and writes it: request bodies in, answers out.

Reading: the first value counts and everything after it is ignored; keys match without regard to
case and the last one wins (a later null changes nothing); a value of the wrong type is refused in
Go's words. Writing: compact, with `<`, `>` and `&` escaped, as `json.Marshal` does.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any

from ollama_gateway.simulator.goscan import TOO_DEEP, fault
from ollama_gateway.simulator.gostructs import MAP
from ollama_gateway.simulator.gotypes import BadBody, Shape, fields_of

__all__ = ["BadBody", "Shape", "as_map", "decode", "dumps", "loads", "verbatim"]

_ESCAPES = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)
_LONG = 309
DEEPEST = 600
"""Levels; Go allows 10,000, but here a value must be written again from a deeper stack."""
_LONE = re.compile(rb"\\u[dD][89a-fA-F]")


def dumps(value: object, *, is_sorted: bool = False) -> bytes:
    """Write compact JSON as Go's encoder does, with the keys of maps sorted."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=is_sorted)
    return text.translate(_ESCAPES).encode("utf-8", "replace")


def decode(body: bytes, shape: Shape) -> dict[str, Any]:
    """Read a request body: its fields by folded name, types checked, nulls left out.

    Raises:
        BadBody: with Go's text (`EOF` for an empty body).

    """
    value = loads(body)
    if value is None:
        return {}
    try:
        fields = fields_of(shape, value)
    except RecursionError:
        raise BadBody(TOO_DEEP) from None
    maps = {key for key in fields if shape.fields.get(key) == MAP}
    return fields | {key: verbatim(body, key) or {} for key in maps}


def loads(body: bytes) -> Any:
    """Read the first JSON value of a body, keys folded.

    Raises:
        BadBody: with Go's text.

    """
    return _read(body, _FOLDING)


def as_map(value: Any) -> Any:
    """Return a value with its keys sorted, as Go writes maps."""
    return json.loads(dumps(value, is_sorted=True))


def verbatim(body: bytes, key: str) -> Any:
    """Return the value of a key, with its own keys as spelt; None if it is absent.

    The body must have been decoded before.
    """
    value = _read(body, _PLAIN)
    found = [item for name, item in (value or {}).items() if name.casefold() == key]
    return found[-1] if found else None


def _read(body: bytes, decoder: json.JSONDecoder) -> Any:
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise BadBody("EOF")
    try:
        value = decoder.raw_decode(text)[0]
        value = _mended(value) if _LONE.search(body) else value
    except RecursionError:
        raise BadBody(TOO_DEEP) from None
    except BadBody:
        raise
    except ValueError:
        raise BadBody(fault(body)) from None
    if body.count(b"[") + body.count(b"{") > DEEPEST and _is_deep(value):
        raise BadBody(TOO_DEEP)
    return value


def _is_deep(value: Any) -> bool:
    """Return whether a value is nested deeper than `DEEPEST`."""
    level = [value]
    for _ in range(DEEPEST + 1):
        level = [inner for item in level for inner in _inside(item)]
    return bool(level)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _mended(value: Any) -> Any:
    """Put Go's replacement character in place of lone surrogates, which are no text."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_mended(item) for item in value]
        case dict():
            return {_mended(key): _mended(item) for key, item in value.items()}
        case _:
            return value


def _fold(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    folded: dict[str, Any] = {}
    for key, value in pairs:
        if value is not None or key.casefold() not in folded:
            folded[key.casefold()] = value
    return folded


def _integer(digits: str) -> float:
    return int(digits) if len(digits) < _LONG else _real(digits)


def _real(digits: str) -> float:
    """Read a number; refuse one that no float holds, as Go does where it looks at it."""
    number = float(digits)
    if math.isinf(number):
        raise BadBody(f"json: cannot unmarshal number {digits} into Go value of type float64")
    return number


def _constant(word: str) -> Any:
    raise ValueError(word)


_PLAIN = json.JSONDecoder(parse_int=_integer, parse_float=_real, parse_constant=_constant)
_FOLDING = json.JSONDecoder(
    object_pairs_hook=_fold, parse_int=_integer, parse_float=_real, parse_constant=_constant
)
