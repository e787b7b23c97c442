"""Read the beginnings of a large body's fields, as much as a small body could hold.

A field's bytes are read up to a limit that leaves out long strings; of those, the beginnings are
read. So every array whose first elements fit a small body has them here too, and a function that
looks at the beginning of a small body's fields sees the same in a large one.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from ollama_gateway.wire.body import LongText
from ollama_gateway.wire.grammar import STRING_REST
from ollama_gateway.wire.large import IN_PLACE, Large, Steps, is_dense
from ollama_gateway.wire.structure import Omission, TopLevelMember

MAX_TEXT: Final = 16 * 1024
"""Characters of a long string that are read."""
MAX_TEXTS: Final = 64
"""Long strings of a field that are read; the field ends there."""
MAX_DENSE: Final = 16 * 1024
"""Bytes of a field with very many values that are read: brackets alone take some 5 ms."""
_SEPARATORS: Final = " \t\r\n,"


def beginnings(body: Large, names: frozenset[str]) -> Steps[dict[str, object]]:
    """Return the beginnings of the fields in `names`, spelt exactly so.

    A long string is a `LongText` with its first `MAX_TEXT` characters. An array has its first
    elements; an object that is cut is left out.
    """
    found: dict[str, object] = {}
    for member in body.found.members:
        if member.key in names:
            value = yield from _beginning(body, member)
            if value is not None:
                found[member.key] = value
    return found


def _beginning(body: Large, member: TopLevelMember) -> Steps[object]:
    chunks: list[bytes] = []
    texts: list[LongText] = []
    rest, room = member.start, IN_PLACE
    for omission in _omissions(body, member):
        if omission.start - rest > room or len(texts) == MAX_TEXTS:
            break
        yield
        chunks.append(body.blocks.read(rest, omission.start))
        room -= omission.start - rest
        if omission.size and not omission.is_key:
            texts.append(_text(body, omission))
        chunks.append(_stand_in(omission))
        rest = omission.end
    yield
    data = b"".join([*chunks, body.blocks.read(rest, min(rest + room, member.end))])
    if is_dense(data, None):
        data = data[:MAX_DENSE]
    return _read(data.decode("utf-8", "ignore"), texts)


def _omissions(body: Large, member: TopLevelMember) -> Iterator[Omission]:
    """Yield the omissions of a member in order."""
    omissions = body.found.omissions
    first = bisect_left(omissions, member.start, key=lambda omission: omission.start)
    for place in range(first, len(omissions)):
        if omissions[place].start >= member.end:
            return
        yield omissions[place]


def _text(body: Large, omission: Omission) -> LongText:
    """Return the beginning of a long string, with the size of the whole."""
    start, size, begun = omission.start + 1, MAX_TEXT, ""
    while len(begun) < MAX_TEXT:
        data = body.blocks.read(start, min(omission.end, start + size))
        whole = STRING_REST.match(data).group()  # type: ignore[union-attr]  # it may be empty
        begun = json.loads(f'"{whole.decode("utf-8", "ignore")}"')
        if start + size >= omission.end:
            break
        size *= 2  # an escape takes up to 12 bytes a character
    return LongText.of(omission.size, omission.printed, begun[:MAX_TEXT])


def _stand_in(omission: Omission) -> bytes:
    if omission.is_key:
        return b'"~"'
    return b"NaN" if omission.size else b" "


def _read(text: str, texts: list[LongText]) -> object:
    """Return the value; of an array that is cut, its whole elements; None for any other cut."""
    left_out = iter(texts)
    decoder = json.JSONDecoder(parse_constant=lambda _: next(left_out))
    try:
        if text[0] != "[":
            return decoder.raw_decode(text)[0]
    except ValueError:
        return None
    elements: list[object] = []
    place = _after(text, 1)
    try:
        while text[place : place + 1] != "]":
            element, end = decoder.raw_decode(text, place)
            if end == len(text):  # a number that is cut
                break
            elements.append(element)
            place = _after(text, end)
    except ValueError:  # any other element that is cut
        pass
    return elements


def _after(text: str, place: int) -> int:
    while text[place : place + 1] and text[place] in _SEPARATORS:
        place += 1
    return place
