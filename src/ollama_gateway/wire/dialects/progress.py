"""Ollama's progress streams: how far a pull, a push or a create has come, one status a line."""

from __future__ import annotations

import attrs

from ollama_gateway.wire.dialects import Reading
from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.dialects.reading import GARBLED, error_text, json_object


@attrs.frozen
class ProgressDialect(OllamaDialect):
    """`/api/pull`, `/api/push`, `/api/create`: complete by `success`, or by an error as a line."""

    def read(self, frame: bytes) -> Reading:
        """What a line means; an error ends the stream, in a 200 too (server/routes.go)."""
        document = json_object(frame)
        if document is None:
            return GARBLED
        if "error" in document:
            return Reading(error=error_text(document["error"]), is_last=True)
        return Reading(is_last=document.get("status") == "success")
