r"""Cutting an answer's bytes into whole frames: NDJSON lines, SSE events, one JSON body.

Bytes are cut, never rewritten: joined again, what `feed` gives is what came in, less blank lines,
on which NDJSON clients fail (ollama-python reads each line as JSON). Only `\n` ends a line here:
Python's own idea of lines splits at U+2028 and other characters that a JSON string may hold.

The relay sends whole frames only. So an error event that has to follow a backend's failure always
starts at a frame's edge, and no client ever gets half a line of a dead backend. Ollama flushes
frame by frame, so holding back a partial one costs nothing.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final, Protocol

import attrs

MAX_FRAME: Final = 16 * 1024 * 1024
"""Bytes; twice the longest line that Ollama's own client reads (api/client.go, 8 MB)."""

_EVENT_END: Final = re.compile(rb"\n\r?\n")


class FrameTooLong(Exception):
    """A frame is longer than `MAX_FRAME`; the stream cannot be trusted further."""


class FrameGarbled(Exception):
    """What comes can be no frame."""


class Frames(Protocol):
    """Cuts a stream of bytes into frames."""

    streamed: ClassVar[bool]
    """Whether frames are sent on as they come; otherwise the body is one frame."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, give the frames that are whole now; raises FrameTooLong."""
        ...

    def finish(self) -> list[bytes]:
        """The stream has ended: give what its end completes."""
        ...


@attrs.define
class LineFrames:
    """NDJSON: a frame is a line with its newline."""

    streamed: ClassVar[bool] = True
    _rest: bytearray = attrs.field(factory=bytearray, init=False)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, give the lines that are whole now; raises FrameTooLong."""
        whole, newline, rest = data.rpartition(b"\n")
        if not newline:
            _extend(self._rest, data)
            return []
        lines = (bytes(self._rest) + whole).split(b"\n")
        self._rest.clear()
        _extend(self._rest, rest)
        return [line + b"\n" for line in lines if line.strip()]

    def finish(self) -> list[bytes]:
        """A last line without its newline is a cut one: nothing is completed by the end."""
        return []


@attrs.define
class EventFrames:
    """Server-sent events: a frame is an event with the blank line after it."""

    streamed: ClassVar[bool] = True
    _rest: bytearray = attrs.field(factory=bytearray, init=False)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes, give the events that are whole now; raises FrameTooLong."""
        seen = max(0, len(self._rest) - 2)  # a blank line may have begun in its last two bytes
        self._rest += data
        events, start = [], 0
        for end in _EVENT_END.finditer(self._rest, seen):
            if event := bytes(self._rest[start : end.end()]).lstrip(b"\r\n"):
                events.append(event)
            start = end.end()
        del self._rest[:start]
        _extend(self._rest, b"")
        return events

    def finish(self) -> list[bytes]:
        """An event without its blank line is a cut one: nothing is completed by the end."""
        return []


@attrs.define
class WholeBody:
    """One JSON document: the body is the only frame, whole when the backend has ended it."""

    streamed: ClassVar[bool] = False
    _parts: list[bytes] = attrs.field(factory=list, init=False)
    _size: int = attrs.field(default=0, init=False)

    limit: int = 256 * 1024 * 1024
    """Bytes: a batch of embeddings is the largest honest answer."""

    def feed(self, data: bytes) -> list[bytes]:
        """Keep the bytes; raises FrameTooLong over `limit`."""
        self._size += len(data)
        if self._size > self.limit:
            raise FrameTooLong
        self._parts.append(data)
        return []

    def finish(self) -> list[bytes]:
        """The body, if there is one."""
        return [b"".join(self._parts)] if self._size else []


def _extend(rest: bytearray, data: bytes) -> None:
    rest += data
    if len(rest) > MAX_FRAME:
        raise FrameTooLong


def frames_for(content_type: str) -> Frames | None:
    """The cutter for a response's content type; None for what no Ollama sends on these routes."""
    match content_type.partition(";")[0].strip().lower():
        case "application/x-ndjson":
            return LineFrames()
        case "text/event-stream":
            return EventFrames()
        case "application/json":
            return WholeBody()
        case _:
            return None
