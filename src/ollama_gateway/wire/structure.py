"""What a scanner finds in a JSON object, and what it is told to look for.

Offsets count from the document's first byte.
"""

from __future__ import annotations

from typing import Final

import attrs

from ollama_gateway.wire.body import MAX_DEPTH

LONG_STRING: Final = 4 * 1024
"""Bytes of a string from which a piece may end in it."""
MAX_KEY_LENGTH: Final = 1024
"""Bytes of a key of the outermost object, in its quotes."""


class Unreadable(Exception):
    """A document that may not pass; the text goes on where "the request body" begins."""


@attrs.frozen
class DocumentLimits:
    """What a document may have at most; None for as much as comes."""

    containers: int | None = None
    """Objects and arrays."""
    values: int | None = None
    """Containers and scalars; keys are none."""
    members: int | None = None
    """Of the outermost object."""
    depth: int = MAX_DEPTH
    """Containers inside each other, the outermost counted."""


@attrs.frozen
class Cutting:
    """How a document is taken apart: bytes between two cuts, omissions not counted.

    A cut comes late by up to one piece and `LONG`.
    """

    shallow: int = 32 * 1024
    """Where a member of the outermost object, or an element of such a member, begins."""
    deep: int = 128 * 1024
    """Anywhere."""


@attrs.define
class TopLevelMember:
    """One member of the outermost object."""

    key: str
    key_start: int
    start: int
    """Where its value begins."""
    kind: str
    """The value's first character: a quote, a bracket, a digit, a minus, or a word's letter."""
    end: int = -1
    """Behind the value's last byte; -1 while it passes."""
    raw: bytes | None = attrs.field(default=None, repr=False)
    """The value's bytes, once it has passed and where it is short enough to be kept."""


@attrs.frozen
class Container:
    """An open container, and where the key in front of it stands, if there is one."""

    is_object: bool
    key_start: int = -1
    key_end: int = -1


@attrs.frozen
class Cut:
    """A place before a key or an element where the document can be taken apart."""

    at: int
    path: tuple[Container, ...]
    """The containers that are open there, the outermost first."""


@attrs.frozen
class Omission:
    """A long string with its quotes, or a long gap; who reads the structure can leave it out."""

    start: int
    end: int
    is_key: bool = False
    size: int = 0
    """UTF-8 bytes of the string's text; a lone surrogate has three."""
    printed: int = 0
    """Bytes of that text as JSON without its quotes, nothing escaped that need not be."""
