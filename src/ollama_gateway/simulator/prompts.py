"""Count the tokens of a prompt: a function of the body, and of the model's hidden prompt.

A text has one token per four characters or part of four, the rule of thumb for English; a number is
one token; the chat template adds `TEMPLATE`. Apart from a hidden prompt, a prompt never has more
tokens than its body has bytes plus `TEMPLATE`: a token of a text stands for at least one character,
and a byte that is no part of it follows each number.
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
"""Keys whose values describe other values; a message costs its contents."""


def of_fields(model: Model, fields: Mapping[str, object], *names: str) -> int:
    """Count the prompt of a chat or a generation, which consists of the fields of these names."""
    if model.prompt_tokens is not None:
        return model.prompt_tokens + model.hidden_prompt
    return TEMPLATE + sum(_tokens(fields.get(name)) for name in names) + model.hidden_prompt


def rendered(fields: Mapping[str, Any]) -> str:
    """Apply the chat template to a prompt, as `/api/show` reports the template."""
    turns = [{"role": "system", "content": fields["system"]}] if fields.get("system") else []
    turns += fields.get("messages") or [{"role": "user", "content": fields.get("prompt", "")}]
    return "".join(f"{turn.get('role', '')}: {turn.get('content', '')}\n" for turn in turns)


def of_texts(model: Model, texts: Sequence[str]) -> int:
    """Count the texts to embed, which have no template; without any, nothing runs."""
    if not texts:
        return 0
    if model.prompt_tokens is not None:
        return model.prompt_tokens * len(texts) + model.hidden_prompt
    return sum(_tokens(text) for text in texts) + model.hidden_prompt


def of_text(text: str) -> int:
    """Count the tokens of a text."""
    return _tokens(text)


def _tokens(value: object) -> int:
    """Count the tokens in a JSON value of any depth; its keys are free."""
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
