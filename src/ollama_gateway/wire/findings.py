"""What a scanner has found so far: counted, limited, and kept where it was asked for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import starmap

import attrs

from ollama_gateway.wire.structure import (
    LONG,
    Container,
    Cut,
    Cutting,
    Limits,
    Member,
    Omission,
    Unreadable,
)

Opened = tuple[bool, int, int]
"""The fields of a `Container`, which are made into one only where it is kept."""


@attrs.define(eq=False)
class Findings:
    """Filled by the scanner; all places count from the document's first byte."""

    limits: Limits = attrs.field(factory=Limits)
    keep: int = 0
    """Bytes of a value of the outermost object up to which `Member.raw` holds it."""
    cutting: Cutting | None = None
    long: int = LONG
    """Bytes of a string from which a piece may end in it, and from which it is an omission."""
    members: list[Member] = attrs.field(factory=list, init=False)
    """Of the outermost object, as they come, the last perhaps unfinished."""
    containers: int = attrs.field(default=0, init=False)
    values: int = attrs.field(default=0, init=False)
    """Exact only where they are limited."""
    cuts: list[Cut] = attrs.field(factory=list, init=False)
    omissions: list[Omission] = attrs.field(factory=list, init=False)
    _odd_numbers: int = attrs.field(default=0, init=False)
    _raw: bytearray | None = attrs.field(default=None, init=False, repr=False)
    _raw_end: int = attrs.field(default=0, init=False)
    _cut_at: int = attrs.field(default=0, init=False)
    _omitted: int = attrs.field(default=0, init=False)
    """Bytes of the omissions behind the last cut."""

    def count(self, values: int) -> None:
        """So many more values have passed."""
        self.values += values
        if self.limits.values is not None and self.values > self.limits.values:
            raise Unreadable(f"has more than {self.limits.values} values: send fewer at once")

    def count_container(self) -> None:
        """One more has begun."""
        self.containers += 1
        if self.limits.containers is not None and self.containers > self.limits.containers:
            raise Unreadable(
                f"has more than {self.limits.containers} objects and arrays: send fewer at once, or"
                " raise server.max_json_containers"
            )

    def count_odd_number(self, *, is_in_range: bool) -> None:
        """One that no run takes; it costs what a container does, so it is limited as one."""
        if not is_in_range:
            raise Unreadable("has a number out of range")
        self._odd_numbers += 1
        if self.limits.containers is not None and self._odd_numbers > self.limits.containers:
            raise Unreadable("has too many numbers of an odd form: write them out")

    def begin(self, name: bytes, key_start: int, start: int, kind: str) -> None:
        """A member's value begins; `name` is its key as it stands there."""
        if len(self.members) == self.limits.members:
            raise Unreadable(f"has more than {self.limits.members} fields")
        key = json.loads(name.decode("utf-8", "replace"))
        self.members.append(Member(key, key_start, start, kind))
        self._raw, self._raw_end = bytearray() if self.keep else None, start

    def end(self, data: bytes, data_at: int, end: int) -> None:
        """The last member's value has ended at `end`; see `keep_until`."""
        self.keep_until(data, data_at, end)
        self.members[-1].end = end
        self.members[-1].raw = None if self._raw is None else bytes(self._raw)
        self._raw = None

    def keep_until(self, data: bytes, data_at: int, end: int) -> None:
        """Take what comes of a value that is kept, from the bytes that begin at `data_at`."""
        if self._raw is not None:
            self._raw += data[self._raw_end - data_at : end - data_at]
            self._raw_end = end
            if len(self._raw) > self.keep:
                self._raw = None

    def may_cut(self, cutting: Cutting, at: int, path: Sequence[Opened]) -> None:
        """Cut here if it is time."""
        size = at - self._cut_at - self._omitted
        is_shallow = len(path) <= 2  # noqa: PLR2004  # the outermost object, or what it holds
        if size >= cutting.deep or (is_shallow and size >= cutting.shallow):
            self.cuts.append(Cut(at, tuple(starmap(Container, path))))
            self._cut_at, self._omitted = at, 0

    def omit(self, start: int, end: int, *, is_key: bool = False) -> None:
        """A string or a gap has passed."""
        if self.cutting is not None and end - start >= self.long:
            self.omissions.append(Omission(start, end, is_key))
            self._omitted += end - start
