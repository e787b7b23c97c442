"""The head of a prompt: its system texts and its first user message, in every dialect.

Clients send the whole conversation again in each turn, so its head stays the same. Only texts are
read, and the strings that stand for pictures; a mark such as `cache_control`, which moves from turn
to turn, is not.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import Final

import attrs

from ollama_gateway.wire.beginnings import MAX_TEXT
from ollama_gateway.wire.body import utf8

MAX_MESSAGES: Final = 64
"""Messages among which the first user message is looked for."""
MAX_PARTS: Final = 64
"""Parts of a content that are read."""
GROWING: Final = 2 * 1024
"""Characters of a plain prompt that count: clients may add each turn to it."""
TOKENS: Final = 64
"""Tokens of `context`, and of a prompt of token ids, that count: each turn adds to them."""
BLOCK: Final = 1024
"""Characters of a block of the head."""
MAX_BLOCKS: Final = 64

_SYSTEM_FIELDS: Final = ("system", "instructions")
_MESSAGE_FIELDS: Final = ("messages", "input")
_PROMPT_FIELDS: Final = ("context", "prompt")
_SYSTEM_ROLES: Final = ("system", "developer")
HEAD_FIELDS: Final = frozenset({*_SYSTEM_FIELDS, *_MESSAGE_FIELDS, *_PROMPT_FIELDS})
"""The fields that are read; no two dialects use one of them differently."""


@attrs.frozen
class PromptHead:
    """The beginning of a prompt; empty for a request without any text."""

    system: list[str] = attrs.field(repr=False)
    """The system texts, up to the first user message."""
    first: list[str] = attrs.field(repr=False)
    """The texts of the first user message."""


def head_of(fields: dict[str, object]) -> PromptHead:
    """Return the head of a request's prompt.

    Args:
        fields: those of its body in `HEAD_FIELDS`, under their exact names.

    """
    system = [text for name in _SYSTEM_FIELDS for text in _texts(fields.get(name))]
    for name in _MESSAGE_FIELDS:
        messages = fields.get(name)
        if isinstance(messages, str):
            return PromptHead(system, _texts(messages))
        if isinstance(messages, list):
            more, first = _said(messages)
            return PromptHead(system + more, first)
    return PromptHead(system, _prompt(*map(fields.get, _PROMPT_FIELDS)))


def block_hashes(head: PromptHead) -> tuple[int, ...]:
    """Return a hash of 32 bits for each block of the head, to find where two heads part.

    Of a text, as much counts as is read of it in a large body.
    """
    begun = (text[:MAX_TEXT] for text in (*head.system, *head.first))
    text = "".join(begun)[: BLOCK * MAX_BLOCKS]
    blocks = (text[start : start + BLOCK] for start in range(0, len(text), BLOCK))
    return tuple(int.from_bytes(blake2b(utf8(block), digest_size=4).digest()) for block in blocks)


def _said(messages: list[object]) -> tuple[list[str], list[str]]:
    """Return the texts of the system messages before the first user message, and its own."""
    system: list[str] = []
    for message in messages[:MAX_MESSAGES]:
        if not isinstance(message, dict):
            continue
        role, content = message.get("role"), message.get("content")
        if role == "user":
            return system, [*_texts(content), *_texts(message.get("images"))]
        if role in _SYSTEM_ROLES:
            system += _texts(content)
    return system, []


def _prompt(context: object, prompt: object) -> list[str]:
    """Return the beginning of a prompt without messages, which grows from turn to turn."""
    tokens = _tokens(context) or _tokens(prompt)
    return [tokens] if tokens else [text[:GROWING] for text in _texts(prompt)]


def _tokens(value: object) -> str:
    """Return the first ids of a list of tokens; empty if it is none."""
    begun = value[:TOKENS] if isinstance(value, list) else []
    return " ".join(str(token) for token in begun if type(token) is int)


def _texts(content: object) -> list[str]:
    """Return the strings of a content: of itself, or of its parts."""
    if isinstance(content, str):
        return [content] if content else []
    found: list[str] = []
    for part in content[:MAX_PARTS] if isinstance(content, list) else ():
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, dict):
            text = part.get("text")
            found += [text] if isinstance(text, str) else _media(part)
    return found


def _media(part: dict[str, object]) -> Iterator[str]:
    """Yield the strings of a part that is no text, such as a picture's address or data."""
    for name, value in part.items():
        if isinstance(value, str):
            yield value
        elif isinstance(value, dict) and name != "cache_control":
            yield from (inner for inner in value.values() if isinstance(inner, str))
