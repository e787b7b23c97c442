"""Find the structure of a JSON object while its bytes pass, in chunks of any size.

Python's json needs the whole document, and holds the interpreter until it has built all values.
Here each byte is looked at once, by expressions that never backtrack (`grammar.py`), and no values
are built. A run of scalars costs 50 to 150 ns a value, an object or array 2 us. The scanner holds a
tail of a few KiB, an entry for each open container, and the findings asked for.

The rule: it accepts only what `json.loads` accepts too. The grammar is checked to the last byte,
numbers are in range, keys and strings are well-formed, and on request everything must be UTF-8.

A chunk may end anywhere. A token cut there (a number, a key, a short string) is read again with the
next chunk; only inside a long string or whitespace does the scanner keep its position. An unused
tail is not read again before it has doubled, so tiny chunks cost no more than others.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable
from typing import Final

from ollama_gateway.wire.body import JSON_WHITESPACE
from ollama_gateway.wire.findings import Findings, Opened
from ollama_gateway.wire.grammar import (
    ELEMENTS,
    LITERAL,
    MEMBER,
    MEMBERS,
    STRING,
    STRING_REST,
    WHITESPACE,
    commas,
    is_in_range,
    needs_range_check,
)
from ollama_gateway.wire.structure import LONG_STRING, MAX_KEY_LENGTH, Unreadable

_BROKEN: Final = "is not valid JSON"
_KEY_TOO_LONG: Final = "has a field name that is too long"
_QUOTE: Final = '"'
_OBJECT: Final = ord("{")
_COMMA: Final = ord(",")
_NO_KEY: Final = (-1, -1)
_CLOSERS: Final = {True: ord("}"), False: ord("]")}
_LONGEST_ESCAPE: Final = 6


class Scanner:
    """Scans one object: `feed` its chunks in order, then `finish`.

    Args:
        found: takes the findings and sets the limits.
        checks_text: whether to raise Unreadable for bytes that are not UTF-8.

    """

    def __init__(self, found: Findings, *, checks_text: bool = False) -> None:
        self.found = found
        self.has_begun = False
        """Whether anything but whitespace has come."""
        self.is_complete = False
        """Whether the object has ended; only whitespace may follow."""
        self._decoder = codecs.getincrementaldecoder("utf-8")() if checks_text else None
        self._state: Callable[[bytes, int], int] = self._outermost
        self._path: list[Opened] = []
        """The open containers."""
        self._tail, self._tail_at, self._wanted = b"", 0, 0
        """The unused bytes, their offset, and the number of bytes needed for another attempt."""
        self._is_last = False
        self._key, self._name = _NO_KEY, b""
        """Offsets of the key before the next value; its bytes, in the outermost object."""
        self._text_at: int | None = None
        """Offset of the long string that the last chunk ended in."""
        self._is_key = False
        """Whether that string is a key."""

    def feed(self, chunk: bytes) -> None:
        """Scan the next chunk, at most 64 KiB lest other tasks wait. Raises Unreadable."""
        self._check_text(chunk)
        self._tail += chunk
        if len(self._tail) >= self._wanted:
            self._scan()

    def finish(self) -> None:
        """End the document; raises Unreadable if it is incomplete."""
        self._check_text(b"", is_last=True)
        self._is_last = True
        self._scan()
        if not self.is_complete:
            raise Unreadable(_BROKEN)

    def _check_text(self, chunk: bytes, *, is_last: bool = False) -> None:
        try:
            if self._decoder is not None:
                self._decoder.decode(chunk, is_last)
        except UnicodeDecodeError:
            raise Unreadable("must be UTF-8") from None

    def _scan(self) -> None:
        data, at, reached = self._tail, 0, 0
        while at >= 0:
            reached = at
            if reached < len(data) and data[reached] in JSON_WHITESPACE and self._text_at is None:
                reached = self._skip_whitespace(data, reached)
            at = self._state(data, reached) if reached < len(data) else -1
        reached_at = self._tail_at + reached
        self.found.keep_until(data, self._tail_at, reached_at)
        self._tail, self._tail_at = data[reached:], reached_at
        self._wanted = 2 * len(self._tail)

    def _skip_whitespace(self, data: bytes, at: int) -> int:
        end = WHITESPACE.match(data, at).end()  # type: ignore[union-attr]  # it may be empty
        self.found.omit_whitespace(self._tail_at + at, self._tail_at + end)
        return end

    # The states. Each takes the bytes and an offset, which is at a byte that is no whitespace, and
    # returns the offset reached: -1 if it needs more bytes.

    def _outermost(self, data: bytes, at: int) -> int:
        self.has_begun = True
        if data[at] != ord("{"):
            raise Unreadable("must be a JSON object")
        return self._open(data, at)

    def _first(self, data: bytes, at: int) -> int:
        """Scan the first element or member, or the end of an empty container."""
        if data[at] == _CLOSERS[self._path[-1][0]]:
            return self._close(data, at)
        self._state = self._items()
        return self._state(data, at)

    def _elements(self, data: bytes, at: int) -> int:
        if self.found.cutting is not None:
            self.found.may_cut(self.found.cutting, self._tail_at + at, self._path)
        match = ELEMENTS.match(data, at)
        return self._after_run(data, at, match)  # type: ignore[arg-type]  # it may be empty

    def _inner_members(self, data: bytes, at: int) -> int:
        if self.found.cutting is not None:
            self.found.may_cut(self.found.cutting, self._tail_at + at, self._path)
        match = MEMBERS.match(data, at)
        if match["open"]:  # type: ignore[index]  # it may be empty
            self._take_key(data, *match.span("key"))  # type: ignore[union-attr]
        return self._after_run(data, at, match)  # type: ignore[arg-type]

    def _after_run(self, data: bytes, at: int, match: re.Match[bytes]) -> int:
        end, run, last = match.end(), match.start("run"), match.lastgroup
        if run > at and self.found.limits.values is not None:
            self.found.count(commas(data[at:run]))
        if last == "open":
            return self._open(data, end - 1)
        if last == "close":
            self.found.count(1)
            return self._close(data, end - 1)
        return end if end > at else self._singly(data, at)

    def _members(self, data: bytes, at: int) -> int:
        """Scan one member of the outermost object."""
        if self.found.cutting is not None:
            self.found.may_cut(self.found.cutting, self._tail_at + at, self._path)
        match = MEMBER.match(data, at)
        if match is None:
            return self._singly(data, at)
        self._take_key(data, *match.span("key"))
        if match["open"]:
            return self._open(data, match.end() - 1)
        start, end = match.span("scalar")
        self._begin_member(data, start)
        return self._end_value(data, end)

    def _colon(self, data: bytes, at: int) -> int:
        if data[at] != ord(":"):
            raise Unreadable(_BROKEN)
        self._state = self._value
        return at + 1

    def _value(self, data: bytes, at: int) -> int:
        if data[at] in b"[{":
            return self._open(data, at)
        return self._scalar(data, at)

    def _next(self, data: bytes, at: int) -> int:
        """Scan the comma or bracket behind a value."""
        if data[at] == _COMMA:
            self._state = self._items()
            return at + 1
        if data[at] != _CLOSERS[self._path[-1][0]]:
            raise Unreadable(_BROKEN)
        return self._close(data, at)

    def _nothing(self, _data: bytes, _at: int) -> int:
        raise Unreadable(_BROKEN)

    # Single tokens that no run takes: long, cut by the end of the chunk, or invalid.

    def _singly(self, data: bytes, at: int) -> int:
        if len(data) - at < self.found.long and not self._is_last:
            return -1
        if not self._path[-1][0]:
            return self._scalar(data, at)
        if data[at] != ord(_QUOTE):
            raise Unreadable(_BROKEN)
        if (match := STRING.match(data, at)) is None:
            return self._broken_key(data, at)
        self._take_key(data, *match.span())
        self._state = self._colon
        return match.end()

    def _scalar(self, data: bytes, at: int) -> int:
        is_text = data[at] == ord(_QUOTE)
        match = (STRING if is_text else LITERAL).match(data, at)
        if match is None and not is_text:
            if self._is_last or len(data) - at > 2 * LONG_STRING:
                raise Unreadable(_BROKEN)
            return -1
        if match is not None and not is_text and needs_range_check(match):
            self.found.count_checked_number(is_in_range=is_in_range(match))
        if len(self._path) == 1:
            self._begin_member(data, at)
        return self._begin_text(at) if match is None else self._end_value(data, match.end())

    def _broken_key(self, data: bytes, at: int) -> int:
        if len(self._path) > 1:
            return self._begin_text(at, is_key=True)
        if len(data) - at > MAX_KEY_LENGTH:
            raise Unreadable(_KEY_TOO_LONG)
        return -1

    def _begin_text(self, at: int, *, is_key: bool = False) -> int:
        self._text_at, self._is_key = self._tail_at + at, is_key
        self._state = self._text
        return at + 1

    def _text(self, data: bytes, at: int) -> int:
        """Scan the rest of a long string."""
        end = STRING_REST.match(data, at).end()  # type: ignore[union-attr]  # it may be empty
        self.found.add_text(data[at:end])
        if end == len(data):
            return end
        if data[end] == ord(_QUOTE):
            return self._end_text(data, end + 1)
        if data[end] != ord("\\") or len(data) - end >= _LONGEST_ESCAPE or self._is_last:
            raise Unreadable(_BROKEN)
        return end if end > at else -1

    def _end_text(self, data: bytes, end: int) -> int:
        start, self._text_at = self._text_at or 0, None
        self.found.omit_text(start, self._tail_at + end, is_key=self._is_key)
        if not self._is_key:
            return self._end_value(data, end)
        self._key = start, self._tail_at + end
        self._state = self._colon
        return end

    # Steps that the states share.

    def _take_key(self, data: bytes, start: int, end: int) -> None:
        self._key = self._tail_at + start, self._tail_at + end
        if len(self._path) == 1:
            if end - start > MAX_KEY_LENGTH:
                raise Unreadable(_KEY_TOO_LONG)
            self._name = data[start:end]

    def _begin_member(self, data: bytes, at: int) -> None:
        self.found.begin(self._name, self._key[0], self._tail_at + at, chr(data[at]))

    def _end_value(self, data: bytes, end: int) -> int:
        """Note that a scalar or a container has ended."""
        self.found.count(1)
        if len(self._path) == 1:
            self.found.end(data, self._tail_at, self._tail_at + end)
        self._key, self._state = _NO_KEY, self._next
        return end

    def _open(self, data: bytes, at: int) -> int:
        if len(self._path) == 1:
            self._begin_member(data, at)
        self.found.count_container()
        if len(self._path) == self.found.limits.depth:
            raise Unreadable("is nested too deeply")
        self._path.append((data[at] == _OBJECT, *self._key))
        self._key = _NO_KEY
        self._state = self._first
        return at + 1

    def _close(self, data: bytes, at: int) -> int:
        self._path.pop()
        if self._path:
            return self._end_value(data, at + 1)
        self.found.count(1)
        self.found.closed_at = self._tail_at + at
        self.is_complete, self._state = True, self._nothing
        return at + 1

    def _items(self) -> Callable[[bytes, int], int]:
        """Return the state that expects an element or a member."""
        if not self._path[-1][0]:
            return self._elements
        return self._members if len(self._path) == 1 else self._inner_members
