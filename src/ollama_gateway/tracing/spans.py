"""Makes the spans of a finished request from its audit record: nothing is noted meanwhile but ids.

A SERVER span for the request, and below it a CLIENT span for each attempt, so that hedges stand
side by side. Names and attributes follow OpenTelemetry's conventions for generative AI, which are
in development (https://github.com/open-telemetry/semantic-conventions-genai, before
https://opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans/), for HTTP servers and for errors
(https://opentelemetry.io/docs/specs/semconv/http/http-spans/); those of the gateway's own begin
with `ollama_gateway.`. No span has a prompt, an answer, a header, a key or a user.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Final, Protocol

import attrs

from ollama_gateway.reasons import AnyReason, Outcome, Reason
from ollama_gateway.tracing.context import RequestTrace
from ollama_gateway.tracing.otlp import (
    CLIENT,
    ERROR,
    HAS_IS_REMOTE,
    IS_REMOTE,
    SAMPLED,
    SERVER,
    Value,
    event,
    export,
    span,
)
from ollama_gateway.wire.large import Steps

PROVIDER: Final = "ollama"
CANCELLED: Final = "cancelled"
"""The reason of an attempt that was ended before it failed or answered."""
FAILED: Final[frozenset[Outcome]] = frozenset({"upstream_failed", "timed_out", "killed"})
"""Outcomes of requests that are errors."""
REQUESTS_PER_STEP: Final = 32
"""Requests whose spans are made in one step of long work: about a millisecond."""


class TracedAttempt(Protocol):
    """The parts of an attempt that are in its span; times in seconds after the request arrived."""

    backend: str
    started: float
    is_hedge: bool
    first_chunk: float | None
    ended: float | None
    reason: AnyReason | None
    model: str | None
    span_id: str | None


class TracedRequest(Protocol):
    """The parts of an audit record that are in its spans."""

    request_id: str
    started_at: datetime
    endpoint: str
    model: str | None
    alias: str | None
    backend: str | None
    outcome: Outcome
    reason: AnyReason | None
    status: int
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    affinity: str | None
    ttft: float | None
    duration: float
    admitted: float | None
    queued: float | None
    trace: RequestTrace | None

    @property
    def attempts(self) -> Sequence[TracedAttempt]:
        """The backends asked."""
        ...


Address = tuple[str, int]
"""Host and port."""


@attrs.frozen
class SpanMaker:
    """Makes the spans of requests, and the document that is exported."""

    resource: Mapping[str, Value]
    """The attributes of this process."""
    version: str
    """The gateway's."""
    operations: Mapping[str, str]
    """The operation of each endpoint that runs a model, in the words of the conventions."""
    address_of: Callable[[str], Address | None]
    """Returns the address of a backend by its name; None for one that is gone."""

    def document(self, requests: Sequence[TracedRequest]) -> Steps[bytes]:
        """Make the body of a post with the spans of these requests, in steps."""
        parts: list[str] = []
        for first in range(0, len(requests), REQUESTS_PER_STEP):
            for request in requests[first : first + REQUESTS_PER_STEP]:
                parts += self.spans(request)
            if first + REQUESTS_PER_STEP < len(requests):
                yield
        return export(self.resource.items(), self.version, parts)

    def spans(self, request: TracedRequest) -> list[str]:
        """Return the spans of a request; none if it has no trace."""
        trace = request.trace
        if trace is None:
            return []
        operation = self.operations.get(request.endpoint)
        began = int(request.started_at.timestamp() * 1_000_000) * 1000
        return [
            self._server_span(request, trace, operation, began),
            *(
                self._client_span(request, trace, attempt, operation, began)
                for attempt in request.attempts
                if attempt.span_id is not None
            ),
        ]

    def _server_span(
        self, request: TracedRequest, trace: RequestTrace, operation: str | None, began: int
    ) -> str:
        parent = trace.parent
        has_failed = request.outcome in FAILED or request.status >= HTTPStatus.INTERNAL_SERVER_ERROR
        name = _name(operation, request.alias or request.model if request.attempts else None)
        return span(
            (trace.trace_id, trace.span_id, None if parent is None else parent.span_id),
            SERVER,
            name or request.endpoint,
            (began, _at(began, request.duration)),
            SAMPLED | HAS_IS_REMOTE | (0 if parent is None else IS_REMOTE),
            (
                ("gen_ai.operation.name", operation),
                ("gen_ai.provider.name", PROVIDER),
                ("gen_ai.request.model", request.alias or request.model),
                ("gen_ai.response.model", request.model if request.backend else None),
                *_usage(request),
                ("http.route", request.endpoint),
                ("http.response.status_code", request.status or None),
                ("ollama_gateway.request.id", request.request_id),
                ("ollama_gateway.backend", request.backend),
                ("ollama_gateway.affinity", request.affinity),
                ("ollama_gateway.outcome", request.outcome),
                ("ollama_gateway.reason", request.reason),
                ("error.type", _error(request) if has_failed else None),
            ),
            _events(request, began),
            ERROR if has_failed else None,
        )

    def _client_span(
        self,
        request: TracedRequest,
        trace: RequestTrace,
        attempt: TracedAttempt,
        operation: str | None,
        began: int,
    ) -> str:
        has_won = _has_won(attempt)
        reason: str | None = attempt.reason
        if reason is None and attempt.first_chunk is None:
            reason = CANCELLED
        elif has_won and request.outcome in FAILED:
            reason = _error(request)
        is_error = reason not in {None, CANCELLED, Reason.LOST_TO_HEDGE}
        model = attempt.model or request.model
        ended = request.duration if attempt.ended is None else attempt.ended
        first = attempt.first_chunk
        host, port = self.address_of(attempt.backend) or (None, None)
        return span(
            (trace.trace_id, attempt.span_id or "", trace.span_id),
            CLIENT,
            _name(operation, model) or request.endpoint,
            (_at(began, attempt.started), _at(began, ended)),
            SAMPLED | HAS_IS_REMOTE,
            (
                ("gen_ai.operation.name", operation),
                ("gen_ai.provider.name", PROVIDER),
                ("gen_ai.request.model", model),
                ("gen_ai.response.model", request.model if has_won else None),
                *(_usage(request) if has_won else ()),
                ("server.address", host),
                ("server.port", port),
                ("ollama_gateway.backend", attempt.backend),
                ("ollama_gateway.hedge", attempt.is_hedge),
                ("ollama_gateway.reason", reason),
                ("error.type", reason if is_error else None),
            ),
            () if first is None else (event(_at(began, first), "first_chunk"),),
            ERROR if is_error else None,
        )


def _at(began: int, seconds: float) -> int:
    return began + int(seconds * 1_000_000_000)


def _name(operation: str | None, model: str | None) -> str | None:
    if operation is None or model is None:
        return operation
    return f"{operation} {model}"


def _has_won(attempt: TracedAttempt) -> bool:
    return attempt.first_chunk is not None and attempt.reason is None and attempt.ended is None


def _error(request: TracedRequest) -> str:
    return request.reason or str(request.status)


def _usage(request: TracedRequest) -> tuple[tuple[str, int | None], ...]:
    return (
        ("gen_ai.usage.input_tokens", request.prompt_tokens),
        ("gen_ai.usage.cache_read.input_tokens", request.cached_tokens),
        ("gen_ai.usage.output_tokens", request.completion_tokens),
    )


def _events(request: TracedRequest, began: int) -> list[str]:
    found = []
    if request.admitted is not None:
        found.append(event(_at(began, request.admitted), "admitted"))
    if request.queued is not None:
        found.append(event(_at(began, request.queued), "queued"))
        if request.attempts:
            found.append(event(_at(began, request.attempts[0].started), "dequeued"))
    if request.ttft is not None:
        found.append(event(_at(began, request.ttft), "first_chunk"))
    found.append(event(_at(began, request.duration), "end"))
    return found
