"""The scanner's limits, and the structure that it finds in a JSON object.

Offsets count from the document's first byte.
"""

from __future__ import annotations

from typing import Final

import attrs

from ollama_gateway.wire.body import MAX_DEPTH

LONG_STRING: Final = 4 * 1024
"""Bytes of a string from which the scanner may stop inside it and go on with the next chunk."""
MAX_KEY_LENGTH: Final = 1024
"""Bytes of a key of the outermost object, quotes included."""


class Unreadable(Exception):
    """The document is refused. The message continues "the request body ..."."""


@attrs.frozen
class DocumentLimits:
    """The most that a document may hold; None sets no limit."""

    containers: int | None = None
    """Objects and arrays."""
    values: int | None = None
    """Containers and scalars, without keys."""
    members: int | None = None
    """Members of the outermost object."""
    depth: int = MAX_DEPTH
    """Nesting depth of containers, the outermost included."""


@attrs.frozen
class Cutting:
    """Where a document is cut: after how many bytes since the last cut, without omissions.

    A cut can come late by up to one chunk and `LONG_STRING`.
    """

    shallow: int = 32 * 1024
    """Bytes before a cut at a member of the outermost object, or at an element of such a member."""
    deep: int = 128 * 1024
    """Bytes before a cut anywhere."""


@attrs.define
class TopLevelMember:
    """One member of the outermost object."""

    key: str
    key_start: int
    start: int
    """Where the value begins."""
    kind: str
    """The value's first character: a quote, bracket, digit, minus sign or letter."""
    end: int = -1
    """The offset after the value's last byte; -1 until it has passed."""
    raw: bytes | None = attrs.field(default=None, repr=False)
    """The value's bytes, after it has passed and if it is short enough to keep."""


@attrs.frozen
class Container:
    """An open container, and the offsets of the key before it, if it has one."""

    is_object: bool
    key_start: int = -1
    key_end: int = -1


@attrs.frozen
class Cut:
    """A place before a key or an element where the document can be divided."""

    at: int
    path: tuple[Container, ...]
    """The containers open there, the outermost first."""


@attrs.frozen
class Omission:
    """A long string with its quotes, or long whitespace, which readers can leave out."""

    start: int
    end: int
    is_key: bool = False
    size: int = 0
    """UTF-8 bytes of the string's text; three for a lone surrogate."""
    printed: int = 0
    """Bytes of that text as JSON without quotes, with only the necessary escapes."""
