"""The conventions of a family of routes: the shape of its errors, and the default of `stream`.

A handler refuses by raising `Refusal`; the server turns it into bytes here and nowhere else. A
dialect is a `Dialect` value beside its handlers.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable

import attrs

from ollama_gateway.simulator.exchange import Exchange
from ollama_gateway.simulator.gojson import dumps

JSON = "application/json"
JSON_UTF8 = "application/json; charset=utf-8"
NDJSON = "application/x-ndjson"
SSE = "text/event-stream"
UNCACHED = (("Cache-Control", "no-cache"), ("Connection", "keep-alive"))
ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}


class Refusal(Exception):
    """An error answer.

    Args:
        status: HTTP status.
        message: Ollama's text.
        is_early: raised before the handler proper (Ollama's middleware): other framing on `/v1`.
        is_native: in the native shape on every path.

    """

    def __init__(
        self, status: int, message: str, *, is_early: bool = False, is_native: bool = False
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.is_early = is_early
        self.is_native = is_native

    is_late = False


@attrs.frozen
class Dialect:
    """A family of routes.

    Args:
        error: maps status and text to the JSON object of an error.
        kind: content type of answers that are not streamed.
        newline: the end of such an answer.
        streams: the meaning of an absent `stream`.
        stream_kind: content type of streams.
        stream_headers: headers that the handler adds if a stream was asked for, errors included.

    """

    error: Callable[[int, str], dict[str, object]]
    kind: str
    newline: bytes
    streams: bool
    stream_kind: str
    stream_headers: tuple[tuple[str, str], ...] = ()

    async def answer(self, exchange: Exchange, value: object) -> None:
        """Send a JSON answer that is not streamed."""
        await exchange.respond(200, dumps(value) + self.newline, self.kind)

    def start(self, exchange: Exchange) -> None:
        """Begin a stream."""
        exchange.extra += self.stream_headers
        exchange.start(200, self.stream_kind)

    async def refuse(self, exchange: Exchange, refusal: Refusal, *, streamed: bool) -> None:
        """Send an error answer; `streamed` is whether a stream was asked for."""
        if refusal.is_native or refusal.is_early:
            shape = NATIVE if refusal.is_native else self
            body = dumps(shape.error(refusal.status, refusal.message))
            await exchange.respond(refusal.status, body, JSON_UTF8)
            return
        body = dumps(self.error(refusal.status, refusal.message)) + self.newline
        if streamed:
            exchange.extra += self.stream_headers
        if streamed and refusal.is_late:
            exchange.start(refusal.status, JSON)
            await exchange.finish(body)
            return
        await exchange.respond(refusal.status, body, self.kind)


def _native_error(_status: int, message: str) -> dict[str, object]:
    return {"error": message}


def _openai_error(status: int, message: str) -> dict[str, object]:
    kinds = {400: "invalid_request_error", 404: "not_found_error"}
    kind = kinds.get(status, "api_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _anthropic_error(status: int, message: str) -> dict[str, object]:
    error = {"type": ANTHROPIC_ERRORS.get(status, "api_error"), "message": message}
    return {"type": "error", "error": error, "request_id": f"req_{secrets.token_hex(12)}"}


NATIVE = Dialect(_native_error, JSON_UTF8, b"", streams=True, stream_kind=NDJSON)
OPENAI = Dialect(_openai_error, JSON, b"\n", streams=False, stream_kind=SSE)
RESPONSES = attrs.evolve(OPENAI, stream_headers=UNCACHED)
ANTHROPIC = attrs.evolve(RESPONSES, error=_anthropic_error)
