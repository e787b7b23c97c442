"""OpenAI's Responses API: SSE with named events, `response.completed` at the end.

When a model fails, Ollama ends the stream silently, or after a web search with `response.failed`.
"""

from __future__ import annotations

import re
from typing import ClassVar, Final

import attrs

from ollama_gateway.errors import GatewayError
from ollama_gateway.wire.dialects.dialect import EventDialect
from ollama_gateway.wire.dialects.openai import error_object
from ollama_gateway.wire.dialects.reading import (
    ORDINARY,
    Reading,
    ReportedUsage,
    Shape,
    count_of,
    error_text,
    member_of,
    one_line,
    strings_size,
    strings_under,
    usage_of,
    whole_answer,
)

ENDS: Final = ("response.completed", "response.incomplete")
"""OpenAI sends the second for an answer cut at its length; Ollama sends only the first."""
_DELTA_KEYS: Final = strings_under("delta")
_EVENT_STARTS: Final = (b"event:", b"data:")
_TEXT_KEYS: Final = strings_under("text", "arguments")
_ID: Final = re.compile(rb'"id" *: *"(resp_[A-Za-z0-9_-]{1,128})"')
_ID_WITHIN: Final = 4096
_PARSED_EVENTS: Final = (
    b"response.completed",
    b"response.incomplete",
    b"response.failed",
    b"error",
)


@attrs.frozen
class ResponsesDialect(EventDialect):
    """`/v1/responses`."""

    name: str = "openai-responses"
    error_ends_stream: ClassVar[bool] = True
    holds_name: ClassVar[str | None] = "response"
    relevant_keys: ClassVar[frozenset[str]] = frozenset({"error", "usage", "type", "response"})

    def recognize(self, frame: bytes) -> Reading | None:
        """Recognize most events by their name; parse those that may end the stream."""
        if frame.startswith(b"event: response.") and not any(
            word in frame for word in _PARSED_EVENTS
        ):
            return ORDINARY
        return None

    def begins(self, document: dict[str, object], shape: Shape) -> bool:  # noqa: ARG002
        """Check the type, which each event has beside its name."""
        return str(document.get("type")).startswith("response.")

    def interpret(self, document: dict[str, object]) -> Reading:
        """Find errors, the end and usage; the `response` inside can hold an error and usage too."""
        kind, response = document.get("type"), document.get("response")
        inner = response if isinstance(response, dict) else {}
        if kind in ("error", "response.failed") or document.get("error") is not None:
            error = document.get("error") or inner.get("error") or document
            return Reading(error=error_text(error), usage=self._usage(inner))
        is_last = kind in ENDS
        return Reading(is_last=is_last, usage=self._usage(inner) if is_last else None)

    def interpret_body(self, document: dict[str, object]) -> Reading:
        """Find an error and usage; a whole answer is complete, and `"error": null` is none."""
        return whole_answer(document, self._usage(document))

    def answer_id(self, begun: bytes) -> str | None:
        """Return the response's id, which is near its beginning."""
        found = _ID.search(begun, 0, _ID_WITHIN)
        return found[1].decode() if found else None

    def text_size(self, frame: bytes) -> int:
        """Count a stream's deltas alone, as later events repeat them; in a body, all texts."""
        return strings_size(frame, _DELTA_KEYS if frame.startswith(_EVENT_STARTS) else _TEXT_KEYS)

    def error_body(self, error: GatewayError, request_id: str) -> bytes:  # noqa: ARG002
        """Return the same error as OpenAI's older API does."""
        return one_line({"error": error_object(error)}) + b"\n"

    def error_event(self, error: GatewayError, request_id: str) -> bytes:  # noqa: ARG002
        """Return the event `response.failed`, with the error in its response and beside it.

        Codex shows the text of the former, if the stream then ends properly; OpenAI's clients raise
        only on the latter.
        """
        shape = error_object(error)
        said = {"code": shape["code"] or shape["type"], "message": error.message}
        event = {
            "type": "response.failed",
            "sequence_number": 0,
            "response": {"object": "response", "status": "failed", "error": said, "output": []},
            "error": shape,
        }
        return b"event: response.failed\ndata: " + one_line(event) + b"\n\n"

    def _usage(self, response: dict[str, object]) -> ReportedUsage | None:
        """Return the counts; `cached_tokens` of 0 tells nothing.

        Ollama always writes it here, also where it does not know the count (openai/responses.go).
        """
        usage = response.get("usage")
        cached = member_of(member_of(usage, "input_tokens_details"), "cached_tokens")
        counts = (member_of(usage, name) for name in ("input_tokens", "output_tokens"))
        return usage_of(*counts, cached=count_of(cached))
