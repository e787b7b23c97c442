"""A request body that is too large to be read in one go, and its fields.

Python's json reads a body of up to `IN_PLACE` bytes, unless it has many small values. A larger one
is scanned while it arrives (`scanner.py`), in steps of a few KiB between which other tasks run, and
refused as soon as it breaks a limit. It is never parsed as a whole: fields are read in place, their
contents part by part (`parts.py`), and changes are edits that are applied while the body is sent.

Generators here do a bounded amount of work between two `yield`s; their driver lets other tasks run
there. They return their result.
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
    refuse_repeated_keys,
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
"""Work that yields so that other tasks can run, and its result."""

IN_PLACE: Final = 256 * 1024
"""Bytes up to which a body is read in one go."""
DENSE_VALUES: Final = 20_000
DENSE_CONTAINERS: Final = 10_000
"""Values and containers read in one go, roughly: an object or a decimal number takes 0.5 us."""
MAX_VALUES: Final = 8_000_000
"""Values in a large body: 28 MB of token ids are five million."""
SCAN_STEP: Final = 4 * 1024
"""Bytes scanned in one step: at most 3 ms, if every other byte is a bracket."""
MAX_OPTIONS_SIZE: Final = 64 * 1024
"""Bytes of an object in `_OPTIONS`."""

_CUTTING: Final = Cutting()
_OPTIONS: Final = frozenset({"options", "stream_options"})
"""Fields whose objects are read whole; other arrays and objects are read part by part."""
_SHORT_OBJECTS: Final = frozenset({"metadata"})
"""Fields whose values are read too if they are short."""
MAX_SHORT_OBJECT: Final = 4 * 1024
_FIELDS_AT_ONCE: Final = 50

Edit: TypeAlias = tuple[int, int, bytes]
"""A replacement: the start and end of the old bytes, and the new bytes."""


@attrs.frozen(eq=False)
class Large:
    """A body of valid JSON as it came, and the edits to make."""

    blocks: Blocks
    found: Findings = attrs.field(repr=False)
    edits: tuple[Edit, ...] = attrs.field(default=(), repr=False)

    def __len__(self) -> int:
        """Return the number of bytes with the edits."""
        added = sum(len(new) - (end - start) for start, end, new in self.edits)
        return len(self.blocks) + added

    def chunks(self, size: int) -> Iterator[bytes]:
        """Yield the bytes with the edits, in chunks of at most `size`; each edit is one chunk."""
        rest = 0
        for start, end, new in sorted(self.edits, key=lambda edit: edit[0]):
            yield from self.blocks.chunks(rest, start, size)
            yield new
            rest = end
        yield from self.blocks.chunks(rest, len(self.blocks), size)

    def value(self, member: TopLevelMember) -> bytes:
        """Return the value of a field with the edits."""
        place = member.start, member.end
        news = [new for start, end, new in self.edits if (start, end) == place]
        return news[0] if news else self.blocks.read(*place)

    def edited(self, edits: list[Edit]) -> Large:
        """Return the body with more edits of whole values; the last edit of a value counts."""
        places = {(start, end) for start, end, _ in edits if start < end}
        kept = [edit for edit in self.edits if edit[:2] not in places]
        return attrs.evolve(self, edits=(*kept, *edits))


RequestBody: TypeAlias = bytes | Large


def chunks_of(body: RequestBody, size: int) -> Iterator[bytes]:
    """Yield a body as it is sent, in chunks of at most about `size` bytes."""
    if isinstance(body, Large):
        yield from body.chunks(size)
        return
    for start in range(0, len(body), size):
        yield body[start : start + size]


def request_limits(containers: int) -> DocumentLimits:
    """Return the limits of a large body; `containers` is `server.max_json_containers`."""
    return DocumentLimits(containers, MAX_VALUES, MAX_FIELDS)


@attrs.define
class BodyReader:
    """Reads a body as it arrives, and scans it if it is large."""

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
        """Return the bytes received so far."""
        return len(self._blocks)

    def add(self, chunk: bytes) -> None:
        """Take the next chunk; call `work` afterwards if `has_work`."""
        self._blocks.append(chunk)

    @property
    def has_work(self) -> bool:
        """Return whether there is something to scan."""
        return len(self._blocks) > self.in_place

    def work(self) -> Steps[None]:
        """Scan the bytes received; raises BadRequest as soon as the body cannot be accepted."""
        # Only whole steps are scanned, so the findings do not depend on the chunks received.
        yield from self._scan(len(self._blocks) - self.step)

    def end(self) -> Steps[RequestBody]:
        """End the body; raises BadRequest if it is large and no JSON object."""
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
        """Create the scanner when it is needed; few bodies need one."""
        if self._scanner is None:
            found = Findings(self.limits, cutting=self.cutting, long=self.long)
            self._scanner = Scanner(found, checks_text=True)
        return self._scanner


def is_dense(body: bytes | bytearray, containers: int | None) -> bool:
    """Return whether a body may hold more than is read in one go; bytes in strings count too.

    Args:
        body: at most `IN_PLACE` bytes.
        containers: the limit of objects and arrays; None for no limit.

    """
    most = min(DENSE_CONTAINERS, containers or DENSE_CONTAINERS)
    if len(body) <= most:
        return False
    found = body.count(b"[") + body.count(b"{")
    return found > most or body.count(b",") > DENSE_VALUES


def fields_of(body: RequestBody) -> Steps[dict[str, object]]:
    """Read the fields of a body as `parse` does, but leave arrays and objects of a large one empty.

    Their contents are read part by part. Options are complete, and a long string is a `LongText`.
    Raises BadRequest if the body is ambiguous.
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
    refuse_repeated_keys([member.key for member in body.found.members])
    return document


def _field(body: Large, member: TopLevelMember) -> object:
    name = go_fold(member.key)
    if name in _SHORT_OBJECTS and member.end - member.start <= MAX_SHORT_OBJECT:
        return json.loads(body.blocks.read(member.start, member.end))
    if member.kind in "[{" and name not in _OPTIONS:
        return [] if member.kind == "[" else {}
    if member.end - member.start > MAX_OPTIONS_SIZE:
        raise invalid_body(f"{name} must have at most 64 KiB")
    return json.loads(body.blocks.read(member.start, member.end))


def _refused(problem: Unreadable) -> BadRequest:
    return invalid_body(f"the request body {problem}")
