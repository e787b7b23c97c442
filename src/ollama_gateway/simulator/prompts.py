"""Count the tokens of a prompt: a function of the body, and of the model's hidden prompt.

A text has one token per four characters or part of four, the rule of thumb for English; a number is
one token; the chat template adds `TEMPLATE`. Apart from a hidden prompt, a prompt never has more
tokens than its body has bytes plus `TEMPLATE`: a token of a text stands for at least one character,
and a byte that is no part of it follows each number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import attrs

from ollama_gateway.simulator.model import Model

PER_TOKEN = 4
"""Characters."""
TEMPLATE = 10
"""Tokens."""
MARKS = ("role", "type")
"""Keys whose values describe other values; a message costs its contents."""
FIRST = ("tools", "system", "instructions")
"""Fields that templates print before the others."""


@attrs.frozen
class Prompt:
    """A prompt as a runner sees it.

    Args:
        tokens: all of them.
        template: those with which every prompt of the model begins.
        texts: the rest in order; empty if the model has no prefix cache.

    """

    tokens: int
    template: int = 0
    texts: tuple[str, ...] = ()


def of_fields(model: Model, fields: Mapping[str, object], *names: str) -> Prompt:
    """Return the prompt of a chat or a generation, which consists of the fields of these names."""
    template = TEMPLATE + model.hidden_prompt
    texts: tuple[str, ...] = ()
    if model.cache is not None:
        in_order = sorted(names, key=lambda name: name not in FIRST)
        texts = tuple(text for name in in_order for text in _texts(fields.get(name)))
    if model.prompt_tokens is not None:
        return Prompt(model.prompt_tokens + model.hidden_prompt, template, texts)
    return Prompt(template + sum(_tokens(fields.get(name)) for name in names), template, texts)


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


def tokens_of(text: str) -> int:
    """Count the tokens of a text."""
    return -(-len(text) // PER_TOKEN)


def _tokens(value: object) -> int:
    return sum(map(tokens_of, _texts(value)))


def _texts(value: object) -> Iterator[str]:
    """Yield the texts in a JSON value of any depth in order; its keys are free."""
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str() as text:
                yield text
            case int() | float() as number:
                yield str(hash(number))[-PER_TOKEN:]  # one token, however long the number
            case list() as items:
                waiting += reversed(items)
            case dict() as fields:
                waiting += [item for key, item in reversed(fields.items()) if key not in MARKS]
