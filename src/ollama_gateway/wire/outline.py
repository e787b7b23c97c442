"""A large JSON document in outline: the few members that mean something, found as its bytes pass.

What is found at any time is what a parser of the whole would give of these members, had the
document ended there: of several with one name the last counts.
"""

from __future__ import annotations

import json
from typing import Final

from ollama_gateway.wire.findings import Findings
from ollama_gateway.wire.scanner import Scanner
from ollama_gateway.wire.structure import DocumentLimits, TopLevelMember, Unreadable

SLICE: Final = 16 * 1024
"""Bytes that are read at once: nothing but brackets takes 11 ms."""
MAX_KEPT_VALUE: Final = 4 * 1024
"""Bytes of a value that is given as it is; for a longer one stands an empty object."""
MAX_MEMBERS: Final = 200
"""Of the outermost object; Ollama writes up to 20."""


class Outline:
    """Reads one document: `feed` its pieces in their order, then `finish`.

    Args:
        told: the names of the members that mean something.

    """

    def __init__(self, relevant_keys: frozenset[str]) -> None:
        self._relevant_keys = relevant_keys
        found = Findings(DocumentLimits(members=MAX_MEMBERS), keep=MAX_KEPT_VALUE)
        self._scanner = Scanner(found)

    def feed(self, piece: bytes) -> None:
        """Read on, `SLICE` bytes at most; raises Unreadable where it is no JSON object."""
        self._scanner.feed(piece)

    def finish(self) -> None:
        """Nothing more comes; raises Unreadable where something is missing."""
        self._scanner.finish()

    @property
    def is_complete(self) -> bool:
        """Whether its last brace has passed."""
        return self._scanner.is_complete

    @property
    def members(self) -> list[TopLevelMember]:
        """All that have begun."""
        return self._scanner.found.members

    @property
    def document(self) -> dict[str, object]:
        """What was told so far."""
        return {member.key: _value(member) for member in self.members if self._is_relevant(member)}

    def _is_relevant(self, member: TopLevelMember) -> bool:
        return member.key in self._relevant_keys and member.end >= 0


def _value(member: TopLevelMember) -> object:
    if member.raw is None:
        return {}
    try:
        return json.loads(member.raw.decode("utf-8", "replace"))
    except ValueError:
        raise Unreadable("is not valid JSON") from None
