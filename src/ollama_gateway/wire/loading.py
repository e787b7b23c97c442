"""Find out whether a request only loads or unloads a model and generates nothing.

Ollama loads a model, or unloads it if `keep_alive` is 0, when a request has no prompt, messages or
input, and answers without a token (server/routes.go: GenerateHandler, ChatHandler, EmbedHandler,
EmbeddingsHandler). So does `/v1/completions` without a prompt, and `/v1/chat/completions` where the
content of every message is an empty list (openai/openai.go, FromChatRequest).

When in doubt, a request generates: every field that is not in `_SILENT` must be empty. Older
versions generate from `system`, `template` or `images` alone.
"""

from __future__ import annotations

from typing import Final

from ollama_gateway.wire.body import folded, go_fold

_SILENT: Final = frozenset(
    {
        *("model", "keep_alive", "stream", "stream_options", "options", "think", "format"),
        *("truncate", "dimensions", "temperature", "top_p", "seed", "stop", "user"),
        *("max_tokens", "max_completion_tokens"),
    }
)
"""Fields from which Ollama generates nothing, whatever their value."""


def only_loads(document: dict[str, object], *, in_parts: bool = False) -> bool:
    """Return whether a request generates nothing.

    Args:
        document: a body that `parse` accepted.
        in_parts: whether messages on this route hold lists of parts; an empty list is no message.

    """
    return all(
        name in _SILENT or not value or (in_parts and name == "messages" and _is_silent(value))
        for name, value in folded(document).items()
    )


def _is_silent(messages: object) -> bool:
    return isinstance(messages, list) and all(map(_is_empty, messages))


def _is_empty(message: object) -> bool:
    """Return whether Ollama drops a message; one without `content` would be kept, or an error."""
    if not isinstance(message, dict):
        return False
    fields = [(go_fold(name), value) for name, value in message.items()]
    contents = [value for name, value in fields if name == "content"]
    others = [value for name, value in fields if name not in {"content", "role"}]
    return bool(contents) and all(value == [] for value in contents) and not any(others)
