"""OpenAI's API as Ollama speaks it: SSE, `data: [DONE]` at the end, errors as an object."""

from __future__ import annotations

import json
from typing import Final

import attrs

from ollama_gateway.errors import GatewayError
from ollama_gateway.wire.dialects import Reading, Usage
from ollama_gateway.wire.dialects.reading import GARBLED, error_text, json_object, usage_of

ERROR_TYPES: Final = {400: "invalid_request_error", 404: "not_found_error"}
"""By status; everything else is `api_error` (openai/openai.go, NewError)."""


@attrs.frozen
class OpenAIDialect:
    """`/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/models`."""

    name: str = "openai"

    def read(self, frame: bytes) -> Reading:
        """Events with choices are known by their look; the rest is parsed."""
        data = _data_of(frame)
        if data == b"[DONE]":
            return Reading(is_last=True)
        if data.startswith(b'{"id"') and b'"usage"' not in data:
            return Reading()
        document = json_object(data)
        if document is None:
            return GARBLED
        if document.get("error") is not None:
            return Reading(error=error_text(document["error"]))
        return Reading(usage=self._usage(document))

    def read_body(self, body: bytes) -> Reading:
        """A JSON answer is complete by being whole."""
        document = json_object(body)
        if document is None:
            return GARBLED
        if document.get("error") is not None:
            return Reading(error=error_text(document["error"]))
        return Reading(is_last=True, usage=self._usage(document))

    def error_body(self, error: GatewayError) -> bytes:
        """`{"error":{"message","type","param","code"}}`, with Ollama's types and its newline."""
        kind = ERROR_TYPES.get(error.status, "api_error")
        shape = {"message": error.message, "type": kind, "param": None, "code": None}
        return json.dumps({"error": shape}, separators=(",", ":")).encode() + b"\n"

    def error_event(self, error: GatewayError) -> bytes:
        """The event on which OpenAI's clients raise `APIError`."""
        return b"data: " + self.error_body(error) + b"\n"

    def _usage(self, document: dict[str, object]) -> Usage | None:
        return usage_of(document.get("usage"), "prompt_tokens", "completion_tokens")


def _data_of(frame: bytes) -> bytes:
    """The `data` of an event: its lines joined, other fields dropped."""
    lines = (line.rstrip(b"\r") for line in frame.split(b"\n"))
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))
