"""How many tokens a prompt has: a function of the body, and of what the model hides.

A text has a token for every four characters begun, the rule of thumb for English; a number is one
token; the chat template adds `TEMPLATE`. What the model hides apart, a prompt never has more tokens
than its body has bytes, and `TEMPLATE`: a token of a text stands for one character at least, and
behind a number comes a byte that is no part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ollama_gateway.simulator.model import Model

PER_TOKEN = 4
"""Characters."""
TEMPLATE = 10
"""Tokens."""
MARKS = ("role", "type")
"""Keys whose texts say what the others are; a message costs what it says."""


def of_fields(model: Model, fields: Mapping[str, object], *names: str) -> int:
    """Count the prompt of a chat or a generation, which is made of the fields of these names."""
    if model.prompt_tokens is not None:
        return model.prompt_tokens + model.hidden_prompt
    return TEMPLATE + sum(_tokens(fields.get(name)) for name in names) + model.hidden_prompt


def rendered(fields: Mapping[str, Any]) -> str:
    """Put a prompt through the chat template, as `/api/show` tells it."""
    turns = [{"role": "system", "content": fields["system"]}] if fields.get("system") else []
    turns += fields.get("messages") or [{"role": "user", "content": fields.get("prompt", "")}]
    return "".join(f"{turn.get('role', '')}: {turn.get('content', '')}\n" for turn in turns)


def of_texts(model: Model, texts: Sequence[str]) -> int:
    """Count the texts to embed, which have no template; without any, nothing is run."""
    if not texts:
        return 0
    if model.prompt_tokens is not None:
        return model.prompt_tokens * len(texts) + model.hidden_prompt
    return sum(_tokens(text) for text in texts) + model.hidden_prompt


def of_text(text: str) -> int:
    """Count a text."""
    return _tokens(text)


def _tokens(value: object) -> int:
    """Count what is in a JSON value, however deep; its keys are free."""
    count = 0
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                count += -(-len(text) // PER_TOKEN)
            case int() | float():
                count += 1
            case list() as items:
                waiting += items
            case dict() as fields:
                waiting += [item for key, item in fields.items() if key not in MARKS]
    return count
