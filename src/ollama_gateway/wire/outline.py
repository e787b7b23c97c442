"""Read a few members of a large JSON document while its bytes pass.

At any time the outline holds the values that a parser would give these members if the document
ended there; of several members with one name the last counts.
"""

from __future__ import annotations

import json
from typing import Final

from ollama_gateway.wire.findings import Findings
from ollama_gateway.wire.scanner import Scanner
from ollama_gateway.wire.structure import DocumentLimits, TopLevelMember, Unreadable

SLICE: Final = 16 * 1024
"""Bytes that are read at once: even brackets alone take only 11 ms."""
MAX_KEPT_VALUE: Final = 4 * 1024
"""Bytes of a value that is kept; an empty object stands for a longer one."""
MAX_MEMBERS: Final = 200
"""Members of the outermost object; Ollama writes up to 20."""
UNREAD: Final[list[object]] = []
"""Stands for an array with elements, which are not read; told from others by its identity."""
_EMPTY: Final[dict[str, object]] = {"{": {}, "[": UNREAD, '"': "", "n": None}
"""Values of the right kind, by the first character; 0 stands for all others."""


class Outline:
    """Reads one document: `feed` its bytes in order, then `finish`.

    Args:
        relevant_keys: the names of the members to keep.

    """

    def __init__(self, relevant_keys: frozenset[str]) -> None:
        self._relevant_keys = relevant_keys
        found = Findings(DocumentLimits(members=MAX_MEMBERS), keep=MAX_KEPT_VALUE)
        self._scanner = Scanner(found)

    def feed(self, chunk: bytes) -> None:
        """Read on, at most `SLICE` bytes; raises Unreadable if the document is no JSON object."""
        self._scanner.feed(chunk)

    def finish(self) -> None:
        """End the document; raises Unreadable if it is incomplete."""
        self._scanner.finish()

    @property
    def is_complete(self) -> bool:
        """Return whether the last brace has passed."""
        return self._scanner.is_complete

    @property
    def members(self) -> list[TopLevelMember]:
        """Return all members that have begun."""
        return self._scanner.found.members

    @property
    def document(self) -> dict[str, object]:
        """Return the relevant members that have ended."""
        return {member.key: _value(member) for member in self.members if self._is_relevant(member)}

    @property
    def sketch(self) -> dict[str, object]:
        """Return `document` and all other members that have begun, with empty values."""
        return {member.key: _stand_in(member) for member in self.members} | self.document

    def _is_relevant(self, member: TopLevelMember) -> bool:
        return member.key in self._relevant_keys and member.end >= 0


def _stand_in(member: TopLevelMember) -> object:
    is_empty_array = member.kind == "[" and member.end - member.start == len("[]")
    return [] if is_empty_array else _EMPTY.get(member.kind, 0)


def _value(member: TopLevelMember) -> object:
    if member.raw is None:
        return {}
    try:
        return json.loads(member.raw.decode("utf-8", "replace"))
    except ValueError:
        raise Unreadable("is not valid JSON") from None
