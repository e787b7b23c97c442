"""A recorder of changes that keeps them in a list."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import attrs

from ollama_gateway.ledger.operator_change import ChangeNotRecorded, OperatorChange


@attrs.define
class ListedChanges:
    """Records changes as the audit log does, in memory."""

    made: list[OperatorChange] = attrs.field(factory=list)
    failed: list[OperatorChange] = attrs.field(factory=list)
    is_full: bool = False
    """Whether nothing can be recorded."""

    @contextmanager
    def making(self, change: OperatorChange) -> Iterator[None]:
        """Return the block in which the change is made."""
        if self.is_full:
            raise ChangeNotRecorded("no space left")
        try:
            yield
        except BaseException:
            self.failed.append(change)
            raise
        self.made.append(change)
