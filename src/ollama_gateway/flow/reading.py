"""Reading frames of any length: the loop is not held, as long ones are read in outline, by slices.

Python's json keeps the interpreter until it has read all of a document, in a thread too.
"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from ollama_gateway.wire.dialects import Dialect, Reading
from ollama_gateway.wire.dialects.reading import GARBLED, MOST_TEXT
from ollama_gateway.wire.outline import SLICE, Outline
from ollama_gateway.wire.structure import Unreadable


def slices(data: bytes) -> Iterator[bytes]:
    """Parts of so many bytes as may be read at once."""
    if len(data) <= SLICE:
        return iter((data,))
    return (data[start : start + SLICE] for start in range(0, len(data), SLICE))


async def reading_of(frame: bytes, dialect: Dialect) -> Reading:
    """What a frame of a stream means."""
    if len(frame) <= MOST_TEXT:
        return dialect.read(frame)
    known = dialect.look(frame)
    if known is not None:
        return known
    try:
        return dialect.mean(await _members_of(dialect.data_of(frame), dialect.told))
    except Unreadable:
        return GARBLED


async def _members_of(data: bytes, told: frozenset[str]) -> dict[str, object]:
    """The members of an object that mean something, and theirs; raises Unreadable."""
    outline = Outline(told)
    for part in slices(data):
        outline.feed(part)
        await trio.lowlevel.checkpoint()
    outline.finish()
    document = outline.document
    for member in outline.members:
        if member.key in told and member.raw is None and member.kind == "{":
            document[member.key] = await _members_of(data[member.start : member.end], told)
    return document
