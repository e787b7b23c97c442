"""Whether a request has a model loaded or unloaded, and nothing else: it says no word.

Ollama loads a model, or with `keep_alive` 0 unloads it, where a request has no prompt, no messages
or no input, and answers without a token (server/routes.go: GenerateHandler, ChatHandler,
EmbedHandler, EmbeddingsHandler). So does `/v1/completions` without a prompt, and
`/v1/chat/completions` where every message's content is an empty list (openai/openai.go,
FromChatRequest).

It errs towards words: a field that is not known to say none must be empty. Older versions generate
from `system` or `template` alone, and from `images`.
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
"""Fields that say nothing, whatever they hold."""


def only_loads(document: dict[str, object], *, in_parts: bool = False) -> bool:
    """Whether a request says no word.

    Args:
        document: a body that `parse` accepted.
        in_parts: whether messages hold lists of parts on this route, of which an empty one is none.

    """
    return all(
        name in _SILENT or not value or (in_parts and name == "messages" and _is_silent(value))
        for name, value in folded(document).items()
    )


def _is_silent(messages: object) -> bool:
    return isinstance(messages, list) and all(map(_is_empty, messages))


def _is_empty(message: object) -> bool:
    """Whether it becomes no message; without any content it would be one, or an error."""
    if not isinstance(message, dict):
        return False
    fields = [(go_fold(name), value) for name, value in message.items()]
    contents = [value for name, value in fields if name == "content"]
    others = [value for name, value in fields if name not in {"content", "role"}]
    return bool(contents) and all(value == [] for value in contents) and not any(others)
