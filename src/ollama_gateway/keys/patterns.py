"""The patterns of a key: which models it may use, and which aliases by their own names.

A pattern covers models (`llama3*`), or with `alias:` before it the names of aliases
(`alias:gpt-*`) and no model. None of the latter allows anything to go to Ollama's cloud.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from ollama_gateway.errors import BadRequest
from ollama_gateway.models.aliases import covers, has_wildcards
from ollama_gateway.wire.names import MAX_PATTERN, ModelName, is_cloud_pattern, matches

ALIAS: Final = "alias:"


def is_pattern(text: str) -> bool:
    """Return whether a pattern can match: it is a name, or ASCII with wildcards."""
    text = text.removeprefix(ALIAS)
    if has_wildcards(text):
        return re.fullmatch(rf"[!-~]{{1,{MAX_PATTERN}}}", text) is not None
    try:
        ModelName.parse(text)
    except BadRequest:
        return False
    return True


def cover_model(patterns: Iterable[str], name: ModelName) -> bool:
    """Return whether one of the patterns covers this model."""
    return any(matches(pattern, name) for pattern in _of_models(patterns))


def cover_alias(patterns: Iterable[str], name: ModelName) -> bool:
    """Return whether one of the patterns covers an alias, by the name that is asked for."""
    return any(
        covers(pattern.removeprefix(ALIAS), name)
        for pattern in patterns
        if pattern.startswith(ALIAS)
    )


def cover_cloud(patterns: Iterable[str]) -> bool:
    """Return whether one of the patterns allows data to go to Ollama's cloud."""
    return any(map(is_cloud_pattern, _of_models(patterns)))


def _of_models(patterns: Iterable[str]) -> Iterator[str]:
    return (pattern for pattern in patterns if not pattern.startswith(ALIAS))
