"""Ollama's progress streams of pull, push and create: one status per line."""

from __future__ import annotations

from typing import ClassVar

import attrs

from ollama_gateway.wire.dialects.ollama import OllamaDialect
from ollama_gateway.wire.dialects.reading import Reading, Shape, error_text


@attrs.frozen
class ProgressDialect(OllamaDialect):
    """`/api/pull`, `/api/push`, `/api/create`: `success` or an error line completes the stream."""

    relevant_keys: ClassVar[frozenset[str]] = frozenset({"error", "status"})

    def recognize(self, frame: bytes) -> Reading | None:  # noqa: ARG002
        """Return None: every line is parsed."""
        return None

    def begins(self, document: dict[str, object], shape: Shape) -> bool:  # noqa: ARG002
        """Check the status, which each line has."""
        return isinstance(document.get("status"), str)

    def interpret(self, document: dict[str, object]) -> Reading:
        """Find an error or the end; an error ends the stream, in a 200 too (server/routes.go)."""
        if "error" in document:
            return Reading(error=error_text(document["error"]), is_last=True)
        return Reading(is_last=document.get("status") == "success")
