"""The findings of a scanner: counted, limited, and kept where the caller asked for them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import starmap
from typing import Final

import attrs

from ollama_gateway.wire.structure import (
    LONG_STRING,
    Container,
    Cut,
    Cutting,
    DocumentLimits,
    Omission,
    TopLevelMember,
    Unreadable,
)

_LETTERS: Final = bytes(range(0x80)) + b"x" * 0x80
_HIGH: Final = ("\ud800", "\udbff")
_LOW: Final = ("\udc00", "\udfff")
"""The halves of a surrogate pair, which JSON can write as two escapes."""

Opened = tuple[bool, int, int]
"""The fields of a `Container`, which is built only where it is kept."""


@attrs.define(eq=False)
class Findings:
    """Filled by the scanner; all offsets count from the document's first byte."""

    limits: DocumentLimits = attrs.field(factory=DocumentLimits)
    keep: int = 0
    """Bytes up to which `TopLevelMember.raw` holds a value."""
    cutting: Cutting | None = None
    long: int = LONG_STRING
    """Bytes of a string from which a chunk may end in it, and from which it is an omission."""
    members: list[TopLevelMember] = attrs.field(factory=list, init=False)
    """Members of the outermost object in order; the last may be incomplete."""
    closed_at: int = attrs.field(default=-1, init=False)
    """Offset of the outermost object's closing brace, after it has passed."""
    containers: int = attrs.field(default=0, init=False)
    values: int = attrs.field(default=0, init=False)
    """Exact only if limited."""
    cuts: list[Cut] = attrs.field(factory=list, init=False)
    omissions: list[Omission] = attrs.field(factory=list, init=False)
    _checked_numbers: int = attrs.field(default=0, init=False)
    _raw: bytearray | None = attrs.field(default=None, init=False, repr=False)
    _raw_end: int = attrs.field(default=0, init=False)
    _size: int = attrs.field(default=0, init=False)
    _printed: int = attrs.field(default=0, init=False)
    """Sizes of the current long string; see `Omission`."""
    _is_high: bool = attrs.field(default=False, init=False)
    """Whether the string so far ends in the first half of a surrogate pair."""
    _cut_at: int = attrs.field(default=0, init=False)
    _omitted: int = attrs.field(default=0, init=False)
    """Bytes of the omissions since the last cut."""

    def count(self, values: int) -> None:
        """Count values; raises Unreadable over the limit."""
        self.values += values
        if self.limits.values is not None and self.values > self.limits.values:
            raise Unreadable(f"has more than {self.limits.values} values: send fewer at once")

    def count_container(self) -> None:
        """Count one object or array; raises Unreadable over the limit."""
        self.containers += 1
        if self.limits.containers is not None and self.containers > self.limits.containers:
            raise Unreadable(
                f"has more than {self.limits.containers} objects and arrays: send fewer at once, or"
                " raise server.max_json_containers"
            )

    def count_checked_number(self, *, is_in_range: bool) -> None:
        """Count a number that no run takes; it costs as much as a container does."""
        if not is_in_range:
            raise Unreadable("has a number out of range")
        self._checked_numbers += 1
        if self.limits.containers is not None and self._checked_numbers > self.limits.containers:
            raise Unreadable("has too many numbers in an unusual form: write them out")

    def begin(self, name: bytes, key_start: int, start: int, kind: str) -> None:
        """Begin a member's value; `name` is its key as written, in quotes."""
        if len(self.members) == self.limits.members:
            raise Unreadable(f"has more than {self.limits.members} fields")
        key = json.loads(name.decode("utf-8", "replace"))
        self.members.append(TopLevelMember(key, key_start, start, kind))
        self._raw, self._raw_end = bytearray() if self.keep else None, start

    def end(self, data: bytes, data_at: int, end: int) -> None:
        """End the last member's value at `end`; see `keep_until`."""
        self.keep_until(data, data_at, end)
        self.members[-1].end = end
        self.members[-1].raw = None if self._raw is None else bytes(self._raw)
        self._raw = None

    def keep_until(self, data: bytes, data_at: int, end: int) -> None:
        """Keep the bytes of the current value up to `end`; `data` begins at `data_at`."""
        if self._raw is not None:
            self._raw += data[self._raw_end - data_at : end - data_at]
            self._raw_end = end
            if len(self._raw) > self.keep:
                self._raw = None

    def may_cut(self, cutting: Cutting, at: int, path: Sequence[Opened]) -> None:
        """Cut here if enough bytes have passed since the last cut."""
        size = at - self._cut_at - self._omitted
        is_shallow = len(path) <= 2  # noqa: PLR2004  # the outermost object, or what it holds
        if size >= cutting.deep or (is_shallow and size >= cutting.shallow):
            self.cuts.append(Cut(at, tuple(starmap(Container, path))))
            self._cut_at, self._omitted = at, 0

    def add_text(self, text: bytes) -> None:
        """Add a part of a long string; it contains no incomplete escape."""
        if self.cutting is None or not text:
            return
        size = printed = len(text)
        is_high = False
        if b"\\" in text:
            # A byte beyond ASCII is in no escape: one letter per byte keeps the sizes and needs no
            # decoding.
            decoded = json.loads(b'"%b"' % text.translate(_LETTERS))
            size = len(decoded.encode("utf-8", "surrogatepass"))
            printed = (
                len(json.dumps(decoded, ensure_ascii=False).encode("utf-8", "surrogatepass")) - 2
            )
            if self._is_high and _LOW[0] <= decoded[0] <= _LOW[1]:
                # Two halves that meet form a pair, which is two bytes shorter.
                size, printed = size - 2, printed - 2
            is_high = _HIGH[0] <= decoded[-1] <= _HIGH[1]
        self._size, self._printed = self._size + size, self._printed + printed
        self._is_high = is_high

    def omit_text(self, start: int, end: int, *, is_key: bool) -> None:
        """End a long string."""
        if self.cutting is not None and end - start >= self.long:
            self._omit(Omission(start, end, is_key, self._size, self._printed))
        self._size, self._printed, self._is_high = 0, 0, False

    def omit_whitespace(self, start: int, end: int) -> None:
        """Note whitespace that has passed."""
        if self.cutting is not None and end - start >= self.long:
            self._omit(Omission(start, end))

    def _omit(self, omission: Omission) -> None:
        self.omissions.append(omission)
        self._omitted += omission.end - omission.start
