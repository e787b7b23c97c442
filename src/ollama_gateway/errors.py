"""Every way a request can fail, as a value that says who is to blame and what it becomes.

An error knows its HTTP status, the `reason` the operator reads in the log (a fixed word, never
client input), the one-line message the client reads, and when to come back. It becomes HTTP in
one place, `server/app.py`. Foreign errors (httpx, h11, sqlite3, OSError) are turned into one of
these at the seam where they enter; their texts carry addresses and bytes of the peer and stay
behind.

Whether another backend may be tried is not a property of these: an attempt's failure is a value
of its own (`flow/attempt.py`), and these are what remains when no candidate is left.
"""

from __future__ import annotations

import enum
from typing import ClassVar


class Blame(enum.Enum):
    """Whose fault an error is."""

    CLIENT = "client"
    GATEWAY = "gateway"
    BACKEND = "backend"


class GatewayError(Exception):
    """A request that ends without a backend's answer.

    Args:
        message: one line for the client; names no host, path or library.
        reason: the operator's word for it; the class's own where not given.
        retry_after: seconds until another try makes sense, sent as `Retry-After`.

    """

    status: int = 500
    blame: ClassVar[Blame] = Blame.GATEWAY
    outcome: ClassVar[str] = "refused"
    default_reason: ClassVar[str] = "internal"
    default_message: ClassVar[str] = "internal error"

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = message or self.default_message
        self.reason = reason or self.default_reason
        self.retry_after = retry_after
        super().__init__(self.message)


class BadRequest(GatewayError):
    """400: the request cannot be understood, whatever backend it went to."""

    status = 400
    blame = Blame.CLIENT
    default_reason = "bad_request"
    default_message = "bad request"


class Unauthorized(GatewayError):
    """401: no key, or none that is good; one text for unknown, expired, revoked, malformed."""

    status = 401
    blame = Blame.CLIENT
    default_reason = "invalid_key"
    default_message = "invalid API key"


class Forbidden(GatewayError):
    """403: what nobody hosts and what this key may not use, indistinguishable to the client."""

    status = 403
    blame = Blame.CLIENT
    default_reason = "unknown_model"
    default_message = "this model or endpoint is not available to this key"


class NotFound(GatewayError):
    """404: no such route; the text is the one Ollama's router gives."""

    status = 404
    blame = Blame.CLIENT
    default_reason = "unknown_route"
    default_message = "404 page not found"


class MethodNotAllowed(GatewayError):
    """405: the route exists for other methods; the text is the one Ollama's router gives."""

    status = 405
    blame = Blame.CLIENT
    default_reason = "wrong_method"
    default_message = "405 method not allowed"

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.allow = allow


class RequestTimeout(GatewayError):
    """408: headers or body came too slowly."""

    status = 408
    blame = Blame.CLIENT
    default_reason = "slow_request"
    default_message = "the request came too slowly"


class BodyTooLarge(GatewayError):
    """413: over `server.max_body`."""

    status = 413
    blame = Blame.CLIENT
    default_reason = "body_too_large"
    default_message = "the request body is too large"


class Misdirected(GatewayError):
    """421: the admin listener was asked by a name that is not known to be its own."""

    status = 421
    blame = Blame.CLIENT
    default_reason = "foreign_host"
    default_message = "asked by an unknown name: put it into server.admin_hosts, or set a token"


class UnsupportedEncoding(GatewayError):
    """415: a `Content-Encoding` that neither the gateway nor Ollama reads."""

    status = 415
    blame = Blame.CLIENT
    default_reason = "unsupported_encoding"
    default_message = "this Content-Encoding is not supported"


class LimitReached(GatewayError):
    """429: a limit of the key is reached; always with `retry_after`.

    Args:
        message: one line that names the limit.
        reason: `rate`, `concurrency` or `budget`.
        retry_after: seconds.
        headers: what else tells the client how its limits stand.

    """

    status = 429
    blame = Blame.CLIENT
    default_reason = "rate"
    default_message = "a limit of this key is reached"

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str | None = None,
        retry_after: float = 1,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after)
        self.headers = headers


class HeadersTooLarge(GatewayError):
    """431: the request head is over its limit."""

    status = 431
    blame = Blame.CLIENT
    default_reason = "headers_too_large"
    default_message = "the request headers are too large"


class InternalError(GatewayError):
    """500: a defect of the gateway; the log has the trace, the client a request id."""


class UpstreamFailed(GatewayError):
    """502, or the last backend's own status: every candidate was tried and failed."""

    status = 502
    blame = Blame.BACKEND
    outcome = "upstream_failed"
    default_reason = "upstream_failed"
    default_message = "no backend could answer"

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        status: int = 502,
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after)
        self.status = status


class Unavailable(GatewayError):
    """503: could be served at another time; always with `retry_after`."""

    status = 503
    default_reason = "backends_down"
    default_message = "no backend can serve this now, try again"

    def __init__(
        self, message: str | None = None, *, reason: str | None = None, retry_after: float = 5
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after)


class TooManyConnections(Unavailable):
    """503: a connection is turned away, before it has said anything.

    Args:
        setting: what bounds them; for the log.
        client: the address that has too many; empty where all have together.

    """

    default_message = "too many connections"

    def __init__(self, setting: str, client: str = "") -> None:
        super().__init__(reason="address_cap" if client else "connection_cap")
        self.setting = setting
        self.client = client


class UpstreamTimeout(GatewayError):
    """504: connected, but no answer within the deadline."""

    status = 504
    blame = Blame.BACKEND
    outcome = "timed_out"
    default_reason = "first_chunk_timeout"
    default_message = "no backend answered in time"
