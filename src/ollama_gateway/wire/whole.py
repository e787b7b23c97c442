"""A whole answer: held until it is known to be one, then passed on as it comes.

Up to `HELD` bytes are held to their end, so that an answer which breaks until then can be had from
another backend. A longer one is passed on once a member has begun that only a good answer has. Its
last brace is held back until all is there and found sound: no client ever has a whole document of
an answer that was not.

What an answer means is read while its bytes pass: those of a few KiB by Python's json, which holds
the interpreter until it has read all, and longer ones in outline.
"""

from __future__ import annotations

from typing import ClassVar, Final

from ollama_gateway.wire.dialects import Dialect, Reading
from ollama_gateway.wire.dialects.reading import GARBLED
from ollama_gateway.wire.frames import FrameGarbled, FrameTooLong
from ollama_gateway.wire.outline import SLICE, Outline
from ollama_gateway.wire.structure import Unreadable

PASS_ON_SIZE: Final = 1024 * 1024
"""Bytes of an answer that are held to its end."""
MAX_PASSED_ON: Final = 256 * 1024 * 1024
"""Bytes of one that is passed on: a batch of embeddings is the largest honest answer."""
MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes of one that is not: what is said of a model with all of its vocabulary."""
MAX_TRAILING_SPACE: Final = 64 * 1024
"""Bytes of white space behind the end of an answer."""


class WholeAnswer:
    """The frames of one JSON document are its parts as they come.

    Args:
        dialect: says what it means.
        is_kept: whether all of it is wanted at once, and it is never passed on.

    """

    streamed: ClassVar[bool] = False

    def __init__(self, dialect: Dialect, *, is_kept: bool = False) -> None:
        self.is_ended = False
        """Whether all of it came; then `reading` is final."""
        self._dialect = dialect
        self._is_kept = is_kept
        self._parts: list[bytes] = []
        """What is held."""
        self._size = 0
        self._outline: Outline | None = None
        self._is_passing = False
        self._held_back = 0
        """Bytes that are held since the last brace came."""
        self._meaning = Reading()

    @property
    def reading(self) -> Reading:
        """What it means, as far as it came."""
        if self.is_ended or self._outline is None:
            return self._meaning
        return self._dialect.interpret_body(self._outline.document)

    @property
    def is_good(self) -> bool:
        """Whether an answer has begun that may be passed on, and no error."""
        members = self._outline.members if self._outline is not None else ()
        names = {member.key for member in members if member.kind != "n"}
        has_begun = "error" not in names and not self._dialect.answer_keys.isdisjoint(names)
        return self._is_passing or (has_begun and not self._is_kept)

    def feed(self, data: bytes) -> list[bytes]:
        """Take `SLICE` bytes at most; raises FrameTooLong, FrameGarbled."""
        self._size += len(data)
        if self._size > (MAX_PASSED_ON if self._is_passing else MAX_HELD):
            raise FrameTooLong
        self._parts.append(data)
        if self._size > SLICE or self._outline is not None:
            self._read_on()
        if self._size > PASS_ON_SIZE or self._is_passing:
            return self.pass_on()
        return []

    def pass_on(self) -> list[bytes]:
        """What is held, of an answer that is known to be one; nothing where that has to wait."""
        if self._outline is None:
            self._read_on()
        if self._outline is None or not self.is_good:
            return []
        if self._outline.is_complete:
            self._held_back += len(self._parts[-1])
            if self._held_back > MAX_TRAILING_SPACE:
                raise FrameTooLong
            return []
        self._is_passing = True
        parts, self._parts = self._parts, []
        return parts

    def finish(self) -> list[bytes]:
        """It has ended: what of it was not given yet."""
        self.is_ended = True
        if self._outline is None:
            body = b"".join(self._parts)
            self._meaning = self._dialect.read_body(body)
            return [body] if body else []
        try:
            self._outline.finish()
            self._meaning = self._dialect.interpret_body(self._outline.document)
        except Unreadable:
            self._meaning = GARBLED
        return self._parts

    def _read_on(self) -> None:
        """Read the part that came last, or all that are held where none was read before."""
        unread = self._parts[-1:]
        if self._outline is None:
            self._outline, unread = Outline(self._dialect.relevant_keys), self._parts
        try:
            for part in unread:
                self._outline.feed(part)
        except Unreadable as error:
            raise FrameGarbled from error
