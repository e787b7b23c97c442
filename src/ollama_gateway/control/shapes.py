"""Shapes of JSON: what an operation takes and answers, for its check and for its description.

A shape checks a value and names all that is wrong with it, and gives its JSON Schema (2020-12) to
the OpenAPI document. So the description cannot differ from what is checked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Protocol

import attrs

from ollama_gateway.control.errors import Problem

JSONSchema = dict[str, Any]
LONGEST: Final = 4096
"""Characters of a text, unless its shape says otherwise."""
MAX_INTEGER: Final = 2**53 - 1
"""Larger numbers are not the same in all programs (RFC 8259, 6)."""


class Shape(Protocol):
    """What a value may be."""

    def schema(self) -> JSONSchema:
        """Return it as a JSON Schema."""
        ...

    def problems(self, value: object, where: str = "") -> Iterator[Problem]:
        """Yield what is wrong with a value; `where` is its JSON pointer."""
        ...


@attrs.frozen
class Text:
    """A string."""

    about: str = ""
    one_of: tuple[str, ...] = ()
    """All that it may be; empty for any text."""
    longest: int = LONGEST
    """Characters."""
    is_time: bool = False
    """Whether it is a moment (RFC 3339); the control surface reads it."""

    def schema(self) -> JSONSchema:
        """Return it as a JSON Schema."""
        found: JSONSchema = {"type": "string", **_about(self.about)}
        if self.one_of:
            return found | {"enum": list(self.one_of)}
        return found | ({"format": "date-time"} if self.is_time else {"maxLength": self.longest})

    def problems(self, value: object, where: str = "") -> Iterator[Problem]:
        """Yield what is wrong with a value."""
        if not isinstance(value, str):
            yield Problem(where, "is not a string")
        elif self.one_of and value not in self.one_of:
            yield Problem(where, f"is not one of {', '.join(self.one_of)}")
        elif len(value) > self.longest:
            yield Problem(where, f"has more than {self.longest} characters")
        elif any("\ud800" <= character <= "\udfff" for character in value):
            yield Problem(where, "has half of a character")


@attrs.frozen
class Integer:
    """A whole number."""

    about: str = ""
    least: int = 0
    most: int = MAX_INTEGER

    def schema(self) -> JSONSchema:
        """Return it as a JSON Schema."""
        bounds = {"minimum": self.least, "maximum": self.most}
        return {"type": "integer", **_about(self.about), **bounds}

    def problems(self, value: object, where: str = "") -> Iterator[Problem]:
        """Yield what is wrong with a value."""
        if type(value) is not int:  # a bool is an int to isinstance
            yield Problem(where, "is not a whole number")
        elif not self.least <= value <= self.most:
            yield Problem(where, f"is not from {self.least} to {self.most}")


@attrs.frozen
class Number:
    """A number."""

    about: str = ""

    def schema(self) -> JSONSchema:
        """Return it as a JSON Schema."""
        return {"type": "number", **_about(self.about)}

    def problems(self, value: object, where: str = "") -> Iterator[Problem]:
        """Yield what is wrong with a value."""
        if type(value) not in {int, float}:
            yield Problem(where, "is not a number")


@attrs.frozen
class Flag:
    """True or false."""

    about: str = ""

    def schema(self) -> JSONSchema:
        """Return it as a JSON Schema."""
        return {"type": "boolean", **_about(self.about)}

    def problems(self, value: object, where: str = "") -> Iterator[Problem]:
        """Yield what is wrong with a value."""
        if not isinstance(value, bool):
            yield Problem(where, "is not true or false")


@attrs.frozen
class OrNull:
    """What another shape allows, or null."""

    shape: Shape

    def schema(self) -> JSONSchema:
        """Return it as a JSON Schema."""
        return {"anyOf": [self.shape.schema(), {"type": "null"}]}

    def problems(self, value: object, where: str = "") -> Iterator[Problem]:
        """Yield what is wrong with a value."""
        if value is not None:
            yield from self.shape.problems(value, where)


@attrs.frozen
class ListOf:
    """An array."""

    shape: Shape
    about: str = ""
    most: int = 1000
    """Items."""

    def schema(self) -> JSONSchema:
        """Return it as a JSON Schema."""
        items = self.shape.schema()
        return {"type": "array", "items": items, "maxItems": self.most, **_about(self.about)}

    def problems(self, value: object, where: str = "") -> Iterator[Problem]:
        """Yield what is wrong with a value."""
        if not isinstance(value, list):
            yield Problem(where, "is not an array")
        elif len(value) > self.most:
            yield Problem(where, f"has more than {self.most} items")
        else:
            for number, item in enumerate(value):
                yield from self.shape.problems(item, f"{where}/{number}")


@attrs.frozen
class MapOf:
    """An object whose fields have any names, and values of one shape."""

    shape: Shape
    about: str = ""

    def schema(self) -> JSONSchema:
        """Return it as a JSON Schema."""
        values = self.shape.schema()
        return {"type": "object", "additionalProperties": values, **_about(self.about)}

    def problems(self, value: object, where: str = "") -> Iterator[Problem]:
        """Yield what is wrong with a value."""
        if not isinstance(value, dict):
            yield Problem(where, "is not an object")
            return
        for name, one in value.items():
            yield from self.shape.problems(one, f"{where}/{_escaped(name)}")


@attrs.frozen
class Fields:
    """An object with these fields and no others."""

    fields: Mapping[str, Shape]
    needed: Sequence[str] | None = None
    """The names of those that must be there; None for all."""
    about: str = ""

    def schema(self) -> JSONSchema:
        """Return it as a JSON Schema."""
        properties = {name: shape.schema() for name, shape in self.fields.items()}
        needed = list(self.fields if self.needed is None else self.needed)
        found = {"type": "object", "properties": properties, "additionalProperties": False}
        return found | ({"required": needed} if needed else {}) | _about(self.about)

    def problems(self, value: object, where: str = "") -> Iterator[Problem]:
        """Yield what is wrong with a value."""
        if not isinstance(value, dict):
            yield Problem(where, "is not an object")
            return
        for name in self.fields if self.needed is None else self.needed:
            if name not in value:
                yield Problem(f"{where}/{_escaped(name)}", "is missing")
        for name, one in value.items():
            if name in self.fields:
                yield from self.fields[name].problems(one, f"{where}/{_escaped(name)}")
            else:
                yield Problem(f"{where}/{_escaped(name)}", "is unknown")


@attrs.frozen
class Anything:
    """Any JSON."""

    about: str = ""

    def schema(self) -> JSONSchema:
        """Return it as a JSON Schema."""
        return _about(self.about)

    def problems(self, value: object, where: str = "") -> Iterator[Problem]:  # noqa: ARG002
        """Yield nothing."""
        yield from ()


def page_of(item: Shape) -> Fields:
    """Return the shape of a page of a list."""
    following = OrNull(Text("The cursor of the next page; null at the end."))
    return Fields({"items": ListOf(item), "next": following})


def _about(text: str) -> JSONSchema:
    return {"description": text} if text else {}


def _escaped(name: str) -> str:
    """Return a name as a part of a JSON pointer (RFC 6901, 3)."""
    return name.replace("~", "~0").replace("/", "~1")
