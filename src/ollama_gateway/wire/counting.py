"""How many tokens a Messages request has, as Ollama estimates it for `message_start`.

A quarter of the bytes of what is said (anthropic/anthropic.go, EstimateCountTokens). It is an
estimate and no bound: clients compact a conversation by it, and a bound would have them do so at a
quarter of what the model can read.
"""

from __future__ import annotations

import json
from typing import Final

BYTES_A_TOKEN: Final = 4
_PRINTED: Final = ("tool_use", "tool_result")
"""Types of parts that are counted as the JSON they are."""


def estimated_tokens(document: dict[str, object]) -> int:
    """Tokens of system prompt, messages and tools; at least 1 where anything is there."""
    system, messages = document.get("system"), _objects(document.get("messages"))
    tools = _objects(document.get("tools"))
    said = _content(system) + sum(map(_message, messages)) + sum(map(_tool, tools))
    is_something = system is not None or bool(messages)
    return max(said // BYTES_A_TOKEN, int(is_something))


def _message(message: dict[str, object]) -> int:
    return _text(message.get("role")) + _content(message.get("content"))


def _content(content: object) -> int:
    """Bytes of a text, of a list of parts, or of anything else as JSON."""
    if content is None or isinstance(content, str):
        return _text(content)
    if isinstance(content, list):
        return sum(map(_part, _objects(content)))
    return _json(content)


def _part(part: dict[str, object]) -> int:
    said = _text(part.get("text")) + _text(part.get("thinking"))
    return said + (_json(part) if part.get("type") in _PRINTED else 0)


def _tool(tool: dict[str, object]) -> int:
    schema = tool.get("input_schema")
    size = 0 if schema is None else _json(schema)
    return size + _text(tool.get("name")) + _text(tool.get("description"))


def _json(value: object) -> int:
    return _text(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def _text(value: object) -> int:
    return len(value.encode("utf-8", "surrogatepass")) if isinstance(value, str) else 0


def _objects(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
