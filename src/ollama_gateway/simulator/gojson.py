"""JSON as Go reads and writes it: the request bodies in, the answers out.

Reading: the first value counts and what follows is ignored; keys match without regard to case
and the last one wins (a later null changes nothing); a value of the wrong type is refused in
Go's words. Writing: compact, with `<`, `>` and `&` escaped, as `json.Marshal` does.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs

from ollama_gateway.simulator.goscan import fault

_ESCAPES = str.maketrans(
    {
        "<": "\\u003c",
        ">": "\\u003e",
        "&": "\\u0026",
        "\u2028": "\\u2028",
        "\u2029": "\\u2029",
    }
)
_LONG = 400
MAP = "map[string]interface {}"
"""The type of a field whose own keys are not a struct's: they count as they are spelt."""


class BadBody(ValueError):
    """A request body that Go would not decode; the text is Go's."""


@attrs.frozen
class Shape:
    """What a request struct is called in Go, and the types of its fields."""

    package: str
    name: str
    fields: Mapping[str, str]


def dumps(value: object, *, is_sorted: bool = False) -> bytes:
    """Write compact JSON as Go's encoder does; of maps it sorts the keys."""
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
    if not isinstance(value, dict):
        kind = _kind(value)
        raise BadBody(
            f"json: cannot unmarshal {kind} into Go value of type {shape.package}.{shape.name}"
        )
    fields = {key: item for key, item in value.items() if item is not None}
    for key, item in fields.items():
        _check(shape, key, item)
    maps = {key for key in fields if shape.fields.get(key) == MAP}
    return fields | {key: verbatim(body, key) or {} for key in maps}


def loads(body: bytes) -> Any:
    """Read the first JSON value of a body.

    Raises:
        BadBody: with Go's text.

    """
    text = body.decode("utf-8", "replace").lstrip(" \t\r\n")
    if not text:
        raise BadBody("EOF")
    try:
        return _DECODER.raw_decode(text)[0]
    except RecursionError:
        raise BadBody("exceeded max depth") from None
    except ValueError:
        raise BadBody(fault(body)) from None


def as_map(value: Any) -> Any:
    """Give a value with its keys sorted, as Go writes what it keeps in a map."""
    return json.loads(dumps(value, is_sorted=True))


def verbatim(body: bytes, key: str) -> Any:
    """Give the value of a key, with its own keys as they are spelt; None where there is none.

    The body must have been decoded before.
    """
    value = json.JSONDecoder().raw_decode(body.decode("utf-8", "replace").lstrip(" \t\r\n"))[0]
    found = [item for name, item in (value or {}).items() if name.casefold() == key]
    return found[-1] if found else None


def _fold(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    folded: dict[str, Any] = {}
    for key, value in pairs:
        if value is not None or key.casefold() not in folded:
            folded[key.casefold()] = value
    return folded


def _integer(digits: str) -> float:
    return int(digits) if len(digits) < _LONG else float(digits)


def _constant(word: str) -> Any:
    raise ValueError(word)


_DECODER = json.JSONDecoder(object_pairs_hook=_fold, parse_int=_integer, parse_constant=_constant)


def _kind(value: object) -> str:
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "number"


def _check(shape: Shape, key: str, value: object) -> None:
    wanted = shape.fields.get(key)
    if wanted is None or _fits(wanted, value):
        return
    kind = f"number {value}" if isinstance(value, float) else _kind(value)
    raise BadBody(
        f"json: cannot unmarshal {kind} into Go struct field {shape.name}.{key} of type {wanted}"
    )


def _fits(wanted: str, value: object) -> bool:
    kind = _kind(value)
    if wanted == "int":
        return kind == "number" and isinstance(value, int)
    if wanted.startswith("[]"):
        return kind == "array"
    names = {"string": "string", "bool": "bool", "float64": "number"}
    return kind == names.get(wanted, "object")
