"""The trace that a request belongs to, as W3C Trace Context carries it in two headers.

Source: https://www.w3.org/TR/trace-context/ (3.2 `traceparent`, 3.3 `tracestate`). A malformed
`traceparent` is ignored, and with it the `tracestate`; a malformed `tracestate` is dropped alone.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Final

import attrs

from ollama_gateway.tracing.sampling import Sampler
from ollama_gateway.wire.headers import Headers

TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"
MAX_STATE: Final = 512
"""Bytes of a `tracestate` that is passed on: those that every vendor must pass (3.3.1.5)."""
MAX_MEMBERS: Final = 32
"""Members of a `tracestate` (3.3.1.1)."""

_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_MEMBER: Final = re.compile(
    rb"[ \t]*(?:(?:[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13})"
    rb"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e])?[ \t]*"
)
_SAMPLED: Final = 1
"""The one flag of version 00."""


@attrs.frozen
class RemoteParent:
    """The span of a client that a request belongs to."""

    trace_id: str
    """32 hexadecimal digits."""
    span_id: str
    """16 hexadecimal digits."""
    is_sampled: bool
    state: bytes = b""
    """The `tracestate`, passed on unchanged; empty if there is none."""


@attrs.frozen
class RequestTrace:
    """The span of one request, and what its attempts tell their backends of it."""

    trace_id: str
    span_id: str
    is_sampled: bool
    """Whether its spans are exported."""
    parent: RemoteParent | None = None

    @property
    def is_known(self) -> bool:
        """Whether somewhere there may be spans of it: exported here, or named by the client."""
        return self.is_sampled or self.parent is not None

    def headers(self, span_id: str) -> Headers:
        """Return the headers of an attempt, whose span is the parent of the backend's."""
        flags = "01" if self.is_sampled else "00"
        found = [(TRACEPARENT, f"00-{self.trace_id}-{span_id}-{flags}".encode())]
        if self.parent is not None and self.parent.state:
            found.append((TRACESTATE, self.parent.state))
        return found


@attrs.frozen
class Tracer:
    """Begins the traces of requests."""

    sampler: Sampler

    def begin(self, headers: Iterable[tuple[bytes, bytes]]) -> RequestTrace:
        """Return the trace of a request with these headers, whose key is valid."""
        parent = parent_in(headers)
        trace_id = secrets.token_hex(16) if parent is None else parent.trace_id
        is_sampled = self.sampler.samples(trace_id, None if parent is None else parent.is_sampled)
        return RequestTrace(trace_id, new_span_id(), is_sampled, parent)


def new_span_id() -> str:
    """Return a new span id; the one that is invalid, all zeros, is as unlikely as any other."""
    return secrets.token_hex(8)


def without_trace(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Return the headers without those of a trace."""
    return [item for item in headers if item[0] not in {TRACEPARENT, TRACESTATE}]


def parent_in(headers: Iterable[tuple[bytes, bytes]]) -> RemoteParent | None:
    """Return the client's span, or None if no single valid `traceparent` names one."""
    parents, states = [], []
    for name, value in headers:
        if name == TRACEPARENT:
            parents.append(value)
        elif name == TRACESTATE:
            states.append(value)
    if len(parents) != 1 or (found := _PARENT.fullmatch(parents[0])) is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    if version == b"ff" or (version == b"00" and more is not None):
        return None
    if not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    is_sampled = bool(int(flags, 16) & _SAMPLED)
    return RemoteParent(trace_id.decode(), span_id.decode(), is_sampled, _state(states))


def _state(values: list[bytes]) -> bytes:
    joined = b",".join(values)
    members = joined.split(b",")
    if len(joined) > MAX_STATE or len(members) > MAX_MEMBERS:
        return b""
    return joined if all(map(_MEMBER.fullmatch, members)) else b""
