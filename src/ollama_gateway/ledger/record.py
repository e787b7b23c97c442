"""The audit record of one request, and the block that makes sure there is exactly one.

`Ledger.record` is entered once the key is known. However the block is left, by its end, an error,
or a cancellation, the record is completed, written into the journal and handed to every sink (the
log and the metrics).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Final

import anyio
import attrs

from ollama_gateway import clock
from ollama_gateway.errors import GatewayError
from ollama_gateway.ledger.asked import Caller, RequestFacts, client_request_id, end_user
from ollama_gateway.ledger.attempted import ATTEMPT_FIELDS, Attempt
from ollama_gateway.ledger.fields import (
    COUNT,
    MILLISECONDS,
    MOMENT,
    TEXT,
    list_of,
    stored,
    stored_fields,
)
from ollama_gateway.reasons import AnyReason, Outcome, Reason
from ollama_gateway.wire.counting import BYTES_PER_TOKEN

if TYPE_CHECKING:
    from ollama_gateway.ledger.writer import JournalWriter
    from ollama_gateway.tracing.context import RequestTrace, Tracer


@attrs.define(kw_only=True)
class AuditRecord:
    """Who asked for what, which backend answered, and how it ended; no prompt, answer or key.

    The attributes that are stored are marked so, in the order of the document (`fields.py`).
    """

    request_id: str = attrs.field(metadata=stored(TEXT, is_column=True))
    started_at: datetime = attrs.field(
        factory=lambda: datetime.now(UTC), metadata=stored(MOMENT, is_column=True)
    )
    key_id: str = attrs.field(metadata=stored(TEXT, is_column=True))
    key_name: str = attrs.field(metadata=stored(TEXT, is_column=True))
    end_user: str | None = attrs.field(default=None, metadata=stored(TEXT, is_column=True))
    """The user of a front end, from the header that its key names."""
    client: str = attrs.field(metadata=stored(TEXT))
    endpoint: str = attrs.field(metadata=stored(TEXT, is_column=True))
    dialect: str = attrs.field(metadata=stored(TEXT))
    model: str | None = attrs.field(default=None, metadata=stored(TEXT, is_column=True))
    """The model that answered, or was tried last."""
    alias: str | None = attrs.field(default=None, metadata=stored(TEXT))
    """The name that the client asked for, if it was an alias."""
    backend: str | None = attrs.field(default=None, metadata=stored(TEXT, is_column=True))
    outcome: Outcome = attrs.field(default="completed", metadata=stored(TEXT, is_column=True))
    reason: AnyReason | None = attrs.field(default=None, metadata=stored(TEXT, is_column=True))
    status: int = attrs.field(default=0, metadata=stored(COUNT))
    prompt_tokens: int | None = attrs.field(default=None, metadata=stored(COUNT, is_column=True))
    cached_tokens: int | None = attrs.field(default=None, metadata=stored(COUNT, is_column=True))
    """How many of `prompt_tokens` the backend had in its cache; None if it did not tell."""
    completion_tokens: int | None = attrs.field(
        default=None, metadata=stored(COUNT, is_column=True)
    )
    tokens_source: str | None = attrs.field(default=None, metadata=stored(TEXT, is_column=True))
    """`reported` by the backend, or `counted` here, because the answer was cut first or its API
    has no report; `prompt_counted` or `completion_counted` if that half of a report was missing.
    """
    usage_journal: str | None = attrs.field(
        default=None, metadata=stored(TEXT, "spender", is_column=True)
    )
    """The id of the usage journal that has these tokens too; None if the key has no budget."""
    affinity: str | None = attrs.field(default=None, metadata=stored(TEXT))
    """Whether its conversation kept its backend: `new`, `kept`, `moved` or `none`; None where that
    does not count."""
    ttft: float | None = attrs.field(default=None, metadata=stored(MILLISECONDS, "ttft_ms"))
    """Seconds until the first good chunk."""
    duration: float = attrs.field(default=0.0, metadata=stored(MILLISECONDS, "duration_ms"))
    """Seconds."""
    bytes_in: int = attrs.field(default=0, metadata=stored(COUNT))
    bytes_out: int = attrs.field(default=0, metadata=stored(COUNT))
    changed: str | None = attrs.field(default=None, metadata=stored(TEXT))
    """The names of what the gateway changed in the request, separated by commas."""
    client_request_id: str | None = attrs.field(default=None, metadata=stored(TEXT))
    """The client's own `X-Request-Id`."""
    trace_id: str | None = attrs.field(default=None, metadata=stored(TEXT))
    """Of the trace that has its spans, or to which its client says that it belongs."""
    attempts: list[Attempt] = attrs.field(factory=list, metadata=stored(list_of(ATTEMPT_FIELDS)))

    trace: RequestTrace | None = None
    """Its span, where tracing is on."""
    admitted: float | None = None
    """When it was admitted, in seconds after it arrived."""
    queued: float | None = None
    """When it first joined the line of those that wait for room, in seconds after it arrived."""
    arrived: float
    """Seconds on the event loop's clock."""
    chunks: int = 0
    """Frames of a stream that were relayed."""
    text: int = 0
    """Bytes of the answer's text that were relayed."""
    heard: float = 0.0
    """When the answer last sent something, on the event loop's clock; 0 before it does."""
    is_strict: bool = False
    """Whether the request waits until its states are on the disk: the mode that it began with."""
    is_finalized: bool = False
    """Whether the end is in the journal already; then nothing of the record changes any more."""

    @property
    def was_worked_on(self) -> bool:
        """Whether some backend was asked and did not fail: it has worked, to the end or not."""
        return any(attempt.reason is None for attempt in self.attempts)

    @property
    def relayed(self) -> int:
        """Tokens that were relayed: at least one for each chunk, and one for four bytes of text."""
        return max(self.chunks, -(-self.text // BYTES_PER_TOKEN))

    @property
    def unheard(self) -> int:
        """Tokens that the backend has likely written since it last sent something."""
        working = [attempt for attempt in self.attempts if attempt.reason is None]
        attempt = max(working, key=lambda a: a.first_chunk is not None, default=None)
        if attempt is None:
            return 0
        since, until = self.heard, clock.now()
        if not since:
            since = self.arrived + attempt.started
            until = until if attempt.first_chunk is None else self.arrived + attempt.first_chunk
        return math.ceil((until - since) * attempt.pace)

    def report(self, prompt: int | None, completion: int | None, cached: int | None = None) -> None:
        """Take over the tokens that the backend reported; None for a half without a report.

        Args:
            prompt: tokens of the prompt.
            completion: tokens of the answer.
            cached: how many of the prompt's were cached; None if the backend did not tell.

        """
        if prompt is not None:
            self.prompt_tokens, self.cached_tokens = prompt, cached
        self.completion_tokens = completion if completion is not None else self.completion_tokens
        self.tokens_source = "reported"

    def count(self, prompt: int | None, completion: int | None) -> None:
        """Fill in the tokens that the backend has not reported; None if they cannot be counted."""
        is_half = self.tokens_source == "reported"
        if self.prompt_tokens is None and prompt is not None:
            self.prompt_tokens = prompt
            self.tokens_source = "prompt_counted" if is_half else "counted"
        if self.completion_tokens is None and completion is not None:
            self.completion_tokens = completion
            self.tokens_source = "completion_counted" if is_half else "counted"

    def fail(self, error: GatewayError) -> None:
        """Note that the request ended in `error`, unless the record is final."""
        if self.is_finalized:
            return
        self.outcome, self.reason = error.outcome, error.reason
        self.model = self.model or error.model
        self.status = self.status or error.status


FAILED: Final[frozenset[Outcome]] = frozenset({"upstream_failed", "timed_out", "killed"})
"""Outcomes that count as failures; a client that left is none."""
RECORD_FIELDS: Final = stored_fields(AuditRecord)

Sink = Callable[[AuditRecord], None]


@attrs.frozen
class Ledger:
    """Hands every finished record to its sinks, and to the journal's writer if there is one."""

    sinks: Sequence[Sink]
    writer: JournalWriter | None = None
    tracer: Tracer | None = None
    """Begins the traces of requests; None where tracing is off."""

    async def admit(self, record: AuditRecord) -> None:
        """Record that the request goes upstream now; raises Unavailable if that fails."""
        if self.writer is not None:
            await self.writer.admit(record)
        record.admitted = clock.now() - record.arrived

    async def finalize(self, record: AuditRecord) -> None:
        """Record that the whole answer is there; raises Unavailable if that fails."""
        record.duration = clock.now() - record.arrived
        record.count(None, record.relayed or None)
        if self.writer is not None:
            await self.writer.finalize(record)
            record.is_finalized = True

    def record(self, caller: Caller, ask: RequestFacts) -> Recording:
        """Return the block of one record, which is written when the block is left.

        Entering raises Unavailable if the record of a request that is served might be lost.
        """
        trace = None if self.tracer is None else self.tracer.begin(ask.headers)
        record = AuditRecord(
            request_id=ask.request_id,
            key_id=caller.key_id,
            key_name=caller.key_name,
            endpoint=ask.path,
            dialect=ask.dialect_name,
            client=ask.client,
            end_user=end_user(caller, ask),
            client_request_id=client_request_id(ask),
            trace_id=trace.trace_id if trace is not None and trace.is_known else None,
            trace=trace,
            arrived=ask.arrived,
            is_strict=self.writer is not None and self.writer.is_strict,
        )
        return Recording(self, record, ask)


@attrs.define(eq=False)
class Recording:
    """The block of one record."""

    ledger: Ledger
    record: AuditRecord
    ask: RequestFacts

    async def __aenter__(self) -> AuditRecord:
        writer = self.ledger.writer
        if writer is not None:
            try:
                writer.check_room()
            except BaseException as error:
                self._note(error)
                self._end(writer.refuse)
                raise
        return self.record

    async def __aexit__(
        self,
        _kind: type[BaseException] | None,
        error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        writer = self.ledger.writer
        if error is not None:
            self._note(error)
        self._end(writer.close if writer is not None else _drop)

    def _note(self, error: BaseException) -> None:
        """Note the error or the cancellation that ended the request."""
        record = self.record
        if isinstance(error, GatewayError):
            record.fail(error)
        elif not isinstance(error, anyio.get_cancelled_exc_class()):
            record.outcome, record.reason, record.status = "upstream_failed", Reason.INTERNAL, 500
        elif self.ask.is_gone:
            record.outcome, record.reason = "client_gone", Reason.CLIENT_GONE
        else:
            record.outcome, record.reason = "killed", Reason.DRAINING
            record.status = record.status or 503

    def _end(self, write: Sink) -> None:
        """Complete the record and hand it on."""
        record = self.record
        if not record.is_finalized:
            record.duration = clock.now() - record.arrived
            record.count(None, record.relayed or None)
            write(record)
        for sink in self.ledger.sinks:
            sink(record)


def _drop(_record: AuditRecord) -> None:
    """Do nothing: there is no journal."""
