"""Change one member of a JSON object in its text and leave all other bytes unchanged.

Decoding and encoding again would respell numbers and escapes, and drop repeated keys. So values are
found and replaced in place. The rule: of all members that Ollama might take for the field, none
keeps another value. Keys of the body are folded as for Go's structs. Keys of an object inside count
only as written, because Go decodes that object into a map; where this is not certain, all keys that
fold to the name are set as well.

All functions take JSON that was accepted before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Final, TypeAlias

import attrs

from ollama_gateway.wire.body import MAX_FIELDS, go_fold, invalid_body
from ollama_gateway.wire.large import RequestBody

Field: TypeAlias = tuple[str, ...]
"""Path of a value: the name of a field, or of an object field and a key in its map."""

_SEPARATOR: Final = re.compile(r"[ \t\r\n]*[:,]?[ \t\r\n]*")
"""Whitespace with a colon or comma, as found between tokens of valid JSON."""
_DECODER: Final = json.JSONDecoder()

_TextEdit: TypeAlias = tuple[int, int, str]

Change: TypeAlias = Callable[[str], str]
"""Returns the new JSON of a value, given the old."""


def with_value(
    body: RequestBody, field: Field, value: str, *, in_any_case: bool = False
) -> RequestBody:
    """Return the body with `value`, which is JSON, in `field`.

    Every spelling that Ollama would take for the field is replaced; if there is none, the field is
    added as the object's last.

    Args:
        body: an accepted body.
        field: where the value goes.
        value: JSON.
        in_any_case: whether to set, in an object field, all keys that fold to the name.

    Raises:
        BadRequest: the field is inside an object, but its parent is neither an object nor null.

    """
    name, *keys = field
    fold = go_fold if in_any_case else str
    change = partial(_inner, name=name, keys=keys, value=value, fold=fold)
    return with_change(body, name, change, reads=bool(keys))


def with_change(body: RequestBody, name: str, change: Change, *, reads: bool = True) -> RequestBody:
    """Return the body with the value of a field changed, in every spelling that Ollama would take.

    Args:
        body: an accepted body.
        name: a field of the body. If it is missing, it is added as the last, as if it were null.
        change: returns the new value.
        reads: whether `change` looks at the old value; else it gets an empty text.

    """
    if isinstance(body, bytes):
        text = body.decode()
        return _applied(text, _edits(text, name, change)).encode()
    edits = [
        (member.start, member.end, change(body.value(member).decode() if reads else "").encode())
        for member in body.found.members
        if go_fold(member.key) == name
    ]
    comma = "," if body.found.members else ""
    end = body.found.closed_at
    return body.edited(edits or [(end, end, f'{comma}"{name}":{change("null")}'.encode())])


def with_new_field(body: bytes, name: str, value: str) -> bytes:
    """Return a body with a further field as its last, without reading it.

    The body must have another field, and none of this name in any spelling.
    """
    end = body.rindex(b"}")
    return b"%b,%b:%b%b" % (body[:end], f'"{name}"'.encode(), value.encode(), body[end:])


def with_member(text: str, key: str, value: str) -> str:
    """Return the text of an object, or null, with `value` under a key, spelt exactly so."""
    return _inner(text, "", (key,), value, str)


def _inner(
    text: str, name: str, keys: Sequence[str], value: str, fold: Callable[[str], str]
) -> str:
    """Return the new value of a field; if there is a key, only the value under it changes."""
    if not keys:
        return value
    (key,) = keys
    if text == "null":
        return f'{{"{key}":{value}}}'
    if text[0] != "{":
        raise invalid_body(f"{name} must be an object")
    return _applied(text, _scanned(text, 0, key, fold).edits(key, value, str))


def _applied(text: str, edits: list[_TextEdit]) -> str:
    chunks, rest = [], 0
    for start, end, new in edits:
        chunks += [text[rest:start], new]
        rest = end
    return "".join([*chunks, text[rest:]])


def without_member(data: bytes, name: str) -> bytes:
    """Return an object's text without the members of this name, spelt exactly so."""
    text = data.decode()
    while found := _scanned(text, text.index("{"), name, str).found:
        start, end = _with_comma(text, found[0])
        text = text[:start] + text[end:]
    return text.encode()


def without_members(text: str, names: Collection[str]) -> str:
    """Return the text of an object without the members of these names, each spelt exactly so.

    The other members are unchanged; if one is removed, the whitespace between them goes too. One
    pass does it, however often a name is repeated.
    """
    scan = _scanned(text, text.index("{"), "", lambda _: "")
    kept = [member for member in scan.found if member.name not in names]
    if len(kept) == len(scan.found):
        return text
    return "{" + ",".join([text[member.key : member.end] for member in kept]) + "}"


def array_at(data: bytes, name: str) -> tuple[str | None, int]:
    """Return the text of the array that is a body's only member of this name, and its first byte.

    The text is None if there is no such member or more than one, if it is spelled differently, or
    if it is no array.
    """
    text = data.decode()
    found = _scanned(text, text.index("{"), name, go_fold).found
    if len(found) != 1 or found[0].name != name or text[found[0].value] != "[":
        return None, 0
    (member,) = found
    return text[member.value : member.end], len(text[: member.value].encode())


def elements(array: str) -> Iterator[str]:
    """Yield the text of each element of an array."""
    position = _after_separator(array, 1)
    while array[position] != "]":
        _, end = _DECODER.raw_decode(array, position)
        yield array[position:end]
        position = _after_separator(array, end)


@attrs.frozen
class _Member:
    """A member of an object with its offsets: key, value, the value's end, and what follows."""

    name: str
    key: int
    value: int
    end: int
    next: int


@attrs.frozen
class _Scan:
    """The members found in one object."""

    found: list[_Member]
    end: int
    """Offset of the closing brace."""
    is_empty: bool

    def edits(self, name: str, value: str, fold: Callable[[str], str]) -> list[_TextEdit]:
        """Set all members found; if none folds to the name, add one at the end.

        The last member counts for most readers.
        """
        edits = [(member.value, member.end, value) for member in self.found]
        if any(fold(member.name) == name for member in self.found):
            return edits
        comma = "" if self.is_empty else ","
        return [*edits, (self.end, self.end, f'{comma}"{name}":{value}')]


def _edits(text: str, name: str, change: Change) -> list[_TextEdit]:
    """Return the replacements in the text, in order."""
    body = _scanned(text, text.index("{"), name, go_fold)
    edits = [
        (member.value, member.end, change(text[member.value : member.end])) for member in body.found
    ]
    return edits or body.edits(name, change("null"), go_fold)


def _with_comma(text: str, member: _Member) -> tuple[int, int]:
    """Return the range of a member and a comma: the one before, or behind a first member."""
    before = text[: member.key].rstrip(" \t\r\n")
    return (len(before) - 1, member.end) if before[-1] == "," else (member.key, member.next)


def _scanned(text: str, start: int, name: str, fold: Callable[[str], str]) -> _Scan:
    """Find members whose folded key is `name` in the object that begins at `start`."""
    found, count = [], 0
    first = position = _after_separator(text, start + 1)
    while text[position] != "}":
        key, colon = _DECODER.raw_decode(text, position)
        value = _after_separator(text, colon)
        _, end = _DECODER.raw_decode(text, value)
        following = _after_separator(text, end)
        count += 1
        if count > MAX_FIELDS:
            raise invalid_body(f"an object has more than {MAX_FIELDS} fields")
        if fold(key) == name:
            found.append(_Member(key, position, value, end, following))
        position = following
    return _Scan(found, position, is_empty=position == first)


def _after_separator(text: str, position: int) -> int:
    return _SEPARATOR.match(text, position).end()  # type: ignore[union-attr]  # it may be empty
