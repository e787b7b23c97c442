"""Estimate the tokens of a Messages request as Ollama does for `message_start`.

The estimate is a quarter of the bytes of the text (anthropic/anthropic.go, EstimateCountTokens). It
is no upper bound: clients compact a conversation by this figure, and a bound would make them do so
at a quarter of the model's context.
"""

from __future__ import annotations

import json
from typing import Final

from ollama_gateway.wire.body import LongText, utf8_size
from ollama_gateway.wire.large import RequestBody, Steps
from ollama_gateway.wire.parts import parts

BYTES_PER_TOKEN: Final = 4
_PRINTED: Final = ("tool_use", "tool_result")
"""Types of parts that count as the bytes of their own JSON."""


def estimated_tokens(body: RequestBody, fields: dict[str, object]) -> Steps[int]:
    """Estimate the tokens of system prompt, messages and tools; at least 1 if there are any.

    Args:
        body: the body; a large one is counted part by part.
        fields: its fields, as `fields_of` has read them.

    """
    if isinstance(body, bytes):
        size, has_any = _count_text(fields)
    else:
        size, has_any = 0, False
        for part in parts(body):
            yield
            more, has_more = _count_text(part.value())
            size, has_any = size + more, has_any or has_more
    return max(size // BYTES_PER_TOKEN, int(has_any))


def _count_text(document: dict[str, object]) -> tuple[int, bool]:
    """Count the bytes of the text, and return whether there are a system prompt or messages."""
    system, messages = document.get("system"), _objects(document.get("messages"))
    tools = _objects(document.get("tools"))
    size = _content(system) + sum(map(_message, messages)) + sum(map(_tool, tools))
    return size, system is not None or bool(messages)


def _message(message: dict[str, object]) -> int:
    return _text(message.get("role")) + _content(message.get("content"))


def _content(content: object) -> int:
    """Count the bytes of a string, of a list of parts, or of anything else as JSON."""
    if content is None or isinstance(content, str):
        return _text(content)
    if isinstance(content, list):
        return sum(map(_part, _objects(content)))
    return _json(content)


def _part(part: dict[str, object]) -> int:
    size = _text(part.get("text")) + _text(part.get("thinking"))
    return size + (_json(part) if part.get("type") in _PRINTED else 0)


def _tool(tool: dict[str, object]) -> int:
    schema = tool.get("input_schema")
    size = 0 if schema is None else _json(schema)
    return size + _text(tool.get("name")) + _text(tool.get("description"))


def _json(value: object) -> int:
    """Count the bytes of a value as JSON; a long text counts with its printed size."""
    left_out: list[int] = []
    text = json.dumps(_printable(value, left_out), separators=(",", ":"), ensure_ascii=False)
    return _text(text) + sum(left_out)


def _printable(value: object, left_out: list[int]) -> object:
    """Replace long texts by empty ones, and add their printed sizes to the list."""
    if isinstance(value, LongText):
        left_out.append(value.printed)
        return ""
    if isinstance(value, dict):
        return {key: _printable(inner, left_out) for key, inner in value.items()}
    if isinstance(value, list):
        return [_printable(inner, left_out) for inner in value]
    return value


def _text(value: object) -> int:
    return utf8_size(value) if isinstance(value, str) else 0


def _objects(value: object) -> list[dict[str, object]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
