"""Every error that can end a request.

An error has an HTTP status, a `reason` for the operator's log (a fixed word, never client input), a
message of one line for the client, the side that is to blame, and often the seconds after which a
retry makes sense. It becomes HTTP in one place, `server/app.py`. Errors of libraries (httpx, h11,
sqlite3, OSError) are translated where they enter; their texts hold addresses and bytes of the peer,
so they are not passed on.

These errors do not say whether another backend may be tried. The failure of one attempt is an error
of its own (`flow/attempt.py`); an error here means that no candidate is left.
"""

from __future__ import annotations

import enum
from typing import ClassVar, Final

from ollama_gateway.printable import printable
from ollama_gateway.reasons import AnyReason, Outcome, Reason

LONG_WAIT: Final = 120.0
"""Seconds; a client that would have to wait longer for a limit should fail at once. SDKs sleep as
long as `Retry-After` says."""
MAX_NAME_IN_ERROR: Final = 200
"""Characters of a model's name in an error."""


class Blame(enum.Enum):
    """The side that caused an error."""

    CLIENT = "client"
    GATEWAY = "gateway"
    BACKEND = "backend"


class GatewayError(Exception):
    """A request that ends without a backend's answer.

    Args:
        message: one line for the client, without host, path or library.
        reason: the operator's word for it; by default that of the class.
        retry_after: seconds until a retry makes sense, sent as `Retry-After`.

    """

    status: int = 500
    blame: ClassVar[Blame] = Blame.GATEWAY
    outcome: ClassVar[Outcome] = "refused"
    default_reason: ClassVar[Reason] = Reason.INTERNAL
    default_message: ClassVar[str] = "internal error"
    code: str | None = None
    """The error code in OpenAI's dialects."""
    is_final: bool = False
    """Whether clients should not retry soon; they get `x-should-retry: false`."""
    model: str | None = None
    """The requested model, for the audit record."""

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: AnyReason | None = None,
        retry_after: float | None = None,
    ) -> None:
        self.message = message or self.default_message
        self.reason = reason or self.default_reason
        self.retry_after = retry_after
        super().__init__(self.message)


class BadRequest(GatewayError):
    """400: the request is wrong at every backend."""

    status = 400
    blame = Blame.CLIENT
    default_reason = Reason.BAD_REQUEST
    default_message = "bad request"


class Unauthorized(GatewayError):
    """401: no valid key; unknown, expired, revoked and malformed keys get the same text."""

    status = 401
    is_final = True
    blame = Blame.CLIENT
    default_reason = Reason.INVALID_KEY
    default_message = "invalid API key"


class KeyMissing(Unauthorized):
    """401: the request has no key."""

    default_message = "no API key: send it as `Authorization: Bearer KEY` or `x-api-key: KEY`"


class Forbidden(GatewayError):
    """403: the key may not use the endpoint, the backend or a tool."""

    status = 403
    is_final = True
    blame = Blame.CLIENT
    default_reason = Reason.UNKNOWN_MODEL
    default_message = "this model or endpoint is not available to this key"


class ModelForbidden(Forbidden):
    """403: no backend hosts the model, or the key may not use it; clients cannot tell which.

    Args:
        asked: the model's name as the client wrote it.
        reason: which of the two, for the operator.

    """

    code = "model_not_found"

    def __init__(self, asked: str, *, reason: Reason) -> None:
        shown = printable(asked.strip())[:MAX_NAME_IN_ERROR]
        super().__init__(f"model {shown} is not available to this key", reason=reason)
        self.model = shown


class SearchForbidden(Forbidden):
    """403: the request for `model` makes Ollama search the web, which the key may not do."""

    default_reason = Reason.WEB_SEARCH_NOT_ALLOWED
    default_message = (
        "this key may not search the web: leave the tool web_search out"
        ' (Codex: web_search = "disabled")'
    )

    def __init__(self, model: str) -> None:
        super().__init__()
        self.model = model


class NotFound(GatewayError):
    """404: no such route; the text is that of Ollama's router."""

    status = 404
    blame = Blame.CLIENT
    default_reason = Reason.UNKNOWN_ROUTE
    default_message = "404 page not found"


class MethodNotAllowed(GatewayError):
    """405: the route has other methods; the text is that of Ollama's router."""

    status = 405
    blame = Blame.CLIENT
    default_reason = Reason.WRONG_METHOD
    default_message = "405 method not allowed"

    def __init__(self, allow: str) -> None:
        super().__init__()
        self.allow = allow


class RequestTimeout(GatewayError):
    """408: the head or the body arrived too slowly."""

    status = 408
    blame = Blame.CLIENT
    default_reason = Reason.SLOW_REQUEST
    default_message = "the request came too slowly"


class BodyTooLarge(GatewayError):
    """413: the body is over `server.max_body`."""

    status = 413
    blame = Blame.CLIENT
    default_reason = Reason.BODY_TOO_LARGE
    default_message = "the request body is too large"


class UnsupportedEncoding(GatewayError):
    """415: the gateway or Ollama cannot read this `Content-Encoding`."""

    status = 415
    blame = Blame.CLIENT
    default_reason = Reason.UNSUPPORTED_ENCODING
    default_message = "this Content-Encoding is not supported"


class Misdirected(GatewayError):
    """421: the request names a host that is not known to be the admin listener."""

    status = 421
    blame = Blame.CLIENT
    default_reason = Reason.FOREIGN_HOST
    default_message = "unknown host name: add it to server.admin_hosts, or set a token"


class LimitReached(GatewayError):
    """429: the key has reached one of its limits; always with `retry_after`.

    Args:
        message: one line that names the limit.
        reason: `rate`, `concurrency` or `budget`.
        retry_after: seconds.
        headers: further headers that show the client its limits.

    """

    status = 429
    blame = Blame.CLIENT
    default_reason = Reason.RATE
    default_message = "a limit of this key is reached"
    retry_after: float

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: AnyReason | None = None,
        retry_after: float = 1,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after)
        self.headers = headers
        if retry_after > LONG_WAIT:
            self.is_final, self.code = True, "insufficient_quota"


class HeadersTooLarge(GatewayError):
    """431: the request head is too large."""

    status = 431
    blame = Blame.CLIENT
    default_reason = Reason.HEADERS_TOO_LARGE
    default_message = "the request headers are too large"


class InternalError(GatewayError):
    """500: a defect of the gateway; the log has the traceback, the client a request id."""


class UpstreamFailed(GatewayError):
    """502, or the status of the last backend: every candidate was tried and failed."""

    status = 502
    blame = Blame.BACKEND
    outcome = "upstream_failed"
    default_reason = Reason.UPSTREAM_FAILED
    default_message = "no backend could answer"

    def __init__(
        self,
        message: str | None = None,
        *,
        reason: AnyReason | None = None,
        retry_after: float | None = None,
        status: int = 502,
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after)
        self.status = status


class Unavailable(GatewayError):
    """503: the request can be served later; always with `retry_after`."""

    status = 503
    default_reason = Reason.BACKENDS_DOWN
    default_message = "no backend can serve this now, try again"

    def __init__(
        self, message: str | None = None, *, reason: AnyReason | None = None, retry_after: float = 5
    ) -> None:
        super().__init__(message, reason=reason, retry_after=retry_after)


class TooManyConnections(Unavailable):
    """503: a connection is refused before anything is read from it.

    Args:
        setting: the setting that limits connections; for the log.
        client: the address that has too many; empty if all have together.

    """

    default_message = "too many connections"

    def __init__(self, setting: str, client: str = "") -> None:
        super().__init__(reason=Reason.ADDRESS_CAP if client else Reason.CONNECTION_CAP)
        self.setting = setting
        self.client = client


class UpstreamTimeout(GatewayError):
    """504: a backend was connected but did not answer within the deadline."""

    status = 504
    blame = Blame.BACKEND
    outcome = "timed_out"
    default_reason = Reason.FIRST_CHUNK_TIMEOUT
    default_message = "no backend answered in time"
