"""The requests that run in this process: what each one does now, and its end by an operator.

Nothing is written while a request goes on: its stage is read from its record and its client's side
when an operator asks. A request can be listed and cancelled once its key is known. When its whole
answer is there and its record with the journal, it can be listed, but has ended otherwise: a cancel
could only make the record wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, Literal, get_args

import attrs
import trio

from ollama_gateway.errors import Forbidden
from ollama_gateway.flow.ask import Ask
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.reasons import Reason

Stage = Literal["reading", "limits", "line", "racing", "streaming", "ending"]
"""`reading`: the body is read and understood; `limits`: the store of limits or the journal is
waited for; `line`: a backend with room is; `racing`: backends were asked, and no good chunk has
come; `streaming`: the answer is sent; `ending`: it is whole, and its end is recorded or sent."""

STAGES: Final[tuple[Stage, ...]] = get_args(Stage)


class CancelledByOperator(Forbidden):
    """403: an operator ended the request; a client that sent it again would undo that."""

    outcome = "cancelled"
    default_reason = Reason.CANCELLED
    default_message = "an operator of the gateway cancelled this request"


@attrs.define(eq=False)
class RunningRequest:
    """One request, from the moment when it may start to its end."""

    request_id: str
    scope: trio.CancelScope
    """Its end ends the request."""
    ask: Ask | None = None
    """None until its head was understood."""
    cancelled_by: str | None = None
    """The operator who cancelled it."""
    began: int = attrs.field(factory=lambda: time.time_ns() // 1000)
    """When it began, in microseconds since 1970; for people, and to sort by."""

    @property
    def is_known(self) -> bool:
        """Whether its key is known."""
        return self.ask is not None and (self.ask.record or self.ask.caller) is not None

    @property
    def stage(self) -> Stage:
        """What it does now."""
        if self.ask is None or self.ask.record is None:
            return "streaming" if self._has_started else "reading"
        record = self.ask.record
        if _is_ending(record):
            return "ending"
        if record.ttft is not None or record.attempts:
            return _stage_of_attempts(record)
        if record.admitted is not None:
            return "line"
        if self._has_started:  # a description from the cache
            return "streaming"
        return "limits" if record.is_reserving or record.model is not None else "reading"

    @property
    def _has_started(self) -> bool:
        return self.ask is not None and self.ask.downstream.has_started

    def cancel(self, by: str) -> bool:
        """End the request in the name of an operator; False if it has ended, or is ending.

        A request that an operator has cancelled already stays cancelled by that one.
        """
        record = self.ask.record if self.ask is not None else None
        if self.cancelled_by is not None:
            return True
        if not self.is_known or self.scope.cancel_called or (record and _is_ending(record)):
            return False
        self.cancelled_by = by
        if record is not None:
            record.cancelled_by = by
        self.scope.cancel()
        return True


def _is_ending(record: AuditRecord) -> bool:
    """Return whether the whole answer is there, and its record with the journal."""
    return record.duration > 0


def _stage_of_attempts(record: AuditRecord) -> Stage:
    if record.ttft is not None:
        return "streaming"
    if any(one.reason is None and one.first_chunk is None for one in record.attempts):
        return "racing"
    has_answer = any(one.first_chunk is not None for one in record.attempts)
    return "streaming" if has_answer else "line"


@attrs.define(eq=False)
class InFlight:
    """The requests that run, in the order of their beginnings."""

    _running: dict[str, RunningRequest] = attrs.field(factory=dict, init=False)

    def __len__(self) -> int:
        """Return how many requests run, also those whose key is not known yet."""
        return len(self._running)

    def __iter__(self) -> Iterator[RunningRequest]:
        """Iterate over all of them."""
        return iter(self._running.values())

    def begin(self, request_id: str, scope: trio.CancelScope) -> RunningRequest:
        """Add a request, which `scope` ends."""
        self._running[request_id] = running = RunningRequest(request_id, scope)
        return running

    def end(self, running: RunningRequest) -> None:
        """Remove a request."""
        del self._running[running.request_id]

    def find(self, request_id: str) -> RunningRequest | None:
        """Return a request whose key is known."""
        found = self._running.get(request_id)
        return found if found is not None and found.is_known else None
