"""Anthropic's Messages API: SSE with named events, `message_stop` at the end.

The usage in `message_start` is an estimate that Ollama makes before it counts any token, so it is
ignored; `message_delta` has the real one (anthropic/anthropic.go).
"""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from ollama_gateway.errors import GatewayError
from ollama_gateway.wire.dialects.dialect import EventDialect
from ollama_gateway.wire.dialects.reading import (
    ORDINARY,
    Reading,
    ReportedUsage,
    Shape,
    cached_count_of,
    count_of,
    error_text,
    has_shape,
    member_of,
    one_line,
    strings_size,
    strings_under,
    usage_of,
    whole_answer,
)

ERROR_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "overloaded_error",
    529: "overloaded_error",
}
"""By status; every other status is `api_error` (anthropic/anthropic.go, NewError)."""
EVENTS: Final = {
    *("message_start", "message_delta", "message_stop", "ping"),
    *("content_block_start", "content_block_delta", "content_block_stop"),
}
_PROMPT_COUNTS: Final = ("input_tokens", "cache_creation_input_tokens")
"""They do not overlap; `cache_read_input_tokens` comes on top of both."""
_TEXT_KEYS: Final = strings_under("text", "thinking", "partial_json")
_ORDINARY_STARTS: Final = (b"event: content_block_", b"event: message_start", b"event: ping")


@attrs.frozen
class AnthropicDialect(EventDialect):
    """`/v1/messages` and the paths under it."""

    name: str = "anthropic"
    holds_name: ClassVar[str | None] = "message"
    relevant_keys: ClassVar[frozenset[str]] = frozenset({"error", "usage", "type"})

    def recognize(self, frame: bytes) -> Reading | None:
        """Recognize events that carry content by their first bytes."""
        if frame.startswith(_ORDINARY_STARTS):
            return ORDINARY
        return None

    def begins(self, document: dict[str, object], shape: Shape) -> bool:  # noqa: ARG002
        """Check the type, which each event has beside its name."""
        return document.get("type") in EVENTS

    def is_answer(self, document: dict[str, object], shape: Shape) -> bool:
        """Check the shape and the type."""
        return document.get("type") == "message" and has_shape(document, shape)

    def interpret(self, document: dict[str, object]) -> Reading:
        """Find errors, the end and usage."""
        kind = document.get("type")
        if kind == "error" or document.get("error") is not None:
            return Reading(error=error_text(document.get("error")))
        usage = self._usage(document) if kind == "message_delta" else None
        return Reading(is_last=kind == "message_stop", usage=usage)

    def interpret_body(self, document: dict[str, object]) -> Reading:
        """Find an error and usage; a whole answer is complete."""
        return whole_answer(document, self._usage(document))

    def text_size(self, frame: bytes) -> int:
        """Count the answer, the thinking and the input of tool calls."""
        return strings_size(frame, _TEXT_KEYS, b'"input"')

    def error_body(self, error: GatewayError, request_id: str) -> bytes:
        """Return `{"type":"error","error":{"type","message"},"request_id"}` with Ollama's types."""
        kind = ERROR_TYPES.get(error.status, "api_error")
        shape = {"type": kind, "message": error.message}
        return one_line({"type": "error", "error": shape, "request_id": request_id}) + b"\n"

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """Return the event on which Anthropic's clients raise `APIStatusError`."""
        return b"event: error\ndata: " + self.error_body(error, request_id) + b"\n"

    def _usage(self, document: dict[str, object]) -> ReportedUsage | None:
        """Add the tokens read from a cache and written to it, which `input_tokens` lacks."""
        usage = document.get("usage")
        cached = cached_count_of(member_of(usage, "cache_read_input_tokens"))
        prompt = sum(count_of(member_of(usage, name)) or 0 for name in _PROMPT_COUNTS)
        return usage_of(prompt + (cached or 0), member_of(usage, "output_tokens"), cached=cached)
