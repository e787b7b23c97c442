"""A recorder of changes that keeps them in a list."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

import attrs

from ollama_gateway.ledger.operator_change import ChangeNotRecorded, OperatorChange


@attrs.define
class ListedChanges:
    """Records changes as the audit log does, in memory."""

    made: list[OperatorChange] = attrs.field(factory=list)
    failed: list[OperatorChange] = attrs.field(factory=list)
    is_full: bool = False
    """Whether nothing can be recorded."""

    def making(self, change: OperatorChange) -> AbstractContextManager[None]:
        """Return the block in which the change is made."""
        return self.making_all([change])

    @contextmanager
    def making_all(self, changes: Sequence[OperatorChange]) -> Iterator[None]:
        """Return the block in which several changes are made."""
        if self.is_full:
            raise ChangeNotRecorded("no space left")
        try:
            yield
        except BaseException:
            self.failed += changes
            raise
        self.made += changes
