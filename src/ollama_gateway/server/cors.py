"""Tell browsers which web pages may read the gateway's answers (CORS, in the Fetch standard).

Off unless origins are allowed. A preflight needs no key, since browsers send none with it. No page
can use a browser's stored credentials (`Access-Control-Allow-Credentials` is never sent): a page
sends its key itself, in a header.
"""

from __future__ import annotations

import re
from typing import Final

import attrs

from ollama_gateway.wire.headers import Headers
from ollama_gateway.wire.origins import Origins

ALLOWED_METHODS: Final = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
ALLOWED_HEADERS: Final = (
    b"Authorization, Content-Type, User-Agent, Accept, X-Requested-With, "
    b"OpenAI-Beta, OpenAI-Organization, OpenAI-Project, "
    b"x-api-key, api-key, anthropic-version, anthropic-beta, "
    b"anthropic-dangerous-direct-browser-access, X-Gateway-Backend, X-Request-Id, "
    b"Idempotency-Key, traceparent, tracestate"
)
"""Headers that the clients of Ollama, OpenAI and Anthropic send. Those that begin with
`x-stainless-` are allowed by that prefix, since generated clients add some with every release."""
EXPOSED_HEADERS: Final = b", ".join(
    [
        b"X-Request-Id",
        b"Request-Id",
        b"Retry-After",
        b"X-Should-Retry",
        b"X-Gateway-Backend",
        b"X-Gateway-Changed",
        *(
            b"x-ratelimit-%s-%s" % (figure, unit)
            for figure in (b"limit", b"remaining", b"reset")
            for unit in (b"requests", b"tokens")
        ),
    ]
)
"""Headers of an answer that a page may read, besides the few that it always may."""
MAX_AGE: Final = b"7200"
"""Seconds that a browser may cache a preflight; Chromium caches none longer."""

_STAINLESS: Final = re.compile(rb"x-stainless-[a-z0-9-]{1,64}")


@attrs.frozen
class CORS:
    """The CORS headers for the allowed origins."""

    origins: Origins = attrs.field(factory=Origins)

    def headers(self, request: Headers) -> Headers:
        """Return the headers of every answer; `Vary` tells caches that it depends on the origin."""
        if not self.origins:
            return []
        vary = [(b"vary", b"Origin")]
        origin = self._allowed(request)
        if origin is None:
            return vary
        return [
            *vary,
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", EXPOSED_HEADERS),
        ]

    def preflight(self, method: str, request: Headers) -> Headers | None:
        """Return the headers that answer a preflight; None if the request is no preflight."""
        if method != "OPTIONS" or self._allowed(request) is None:
            return None
        if not _values(request, b"access-control-request-method"):
            return None
        wanted = b",".join(_values(request, b"access-control-request-headers")).lower()
        stainless = [n for n in map(bytes.strip, wanted.split(b",")) if _STAINLESS.fullmatch(n)]
        return [
            (b"access-control-allow-methods", ALLOWED_METHODS),
            (b"access-control-allow-headers", b", ".join([ALLOWED_HEADERS, *stainless])),
            (b"access-control-max-age", MAX_AGE),
        ]

    def _allowed(self, request: Headers) -> bytes | None:
        origin = origin_of(request)
        return origin.encode("ascii") if origin and self.origins.allow(origin) else None


def origin_of(request: Headers) -> str:
    """Return a request's `Origin`: empty if there is none, no valid origin if there are several."""
    return b" ".join(_values(request, b"origin")).decode("ascii", "replace")


def _values(headers: Headers, wanted: bytes) -> list[bytes]:
    return [value for name, value in headers if name.lower() == wanted]
