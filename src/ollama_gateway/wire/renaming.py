"""Write the name that the client asked for into an answer, in place of the model's own.

The name is spliced, and no other byte changes. In a stream it stands at the same offset in every
chunk, from the beginning or, in completions, from the end. So a chunk costs one search for
`"model"` (in a text its quotes would be escaped) and one comparison with the name that stood there
before. Only where that differs, as in the first chunk, are members read one by one.

Nothing here fails: a frame in which no name is found stays as it is.
"""

from __future__ import annotations

import json
import re
from typing import Final, TypeAlias

from ollama_gateway.wire.dialects.reading import MAX_PARSED_FRAME, json_object

HEAD: Final = MAX_PARSED_FRAME
"""Bytes of a document in which its name is looked for; the instructions may come before it."""
TAIL: Final = 4 * 1024
"""Bytes at the end of a whole answer in which it is looked for then: it may follow embeddings."""

_DECODER: Final = json.JSONDecoder()
_SEPARATOR: Final = re.compile(r"[ \t\r\n]*[:,]?[ \t\r\n]*")

_Found: TypeAlias = tuple[int, int, int]
"""Offsets of the key, the value and the value's end."""


class Renaming:
    """Renames the model in the frames of one answer.

    Args:
        name: the name to write.
        inside: the member whose object holds the name in some frames, if any.
        key: the member that holds it.

    """

    def __init__(self, name: str, inside: str | None = None, *, key: str = "model") -> None:
        self._name = json.dumps(name).encode()
        self._key, self._inside = key, inside
        self._quoted = b'"%b"' % key.encode()
        self._at = self._from_end = -1
        """Offset of the member in the frame that was read last, and what followed it."""
        self._old, self._new = b"", b""
        """Its bytes there, and with the name."""

    def frame(self, frame: bytes) -> bytes:
        """Return a frame of a stream, or the beginning of a document, with the name."""
        at = frame.find(self._quoted)
        if at < 0:
            return frame
        is_there = at == self._at or len(frame) - at == self._from_end
        if is_there and frame.startswith(self._old, at):
            return frame[:at] + self._new + frame[at + len(self._old) :]
        found = _find(frame[:HEAD], self._key, self._inside)
        if found is None:
            return frame
        at, value, end = found
        self._at, self._from_end = at, len(frame) - at
        self._old, self._new = frame[at:end], frame[at:value] + self._name
        return frame[:at] + self._new + frame[end:]

    def tail(self, rest: bytes) -> bytes:
        """Return the end of a document with the name, if it stands there in the outermost object.

        It does if only the `{` before it is missing to make an object of it and all that follows.
        """
        at = rest.rfind(self._quoted)
        members = b"{" + rest[at:]
        if at < 0 or json_object(members) is None:
            return rest
        found = _find(members, self._key, None)
        if found is None:
            return rest
        _, value, end = found
        return rest[: at + value - 1] + self._name + rest[at + end - 1 :]


class WholeRenaming:
    """Renames the model in a whole answer whose parts pass; holds back what may have the name."""

    def __init__(self, renaming: Renaming) -> None:
        self._renaming = renaming
        self._held = b""
        self._is_past_head = self._is_done = False

    def feed(self, part: bytes) -> bytes:
        """Take the next part, and return what can be sent."""
        if self._is_done:
            return part
        self._held += part
        if not self._is_past_head:
            if len(self._held) < HEAD:
                return b""
            self._is_past_head = True
            renamed = self._renaming.frame(self._held)
            if renamed is not self._held:
                self._is_done, self._held = True, b""
                return renamed
        sent, self._held = self._held[:-TAIL], self._held[-TAIL:]
        return sent

    def finish(self) -> bytes:
        """Return the rest."""
        if self._is_past_head:
            return self._renaming.tail(self._held)
        return self._renaming.frame(self._held)


def _find(data: bytes, key: str, inside: str | None) -> _Found | None:
    """Find a text under `key` in the first object, or in the object in its member `inside`."""
    text = data.decode("latin-1")  # one character a byte; the structure is ASCII
    try:
        return _member(text, text.index("{"), key, inside)
    except (ValueError, IndexError, RecursionError):  # it is cut off, or no JSON
        return None


def _member(text: str, start: int, key: str, inside: str | None) -> _Found | None:
    at = _after_separator(text, start + 1)
    while text[at] == '"':
        name, colon = _DECODER.raw_decode(text, at)
        value = _after_separator(text, colon)
        if name == inside and text[value] == "{" and (found := _member(text, value, key, None)):
            return found
        _, end = _DECODER.raw_decode(text, value)
        if name == key and text[value] == '"':
            return at, value, end
        at = _after_separator(text, end)
    return None


def _after_separator(text: str, position: int) -> int:
    return _SEPARATOR.match(text, position).end()  # type: ignore[union-attr]  # it may be empty
