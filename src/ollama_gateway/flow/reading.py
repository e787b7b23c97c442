"""Read frames of any length without holding up the event loop.

Python's json keeps the interpreter until it has parsed a whole document, even in a thread. So a
long frame is read in outline, slice by slice, and the loop runs between slices.
"""

from __future__ import annotations

from collections.abc import Iterator

import trio

from ollama_gateway.wire.dialects import Dialect, Reading, Shape
from ollama_gateway.wire.dialects.reading import GARBLED, MAX_PARSED_FRAME, json_object
from ollama_gateway.wire.outline import SLICE, Outline
from ollama_gateway.wire.structure import Unreadable


def slices(data: bytes) -> Iterator[bytes]:
    """Cut data into parts that are short enough to be read at once."""
    if len(data) <= SLICE:
        return iter((data,))
    return (data[start : start + SLICE] for start in range(0, len(data), SLICE))


async def reading_of(frame: bytes, dialect: Dialect) -> Reading:
    """Return the meaning of a frame of a stream."""
    if len(frame) <= MAX_PARSED_FRAME:
        return dialect.read_frame(frame)
    known = dialect.recognize(frame)
    if known is not None:
        return known
    try:
        return dialect.interpret(await _members_of(dialect.data_of(frame), dialect.relevant_keys))
    except Unreadable:
        return GARBLED


async def begins_well(frame: bytes, dialect: Dialect, shape: Shape) -> bool:
    """Return True if the frame can be the first of a good stream."""
    data = dialect.data_of(frame)
    if len(frame) <= MAX_PARSED_FRAME:
        document = json_object(data)
    else:  # it was read before, so it is a JSON object
        document = (await _outline_of(data, dialect.relevant_keys)).sketch
    return document is not None and dialect.begins(document, shape)


def is_wordless(parts: list[bytes], dialect: Dialect) -> bool:
    """Return True if a whole answer may stand for a stream.

    Ollama sends such an answer when it only loaded or unloaded a model, or only rendered a prompt
    (server/routes.go).
    """
    body = b"".join(parts)
    document = json_object(body) if len(body) <= MAX_PARSED_FRAME else None
    if document is None or dialect.name != "ollama":
        return False
    is_end = document.get("done") is True and not dialect.text_size(body)
    return is_end or "_debug_info" in document


async def _members_of(data: bytes, names: frozenset[str]) -> dict[str, object]:
    """Return an object's members in `names`, and theirs; raises Unreadable."""
    outline = await _outline_of(data, names)
    document = outline.document
    for member in outline.members:
        if member.key in names and member.raw is None and member.kind == "{":
            document[member.key] = await _members_of(data[member.start : member.end], names)
    return document


async def _outline_of(data: bytes, names: frozenset[str]) -> Outline:
    """Read a whole document in outline; raises Unreadable."""
    outline = Outline(names)
    for part in slices(data):
        outline.feed(part)
        await trio.lowlevel.checkpoint()
    outline.finish()
    return outline
