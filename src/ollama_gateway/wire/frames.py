r"""Cut an answer's bytes into whole frames: NDJSON lines, SSE events, one JSON body.

Bytes are cut, never rewritten: the frames joined are the bytes that came, without blank lines, on
which NDJSON clients fail (ollama-python parses each line as JSON). Only `\n` ends a line here:
`str.splitlines` also splits at U+2028 and other characters that a JSON string may hold.

The relay sends whole frames only. So an error event after a backend's failure always starts at a
frame boundary, and no client gets half a line of a dead backend. Ollama flushes frame by frame, so
holding back an incomplete frame costs no time.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final, Protocol

import attrs

MAX_FRAME: Final = 16 * 1024 * 1024
"""Bytes of a frame: twice the longest line that Ollama's own client reads (api/client.go, 8 MB)."""

_EVENT_END: Final = re.compile(rb"\n\r?\n")


class FrameTooLong(Exception):
    """A frame is too long; nothing after it in the stream can be trusted."""


class FrameGarbled(Exception):
    """The bytes cannot be a frame."""


class Frames(Protocol):
    """Cuts a stream of bytes into frames."""

    streamed: ClassVar[bool]
    """Whether frames are sent on as they arrive; otherwise the whole body is one frame."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the frames that they complete; raises FrameTooLong."""
        ...

    def finish(self) -> list[bytes]:
        """End the stream and return the frames that the end completes."""
        ...


@attrs.define
class LineFrames:
    """NDJSON: a frame is a line with its newline."""

    streamed: ClassVar[bool] = True
    limit: int = MAX_FRAME
    """Bytes of a line that has not ended."""
    _rest: bytearray = attrs.field(factory=bytearray, init=False)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the lines that they complete; raises FrameTooLong."""
        whole, newline, rest = data.rpartition(b"\n")
        if not newline:
            _extend(self._rest, data, self.limit)
            return []
        lines = (bytes(self._rest) + whole).split(b"\n")
        self._rest.clear()
        _extend(self._rest, rest, self.limit)
        return [line + b"\n" for line in lines if line.strip()]

    @property
    def is_between(self) -> bool:
        """Whether no byte of a next line has come."""
        return not self._rest

    def finish(self) -> list[bytes]:
        """Return nothing: a last line without its newline was cut off."""
        return []


@attrs.define
class EventFrames:
    """Server-sent events: a frame is an event with the blank line after it."""

    streamed: ClassVar[bool] = True
    _rest: bytearray = attrs.field(factory=bytearray, init=False)

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes and return the events that they complete; raises FrameTooLong."""
        seen = max(0, len(self._rest) - 2)  # a blank line may have begun in the last two bytes
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
        """Return nothing: an event without its blank line was cut off."""
        return []


@attrs.define
class WholeBody:
    """One JSON document: the body is the only frame, complete when the backend has ended it."""

    streamed: ClassVar[bool] = False
    _parts: list[bytes] = attrs.field(factory=list, init=False)
    _size: int = attrs.field(default=0, init=False)

    limit: int = 256 * 1024 * 1024
    """Bytes; a batch of embeddings is the largest honest answer."""

    def feed(self, data: bytes) -> list[bytes]:
        """Keep the bytes; raises FrameTooLong over `limit`."""
        self._size += len(data)
        if self._size > self.limit:
            raise FrameTooLong
        self._parts.append(data)
        return []

    def finish(self) -> list[bytes]:
        """Return the body, if there is one."""
        return [b"".join(self._parts)] if self._size else []


def _extend(rest: bytearray, data: bytes, limit: int = MAX_FRAME) -> None:
    rest += data
    if len(rest) > limit:
        raise FrameTooLong


def frames_for(content_type: str) -> Frames | None:
    """Return the cutter for a content type; None if no Ollama sends it on these routes."""
    match content_type.partition(";")[0].strip().lower():
        case "application/x-ndjson":
            return LineFrames()
        case "text/event-stream":
            return EventFrames()
        case "application/json":
            return WholeBody()
        case _:
            return None
