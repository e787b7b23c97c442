"""OpenAI's older API as Ollama speaks it: SSE, `data: [DONE]` at the end, errors as an object.

A stream reports usage only on request. The gateway therefore always asks for it, and removes it
again from the answers to clients that did not.
"""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from ollama_gateway.errors import GatewayError
from ollama_gateway.wire.body import go_fold, lookup
from ollama_gateway.wire.dialects.dialect import EventDialect
from ollama_gateway.wire.dialects.reading import (
    MAX_PARSED_FRAME,
    ORDINARY,
    Reading,
    ReportedUsage,
    data_of,
    error_text,
    json_object,
    member_of,
    one_line,
    strings_size,
    strings_under,
    usage_of,
    whole_answer,
)
from ollama_gateway.wire.large import RequestBody
from ollama_gateway.wire.splicing import with_value, without_member

ERROR_TYPES: Final = {400: "invalid_request_error", 404: "not_found_error"}
"""By status; every other status is `api_error` (openai/openai.go, NewError)."""
_USAGE_OPTIONS: Final = "stream_options"
QUOTA: Final = "insufficient_quota"
"""The type and code on which Codex and other clients fail at once."""
_MAX_END_EVENT: Final = 64
"""The end event is shorter, in bytes."""
_TEXT_KEYS: Final = strings_under("content", "reasoning", "text", "arguments")


@attrs.frozen
class OpenAIDialect(EventDialect):
    """`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`."""

    name: str = "openai"
    relevant_keys: ClassVar[frozenset[str]] = frozenset({"error", "usage"})

    def recognize(self, frame: bytes) -> Reading | None:
        """Recognize events with choices, and the end; the rest is parsed."""
        if frame.startswith(b'data: {"id"') and b'"usage"' not in frame:
            return ORDINARY
        if len(frame) < _MAX_END_EVENT and data_of(frame) == b"[DONE]":
            return Reading(is_last=True)
        return None

    def interpret(self, document: dict[str, object]) -> Reading:
        """Find errors and usage; the end is no document."""
        if document.get("error") is not None:
            return Reading(error=error_text(document["error"]))
        return Reading(usage=self._usage(document))

    def interpret_body(self, document: dict[str, object]) -> Reading:
        """Find an error and usage; a whole answer is complete."""
        return whole_answer(document, self._usage(document))

    def text_size(self, frame: bytes) -> int:
        """Count the answer, the reasoning and the arguments of tool calls."""
        return strings_size(frame, _TEXT_KEYS)

    def error_body(self, error: GatewayError, request_id: str) -> bytes:  # noqa: ARG002
        """Return `{"error":{"message","type","param","code"}}` with Ollama's types and newline."""
        return one_line({"error": error_object(error)}) + b"\n"

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """Return the event on which OpenAI's clients raise `APIError`."""
        return b"data: " + self.error_body(error, request_id) + b"\n"

    def stream_has_usage(self, request: dict[str, object]) -> bool:
        """Return whether the client asked for usage, in exactly one spelling."""
        options = lookup(request, _USAGE_OPTIONS)
        fields = options.items() if isinstance(options, dict) else ()
        values = [value for name, value in fields if go_fold(name) == "include_usage"]
        return len(values) == 1 and values[0] is True

    def with_usage(self, body: RequestBody) -> RequestBody:
        """Ask for usage, in place of whatever the client wrote in `stream_options`."""
        return with_value(body, (_USAGE_OPTIONS,), '{"include_usage":true}')

    def without_usage(self, frame: bytes) -> bytes:
        """Remove the usage that the gateway alone asked for.

        Ollama adds one chunk without choices, and on `/v1/completions` a `usage` of zeros to each
        chunk (openai/openai.go). All other bytes stay as they are. An event that is too long to be
        parsed, or that no Ollama writes, passes unchanged.
        """
        is_parsed = len(frame) <= MAX_PARSED_FRAME and b'"usage"' in frame
        document = json_object(data_of(frame)) if is_parsed else None
        if document is None or document.get("usage") is None:
            return frame
        if document.get("choices") == []:
            return b""
        try:
            return without_member(frame, "usage")
        except ValueError:  # the event has several `data` lines, or is not UTF-8
            return frame

    def _usage(self, document: dict[str, object]) -> ReportedUsage | None:
        usage = document.get("usage")
        details = member_of(usage, "prompt_tokens_details")
        counts = (member_of(usage, name) for name in ("prompt_tokens", "completion_tokens"))
        return usage_of(*counts, cached=member_of(details, "cached_tokens"))


def error_object(error: GatewayError) -> dict[str, object]:
    """Return the value of `error`."""
    kind = ERROR_TYPES.get(error.status, "api_error")
    if error.code == QUOTA:
        kind = QUOTA
    return {"message": error.message, "type": kind, "param": None, "code": error.code}
