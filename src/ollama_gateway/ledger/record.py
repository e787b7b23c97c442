"""The row of one request, and the block that makes sure there is exactly one.

`Ledger.record` is entered once the key is known. However the block is left, by its end, an error,
or a cancellation, the row is completed, written into the trail and handed to every sink (the log
and the metrics).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Protocol

import anyio
import attrs

from ollama_gateway import clock
from ollama_gateway.errors import GatewayError
from ollama_gateway.ledger.asked import Asked, Caller, end_user
from ollama_gateway.wire.counting import BYTES_PER_TOKEN


@attrs.define
class Attempt:
    """One backend asked for one request; times in seconds after the request arrived."""

    backend: str
    started: float
    is_hedge: bool = False
    """Whether it began beside another one."""
    first_chunk: float | None = None
    reason: str | None = None
    """Why it failed; None while it runs and when it answered."""
    pace: float = 0.0
    """Tokens a second that the backend writes unheard, as far as is known; not stored."""


@attrs.define
class AuditRecord:
    """Who asked what, who answered, and how it ended. Never a prompt, an answer or a key."""

    request_id: str
    key_id: str
    key_name: str
    endpoint: str
    dialect: str
    client: str
    arrived: float
    """Seconds on the event loop's clock; not stored."""
    started_at: datetime = attrs.field(factory=lambda: datetime.now(UTC))
    end_user: str | None = None
    """Whom a front end asks for, where its key names the header that says so."""
    model: str | None = None
    backend: str | None = None
    outcome: str = "completed"
    """completed, refused, client_gone, upstream_failed, timed_out, killed."""
    reason: str | None = None
    status: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    tokens_source: str | None = None
    """`reported` by the backend, or `counted` here: it was cut first, or its API has no report;
    `prompt_counted` or `completion_counted` where one half of a report was missing.
    """
    spender: str | None = None
    """The record of spending that has its tokens too; None where its key has no budget."""
    bytes_in: int = 0
    bytes_out: int = 0
    chunks: int = 0
    """Frames of a stream that were relayed; not stored, as the next two."""
    text: int = 0
    """Bytes of the answer's text that were relayed."""
    heard: float = 0.0
    """When the answer last said something, on the event loop's clock; 0: it has not yet."""
    ttft: float | None = None
    """Seconds until the first good chunk."""
    duration: float = 0.0
    """Seconds."""
    attempts: list[Attempt] = attrs.field(factory=list)
    is_finalized: bool = False
    """Whether the trail has its end already; then nothing of it changes any more."""

    @property
    def was_worked_on(self) -> bool:
        """Whether some backend was asked and did not fail: it has worked, to the end or not."""
        return any(attempt.reason is None for attempt in self.attempts)

    @property
    def relayed(self) -> int:
        """Tokens of what was relayed: each chunk is one at least, and so are four bytes of text."""
        return max(self.chunks, -(-self.text // BYTES_PER_TOKEN))

    @property
    def unheard(self) -> int:
        """Tokens that the backend has likely written since it was last heard."""
        working = [attempt for attempt in self.attempts if attempt.reason is None]
        attempt = max(working, key=lambda a: a.first_chunk is not None, default=None)
        if attempt is None:
            return 0
        since, until = self.heard, clock.now()
        if not since:
            since = self.arrived + attempt.started
            until = until if attempt.first_chunk is None else self.arrived + attempt.first_chunk
        return math.ceil((until - since) * attempt.pace)

    def report(self, prompt: int | None, completion: int | None) -> None:
        """The backend has said what it cost; None: not of this half."""
        self.prompt_tokens = prompt if prompt is not None else self.prompt_tokens
        self.completion_tokens = completion if completion is not None else self.completion_tokens
        self.tokens_source = "reported"

    def count(self, prompt: int | None, completion: int | None) -> None:
        """Fill in what the backend has not reported; None: that cannot be counted."""
        is_half = self.tokens_source == "reported"
        if self.prompt_tokens is None and prompt is not None:
            self.prompt_tokens = prompt
            self.tokens_source = "prompt_counted" if is_half else "counted"
        if self.completion_tokens is None and completion is not None:
            self.completion_tokens = completion
            self.tokens_source = "completion_counted" if is_half else "counted"

    def fail(self, error: GatewayError) -> None:
        """The request ended in `error`."""
        if self.is_finalized:
            return
        self.outcome, self.reason = error.outcome, error.reason
        self.status = self.status or error.status


Sink = Callable[[AuditRecord], None]


class Recorder(Protocol):
    """Where rows are stored; see `trail.py`."""

    def check_room(self) -> None:
        """Raise Unavailable where another row might be lost."""
        ...

    def refuse(self, record: AuditRecord) -> None:
        """Write that a request was refused for that, as far as there is room."""
        ...

    async def admit(self, record: AuditRecord) -> None:
        """Write that a request goes upstream; raises Unavailable."""
        ...

    async def finalize(self, record: AuditRecord) -> None:
        """Write how it ended, before its client learns of it; raises Unavailable."""
        ...

    def close(self, record: AuditRecord) -> None:
        """Write how it ended, soon."""
        ...


@attrs.frozen
class Ledger:
    """Hands every finished row to its sinks, and to the trail where there is one."""

    sinks: Sequence[Sink]
    trail: Recorder | None = None

    async def admit(self, record: AuditRecord) -> None:
        """The request goes upstream now; raises Unavailable where that cannot be recorded."""
        if self.trail is not None:
            await self.trail.admit(record)

    async def finalize(self, record: AuditRecord) -> None:
        """The whole answer is there; raises Unavailable where that cannot be recorded."""
        record.duration = clock.now() - record.arrived
        record.count(None, record.relayed or None)
        if self.trail is not None:
            await self.trail.finalize(record)
            record.is_finalized = True

    def record(self, caller: Caller, ask: Asked) -> Recording:
        """The life of one row: it is written when the block is left, whatever the reason.

        Entering raises Unavailable where the row of a request that is served might be lost.
        """
        record = AuditRecord(
            request_id=ask.request_id,
            key_id=caller.key_id,
            key_name=caller.key_name,
            endpoint=ask.path,
            dialect=ask.dialect_name,
            client=ask.client,
            end_user=end_user(caller, ask),
            arrived=ask.arrived,
        )
        return Recording(self, record, ask)


@attrs.define(eq=False)
class Recording:
    """The block of one row."""

    ledger: Ledger
    record: AuditRecord
    ask: Asked

    async def __aenter__(self) -> AuditRecord:
        trail = self.ledger.trail
        if trail is not None:
            try:
                trail.check_room()
            except BaseException as error:
                self._note(error)
                self._end(trail.refuse)
                raise
        return self.record

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        trail = self.ledger.trail
        if error is not None:
            self._note(error)
        self._end(trail.close if trail is not None else _nowhere)

    def _note(self, error: BaseException) -> None:
        """What a request ended in that did not end well."""
        record = self.record
        if isinstance(error, GatewayError):
            record.fail(error)
        elif not isinstance(error, anyio.get_cancelled_exc_class()):
            record.outcome, record.reason, record.status = "upstream_failed", "internal", 500
        elif self.ask.is_gone:
            record.outcome, record.reason = "client_gone", "client_gone"
        else:
            record.outcome, record.reason, record.status = (
                "killed",
                "draining",
                record.status or 503,
            )

    def _end(self, write: Sink) -> None:
        """The row is complete."""
        record = self.record
        if not record.is_finalized:
            record.duration = clock.now() - record.arrived
            record.count(None, record.relayed or None)
            write(record)
        for sink in self.ledger.sinks:
            sink(record)


def _nowhere(_row: AuditRecord) -> None:
    """Where there is no trail."""
