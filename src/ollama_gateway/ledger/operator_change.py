"""A change that an operator makes, as the audit log has it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

import attrs

Document = Mapping[str, Any]
"""What JSON can hold, without secrets."""


@attrs.frozen
class OperatorChange:
    """Who changes what; it holds no secret."""

    by: str
    """The actor's name."""
    action: str
    """`keys.update`, `backends.pause`, `requests.cancel`: the resource and the verb."""
    target: str
    """The id or name of the thing changed."""
    before: Document | None = None
    """None for something that did not exist."""
    after: Document | None = None
    """None for something that is gone. A change whose result is known only when it is made may fill
    in its own dict within the block."""
    reason: str | None = None
    """The operator's own words."""


class ChangeRecorder(Protocol):
    """Records changes."""

    def making(self, change: OperatorChange) -> AbstractContextManager[None]:
        """Return the block in which the change is made.

        Entering it puts the record on the disk first; it blocks, so enter it in a worker thread. It
        raises `ChangeNotRecorded` if that fails, and then nothing may change. Leaving it by an
        exception records that the change failed.
        """
        ...

    def making_all(self, changes: Sequence[OperatorChange]) -> AbstractContextManager[None]:
        """Return the block in which several changes are made, all or none."""
        ...


class ChangeNotRecorded(Exception):
    """The audit log cannot record a change, so it was not made; the message is one line."""
