"""The types of Ollama's request structs, and how Go's decoder fits a JSON value into one.

A type is spelt as in Go: `string`, `[]api.Message`. A type with an unmarshaller of its own in Go
refuses in its own words (`READERS`); a struct inside such a type is named from there on. `any`
accepts everything; the handler does further checks.
"""

from __future__ import annotations

import string
from collections.abc import Callable, Mapping
from typing import Any

import attrs

from ollama_gateway.simulator import clock
from ollama_gateway.simulator.gostructs import STRUCTS

LARGEST = 2**63
THINK = ("high", "medium", "low", "max")
NOT_AN_OBJECT = "Value looks like object, but can't find closing '}' symbol"
_BASE64 = frozenset(string.ascii_letters + string.digits + "+/\r\n")
_CONTENT = "[]anthropic.ContentBlock"


class BadBody(ValueError):
    """A request body that Go would not decode; the text is Go's."""


@attrs.frozen
class Shape:
    """The Go name of a request struct, and the types of its fields."""

    package: str
    name: str
    fields: Mapping[str, str]


@attrs.frozen
class Place:
    """The place of a value: its struct and the keys on the path; neither at the top."""

    struct: str = ""
    path: str = ""

    def under(self, struct: str, key: str) -> Place:
        """Return the place of a struct's field; messages name the outermost struct."""
        return Place(self.struct or struct, f"{self.path}.{key}" if self.path else key)

    def mismatch(self, kind: str, value: object) -> BadBody:
        """Create the refusal of a value that is not of that type."""
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        has_figures = is_number and (kind == "int" or isinstance(value, float))
        told = f"number {value}" if has_figures else kind_of(value)
        where = f"struct field {self.struct}.{self.path}" if self.path else "value"
        return BadBody(f"json: cannot unmarshal {told} into Go {where} of type {kind}")


TOP = Place()


def kind_of(value: object) -> str:
    """Return Go's name for a JSON value's kind."""
    match value:
        case None:
            return "null"
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


def fit(kind: str, value: Any, place: Place = TOP) -> Any:
    """Return a value as Go holds it in a type; in lists null is the type's zero.

    Raises:
        BadBody: with Go's text.

    """
    if kind.startswith("[]"):
        return _array(kind, value, place)
    if reader := READERS.get(kind):
        return reader(value, place)
    if value is None:
        return {} if kind in STRUCTS or kind.startswith("map") else _ZEROS[kind]
    if kind in STRUCTS:
        return _struct(kind, value, place)
    return _plain(kind, value, place)


def fields_of(shape: Shape, value: Any) -> dict[str, Any]:
    """Fit a request's body into its struct; nulls are left out.

    Raises:
        BadBody: with Go's text.

    """
    return _filled(f"{shape.package}.{shape.name}", shape.fields, value, TOP)


def _struct(kind: str, value: Any, place: Place) -> dict[str, Any]:
    return _filled(kind, STRUCTS[kind], value, place)


def _filled(kind: str, known: Mapping[str, str], value: Any, place: Place) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise place.mismatch(kind, value)
    name = kind.rpartition(".")[2]
    return {
        key: fit(known.get(key, "any"), item, place.under(name, key))
        for key, item in value.items()
        if item is not None
    }


def _array(kind: str, value: Any, place: Place) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise place.mismatch(kind, value)
    return [fit(kind.removeprefix("[]"), item, place) for item in value]


def _plain(kind: str, value: Any, place: Place) -> Any:
    if not _fits(kind, value):
        raise place.mismatch(kind, value)
    if kind == "map[string]string":
        return {key: fit("string", item, place) for key, item in value.items()}
    return value


def _fits(kind: str, value: Any) -> bool:
    if kind == "int":
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return is_whole and -LARGEST <= value < LARGEST
    return kind_of(value) == _KINDS.get(kind, "object")


_KINDS = {"string": "string", "bool": "bool", "float32": "number", "float64": "number"}
_ZEROS = {"string": "", "bool": False, "int": 0, "float32": 0, "float64": 0}


def _message(value: Any, _place: Place) -> Any:
    return {} if value is None else _struct("api.Alias", value, TOP)


def _think(value: Any, _place: Place) -> Any:
    if isinstance(value, bool) or value in THINK:
        return value
    if isinstance(value, str):
        names = '"high", "medium", "low", "max", true, or false'
        raise BadBody(f'invalid think value: "{value}" (must be {names})')
    raise BadBody(
        'think must be a boolean or string ("high", "medium", "low", "max", true, or false)'
    )


def _duration(value: Any, _place: Place) -> Any:
    try:
        clock.keep_alive(value)
    except ValueError as error:
        raise BadBody(str(error)) from None
    return value


def _image(value: Any, place: Place) -> Any:
    """Accept base64; refuse other text with the offset where Go stops reading it."""
    if value is None or isinstance(value, list):
        return value
    if not isinstance(value, str):
        raise place.mismatch("[]uint8", value)
    strange = strange_in_base64(value)
    if strange is not None:
        raise BadBody(f"illegal base64 data at input byte {strange}")
    return value


def _object(value: Any, _place: Place) -> Any:
    if value is not None and not isinstance(value, dict):
        raise BadBody(NOT_AN_OBJECT)
    return value or {}


def _anthropic_message(value: Any, place: Place) -> dict[str, Any]:
    """Read a message whose content is a text, or blocks; only a missing content is an error."""
    if value is None:
        return {"content": []}
    if not isinstance(value, dict):
        raise place.mismatch("anthropic.MessageParam", value)
    if "content" not in value:
        raise BadBody("unexpected end of JSON input")
    role = fit("string", value.get("role"), Place("", "role"))
    content = value["content"]
    if content is None or isinstance(content, str):
        return {"role": role, "content": [{"type": "text", "text": content or ""}]}
    return {"role": role, "content": _array(_CONTENT, content, TOP)}


def strange_in_base64(text: str) -> int | None:
    """Return the offset of the first byte that is not base64, or None."""
    bare = text.rstrip("=")
    strange = next((place for place, char in enumerate(bare) if char not in _BASE64), None)
    if strange is None and len(text) % 4:
        return len(text) // 4 * 4
    return strange


READERS: Mapping[str, Callable[[Any, Place], Any]] = {
    "any": lambda value, _place: value,
    "api.Message": _message,
    "api.ThinkValue": _think,
    "api.Duration": _duration,
    "api.ImageData": _image,
    "api.ToolCallFunctionArguments": _object,
    "api.ToolPropertiesMap": _object,
    "anthropic.MessageParam": _anthropic_message,
}
"""Types with an unmarshaller of their own."""
