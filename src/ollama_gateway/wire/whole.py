"""Hold a whole answer until it is known to be good, then pass it on as it arrives.

An answer of up to `PASS_ON_SIZE` bytes is held to its end, so one that fails before its end can be
fetched from another backend. A longer one is passed on as soon as a member begins that only a good
answer has. The closing brace is held back until the whole answer has arrived and is valid: no
client ever gets a complete document of a failed answer.

The meaning is read while the bytes pass: Python's json parses answers of a few KiB, and an outline
reads longer ones, because json holds the interpreter until it has read everything.
"""

from __future__ import annotations

from typing import ClassVar, Final

from ollama_gateway.wire.dialects import Dialect, Reading, Shape
from ollama_gateway.wire.dialects.reading import GARBLED, has_shape, json_object
from ollama_gateway.wire.frames import FrameGarbled, FrameTooLong
from ollama_gateway.wire.outline import SLICE, Outline
from ollama_gateway.wire.renaming import Renaming, WholeRenaming
from ollama_gateway.wire.structure import Unreadable

PASS_ON_SIZE: Final = 1024 * 1024
"""Bytes of an answer up to which it is held to its end."""
MAX_PASSED_ON: Final = 256 * 1024 * 1024
"""Bytes of an answer that is passed on: a batch of embeddings is the largest honest one."""
MAX_HELD: Final = 64 * 1024 * 1024
"""Bytes of an answer that is held: `/api/show` with the whole vocabulary is the largest."""
MAX_TRAILING_SPACE: Final = 64 * 1024
"""Bytes of whitespace after the end of an answer."""


class WholeAnswer:
    """Yields one JSON document as frames: its chunks as they arrive.

    Args:
        dialect: reads the answer.
        shape: members of which a good answer has at least one.
        is_kept: whether the caller needs the whole answer, so none is passed on early.
        renaming: renames the model, if the client asked for it by another name.

    """

    streamed: ClassVar[bool] = False

    def __init__(
        self,
        dialect: Dialect,
        shape: Shape,
        *,
        is_kept: bool = False,
        renaming: Renaming | None = None,
    ) -> None:
        self.is_ended = False
        """Whether the whole answer arrived; `reading` is final then."""
        self._dialect, self._shape = dialect, shape
        self._is_kept = is_kept
        self._renaming = WholeRenaming(renaming) if renaming is not None else None
        self._held: list[bytes] = []
        """The chunks that are held."""
        self._size = 0
        self._outline: Outline | None = None
        self._is_passing = False
        self._held_back = 0
        """Bytes held since the closing brace."""
        self._meaning = Reading()

    @property
    def reading(self) -> Reading:
        """Return the meaning of the answer so far."""
        if self.is_ended or self._outline is None:
            return self._meaning
        return self._dialect.interpret_body(self._outline.document)

    @property
    def is_good(self) -> bool:
        """Return whether the answer may be passed on: a good one has begun, and no error."""
        document = self._outline.sketch if self._outline is not None else {}
        has_begun = document.get("error") is None and has_shape(document, self._shape)
        return self._is_passing or (has_begun and not self._is_kept)

    def feed(self, data: bytes) -> list[bytes]:
        """Take at most `SLICE` bytes; raises FrameTooLong, FrameGarbled."""
        self._size += len(data)
        if self._size > (MAX_PASSED_ON if self._is_passing else MAX_HELD):
            raise FrameTooLong
        self._held.append(data)
        if self._size > SLICE or self._outline is not None:
            self._read_on()
        if self._size > PASS_ON_SIZE or self._is_passing:
            return self.pass_on()
        return []

    def pass_on(self) -> list[bytes]:
        """Return the held chunks of a good answer; nothing while they have to wait."""
        if self._outline is None:
            self._read_on()
        if self._outline is None or not self.is_good:
            return []
        if self._outline.is_complete:
            self._held_back += len(self._held[-1])
            if self._held_back > MAX_TRAILING_SPACE:
                raise FrameTooLong
            return []
        self._is_passing = True
        held, self._held = self._held, []
        return self._renamed(held)

    def finish(self) -> list[bytes]:
        """End the answer; return the chunks that were not passed on."""
        self.is_ended = True
        if self._outline is None:
            body = b"".join(self._held)
            self._meaning = self._meaning_of(json_object(body))
            return self._renamed([body], is_end=True) if body else []
        try:
            self._outline.finish()
            self._meaning = self._meaning_of(self._outline.sketch)
        except Unreadable:
            self._meaning = GARBLED
        return self._renamed(self._held, is_end=True)

    def _renamed(self, chunks: list[bytes], *, is_end: bool = False) -> list[bytes]:
        if self._renaming is None:
            return chunks
        sent = self._renaming.feed(b"".join(chunks))
        if is_end:
            sent += self._renaming.finish()
        return [sent] if sent else []

    def _meaning_of(self, document: dict[str, object] | None) -> Reading:
        """Return the meaning of the complete document, which is an error or has the shape."""
        if document is None:
            return GARBLED
        meaning = self._dialect.interpret_body(document)
        if meaning.error is None and not self._dialect.is_answer(document, self._shape):
            return GARBLED
        return meaning

    def _read_on(self) -> None:
        """Read the last chunk into the outline, or all held chunks if there was no outline yet."""
        unread = self._held[-1:]
        if self._outline is None:
            self._outline, unread = Outline(self._dialect.relevant_keys), self._held
        try:
            for chunk in unread:
                self._outline.feed(chunk)
        except Unreadable as error:
            raise FrameGarbled from error
