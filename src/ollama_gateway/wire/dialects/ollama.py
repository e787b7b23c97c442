"""Ollama's native API: NDJSON, `done: true` at the end, errors as one string."""

from __future__ import annotations

from typing import ClassVar, Final

import attrs

from ollama_gateway.errors import GatewayError
from ollama_gateway.wire.dialects.dialect import Dialect
from ollama_gateway.wire.dialects.reading import (
    ORDINARY,
    Reading,
    ReportedUsage,
    Shape,
    error_text,
    has_shape,
    one_line,
    strings_size,
    strings_under,
    usage_of,
)

_COUNTS: Final = ("prompt_eval_count", "prompt_eval_cached_count", "eval_count")
_GENERATED: Final = frozenset({"message", "response"})
"""The members beside which there is always `done`."""
_TEXT_KEYS: Final = strings_under("content", "thinking", "response")
_DURATIONS: Final = ("prompt_eval_duration", "eval_duration")
_MAX_NANOSECONDS: Final = 10**18
"""A longer time for a prompt or an answer is not believed."""


@attrs.frozen
class OllamaDialect(Dialect):
    """`/api/*`."""

    name: str = "ollama"
    relevant_keys: ClassVar[frozenset[str]] = frozenset({"error", "done", *_COUNTS, *_DURATIONS})

    def recognize(self, frame: bytes) -> Reading | None:
        """Recognize intermediate lines by their first key; all others are parsed."""
        if (
            b'"done":false' in frame
            and b'"done":true' not in frame
            and frame.startswith(b'{"model"')
        ):
            return ORDINARY
        return None

    def is_answer(self, document: dict[str, object], shape: Shape) -> bool:
        """Check the shape; generated text also says whether it is the last (api/types.go)."""
        says_end = isinstance(document.get("done"), bool) or _GENERATED.isdisjoint(shape)
        return has_shape(document, shape) and says_end

    def interpret(self, document: dict[str, object]) -> Reading:
        """Find an error, the end and usage; any value of `error` is an error."""
        if "error" in document:
            return Reading(error=error_text(document["error"]))
        return Reading(is_last=document.get("done") is True, usage=self._usage(document))

    def interpret_body(self, document: dict[str, object]) -> Reading:
        """Find an error and usage; a whole answer is complete: embeddings have no `done`."""
        if "error" in document:
            return Reading(error=error_text(document["error"]))
        return Reading(is_last=True, usage=self._usage(document))

    def text_size(self, frame: bytes) -> int:
        """Count the answer, the thinking and tool calls as they are printed."""
        return strings_size(frame, _TEXT_KEYS, b'"tool_calls"')

    def error_body(self, error: GatewayError, request_id: str) -> bytes:  # noqa: ARG002
        """Return `{"error":"text"}` on one line: the CLI shows only the first (api/client.go)."""
        return one_line({"error": error.message})

    def error_event(self, error: GatewayError, request_id: str) -> bytes:
        """Return the line on which every Ollama client raises."""
        return self.error_body(error, request_id) + b"\n"

    def _usage(self, document: dict[str, object]) -> ReportedUsage | None:
        """Return the counts and the durations; `prompt_eval_count` includes cached tokens."""
        prompt, cached, written = map(document.get, _COUNTS)
        usage = usage_of(prompt, written, cached=cached)
        if usage is None:
            return None
        reading, writing = (_seconds(document.get(name)) for name in _DURATIONS)
        return attrs.evolve(usage, prompt_seconds=reading, seconds=writing)


def _seconds(nanoseconds: object) -> float | None:
    """Return a duration in seconds; None for a value that is none."""
    if type(nanoseconds) is int and 0 < nanoseconds < _MAX_NANOSECONDS:
        return nanoseconds / 1e9
    return None
