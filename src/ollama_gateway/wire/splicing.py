"""Changing one member of a JSON object in its text, all other bytes unchanged.

Decoding and encoding again would respell numbers and escapes, and drop repeated keys. So values are
found and replaced where they stand. The rule: of all the members that Ollama might take for the
field, none keeps another value. Keys of the body itself are folded as Go's structs fold them. Those
of an object inside count only as they are, for in Go they are those of a map; where that is not
sure, all that fold to the name are set as well.

All functions take JSON that is known to be good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Final, TypeAlias

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.body import go_fold
from ollama_gateway.wire.slimming import slimmed

Field: TypeAlias = tuple[str, ...]
"""Where a value stands: the name of a field, or of an object field and of a key in its map."""

_GAP: Final = re.compile(r"[ \t\r\n]*[:,]?[ \t\r\n]*")
"""What stands between a brace, a key and a value, in JSON that is known to be good."""
_DECODER: Final = json.JSONDecoder()

_Edit: TypeAlias = tuple[int, int, str]


def with_value(body: bytes, field: Field, value: str, *, in_any_case: bool = False) -> bytes:
    """The body with `value`, itself JSON, in `field`.

    Whatever stands there is replaced, in every spelling that Ollama would take for it; where
    nothing does, the field is added as the object's last. 1 MiB of 10,000 messages takes about
    6 ms, 1 MiB of nothing but short members 160 ms.

    Args:
        body: and so on: what is set to what.
        in_any_case: whether of a field in an object also those are set that fold to its name.

    Raises:
        BadRequest: the field is in an object, and what stands there is neither one nor null.

    """
    slim = slimmed(body)
    text = slim.body.decode()
    pieces, rest = [], 0
    for start, end, new in _edits(text, field, value, go_fold if in_any_case else str):
        pieces += [text[rest:start], new]
        rest = end
    return slim.whole("".join([*pieces, text[rest:]]).encode())


def without_member(data: bytes, name: str) -> bytes:
    """An object's text without the members of this name, spelt exactly so."""
    text = data.decode()
    while found := _scanned(text, text.index("{"), name, str).found:
        start, end = _with_comma(text, found[0])
        text = text[:start] + text[end:]
    return text.encode()


@attrs.frozen
class _Member:
    """A member of an object, and where it stands: its key, its value, and what follows it."""

    name: str
    key: int
    value: int
    end: int
    next: int


@attrs.frozen
class _Scan:
    """What was found in one object of a text."""

    found: list[_Member]
    end: int
    """Where the closing brace stands."""
    is_empty: bool

    def edits(self, name: str, value: str, fold: Callable[[str], str]) -> list[_Edit]:
        """Set all that was found; where none has the name when folded, add a member, as the last,
        which counts for most readers.
        """
        edits = [(member.value, member.end, value) for member in self.found]
        if any(fold(member.name) == name for member in self.found):
            return edits
        comma = "" if self.is_empty else ","
        return [*edits, (self.end, self.end, f'{comma}"{name}":{value}')]


def _edits(text: str, field: Field, value: str, fold: Callable[[str], str]) -> list[_Edit]:
    """What is to be replaced in the text, in order."""
    name, *keys = field
    body = _scanned(text, text.index("{"), name, go_fold)
    if not keys:
        return body.edits(name, value, go_fold)
    (key,) = keys
    for member in body.found:
        if text[member.value] == "{":
            return _scanned(text, member.value, key, fold).edits(key, value, str)
        if not text.startswith("null", member.value):
            raise BadRequest(f"{name} must be an object", reason="invalid_body")
    return body.edits(name, f'{{"{key}":{value}}}', go_fold)


def _with_comma(text: str, member: _Member) -> tuple[int, int]:
    """The member with one comma: the one before it, or for a first member the one after."""
    before = text[: member.key].rstrip(" \t\r\n")
    return (len(before) - 1, member.end) if before[-1] == "," else (member.key, member.next)


def _scanned(text: str, start: int, name: str, fold: Callable[[str], str]) -> _Scan:
    """Look for members whose folded key is `name` in the object that begins at `start`."""
    found = []
    first = position = _after_gap(text, start + 1)
    while text[position] != "}":
        key, colon = _DECODER.raw_decode(text, position)
        value = _after_gap(text, colon)
        _, end = _DECODER.raw_decode(text, value)
        following = _after_gap(text, end)
        if fold(key) == name:
            found.append(_Member(key, position, value, end, following))
        position = following
    return _Scan(found, position, is_empty=position == first)


def _after_gap(text: str, position: int) -> int:
    return _GAP.match(text, position).end()  # type: ignore[union-attr]  # a gap may be empty
