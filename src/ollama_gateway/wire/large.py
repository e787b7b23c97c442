"""A request's body that is too large to be read in one go, and its fields.

Up to `IN_PLACE` bytes a body is read by Python's json, unless it is of many small values. A larger
one is scanned while it arrives (`scanner.py`), in steps of a few KiB between which others have
their turn, and what breaks a limit is refused before the rest has come. Nothing is ever made of the
whole: its fields are read from where they stand, what they hold by parts (`parts.py`), and what is
written into it are edits, which are put in place when it leaves.

Generators here do a bounded piece of work between two `yield`s; whoever drives them lets others run
there. They return what they have read.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator
from typing import Final, TypeAlias, TypeVar

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.wire.blocks import Blocks
from ollama_gateway.wire.body import (
    MAX_FIELDS,
    LongText,
    go_fold,
    invalid_body,
    parse,
    refuse_twice,
)
from ollama_gateway.wire.findings import Findings
from ollama_gateway.wire.scanner import Scanner
from ollama_gateway.wire.structure import (
    LONG_STRING,
    Cutting,
    DocumentLimits,
    TopLevelMember,
    Unreadable,
)

T = TypeVar("T")
Steps: TypeAlias = Generator[None, None, T]
"""Work in pieces that others need not wait for, and its result."""

IN_PLACE: Final = 256 * 1024
"""Bytes up to which a body is read in one go."""
DENSE_VALUES: Final = 20_000
DENSE_CONTAINERS: Final = 10_000
"""How many are read in one go, about: an object, or a number with a point, takes 0.5 us."""
MAX_VALUES: Final = 8_000_000
"""In a large body: 28 MB of token ids are five million."""
SCAN_STEP: Final = 4 * 1024
"""Bytes that are scanned at once: at most 3 ms, which takes a bracket every other byte."""
MAX_OPTIONS_SIZE: Final = 64 * 1024
"""Bytes of an object of options."""

_CUTTING: Final = Cutting()
_OPTIONS: Final = frozenset({"options", "stream_options"})
"""Fields whose values are read as they are; of other arrays and objects only the parts."""
_FIELDS_AT_ONCE: Final = 50

Edit: TypeAlias = tuple[int, int, bytes]
"""What is replaced: from where, to where, by what."""


@attrs.frozen(eq=False)
class Large:
    """A body that is good JSON, as it came, and what is to be changed in it."""

    blocks: Blocks
    found: Findings = attrs.field(repr=False)
    edits: tuple[Edit, ...] = attrs.field(default=(), repr=False)

    def __len__(self) -> int:
        """Bytes with the edits."""
        added = sum(len(new) - (end - start) for start, end, new in self.edits)
        return len(self.blocks) + added

    def chunks(self, size: int) -> Iterator[bytes]:
        """Its bytes with the edits, in pieces of at most `size`, but for what an edit puts in."""
        rest = 0
        for start, end, new in sorted(self.edits, key=lambda edit: edit[0]):
            yield from self.blocks.chunks(rest, start, size)
            yield new
            rest = end
        yield from self.blocks.chunks(rest, len(self.blocks), size)

    def value(self, member: TopLevelMember) -> bytes:
        """The value of a field as it stands now."""
        place = member.start, member.end
        news = [new for start, end, new in self.edits if (start, end) == place]
        return news[0] if news else self.blocks.read(*place)

    def edited(self, edits: list[Edit]) -> Large:
        """The same with more edits, which are of whole values; the last one of a value counts."""
        places = {(start, end) for start, end, _ in edits if start < end}
        kept = [edit for edit in self.edits if edit[:2] not in places]
        return attrs.evolve(self, edits=(*kept, *edits))


RequestBody: TypeAlias = bytes | Large


def chunks_of(body: RequestBody, size: int) -> Iterator[bytes]:
    """A body as it is to be sent, in pieces of at most about `size` bytes."""
    if isinstance(body, Large):
        yield from body.chunks(size)
        return
    for start in range(0, len(body), size):
        yield body[start : start + size]


def request_limits(containers: int) -> DocumentLimits:
    """What a large body may have at most; `containers` is `server.max_json_containers`."""
    return DocumentLimits(containers, MAX_VALUES, MAX_FIELDS)


@attrs.define
class BodyReader:
    """Takes a body as it comes, and scans it where it is large."""

    limits: DocumentLimits
    cutting: Cutting = _CUTTING
    in_place: int = IN_PLACE
    step: int = SCAN_STEP
    long: int = LONG_STRING
    _blocks: Blocks = attrs.field(factory=Blocks, init=False)
    _scanner: Scanner | None = attrs.field(default=None, init=False)
    _scanned: int = attrs.field(default=0, init=False)

    @property
    def size(self) -> int:
        """Bytes that have come."""
        return len(self._blocks)

    def add(self, piece: bytes) -> None:
        """Take one more piece; then `work`, where it `has_work`."""
        self._blocks.append(piece)

    @property
    def has_work(self) -> bool:
        """Whether something can be scanned."""
        return len(self._blocks) > self.in_place

    def work(self) -> Steps[None]:
        """Scan what has come; raises BadRequest where nothing good can come of it any more."""
        # Whole steps only: what is found does not depend on the pieces.
        yield from self._scan(len(self._blocks) - self.step)

    def end(self) -> Steps[RequestBody]:
        """All of it has come; raises BadRequest where it is large and no JSON object."""
        if len(self._blocks) <= self.in_place:
            body = self._blocks.read(0, len(self._blocks))
            if not is_dense(body, self.limits.containers):
                return body
        yield from self._scan(len(self._blocks) - 1)
        scanner = self._scanner_now()
        if not scanner.has_begun:
            raise invalid_body("missing request body")
        try:
            scanner.finish()
        except Unreadable as problem:
            raise _refused(problem) from None
        return Large(self._blocks, scanner.found)

    def _scan(self, last: int) -> Steps[None]:
        """Scan the steps that begin at `last` or before."""
        scanner = self._scanner_now()
        while self._scanned <= last:
            yield
            end = min(self._scanned + self.step, len(self._blocks))
            try:
                scanner.feed(self._blocks.read(self._scanned, end))
            except Unreadable as problem:
                raise _refused(problem) from None
            self._scanned = end

    def _scanner_now(self) -> Scanner:
        """Made where it is needed, which is for few bodies."""
        if self._scanner is None:
            found = Findings(self.limits, cutting=self.cutting, long=self.long)
            self._scanner = Scanner(found, checks_text=True)
        return self._scanner


def is_dense(body: bytes | bytearray, containers: int | None) -> bool:
    """Whether it may have more than is read in one go; what stands in strings counts too.

    Args:
        body: at most `IN_PLACE` bytes.
        containers: how many it may have at all; None: any number.

    """
    most = min(DENSE_CONTAINERS, containers or DENSE_CONTAINERS)
    if len(body) <= most:
        return False
    found = body.count(b"[") + body.count(b"{")
    return found > most or body.count(b",") > DENSE_VALUES


def fields_of(body: RequestBody) -> Steps[dict[str, object]]:
    """The fields of a body, as `parse` reads them: arrays and objects of a large one stand empty.

    What they hold is read by parts. Options are there whole, and a text that is long is `LongText`.
    Raises BadRequest where it is not unambiguous.
    """
    if isinstance(body, bytes):
        return parse(body)
    document: dict[str, object] = {}
    texts = {omission.start: omission for omission in body.found.omissions}
    for place, member in enumerate(body.found.members):
        if place % _FIELDS_AT_ONCE == 0:
            yield
        text = texts.get(member.start)
        document[member.key] = (
            _field(body, member) if text is None else LongText.of(text.size, text.printed)
        )
    refuse_twice([member.key for member in body.found.members])
    return document


def _field(body: Large, member: TopLevelMember) -> object:
    name = go_fold(member.key)
    if member.kind in "[{" and name not in _OPTIONS:
        return [] if member.kind == "[" else {}
    if member.end - member.start > MAX_OPTIONS_SIZE:
        raise invalid_body(f"{name} must have at most 64 KiB")
    return json.loads(body.blocks.read(member.start, member.end))


def _refused(problem: Unreadable) -> BadRequest:
    return invalid_body(f"the request body {problem}")
