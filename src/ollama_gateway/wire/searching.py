"""Find out whether a request lets Ollama search the web, which means asking Ollama's cloud.

Ollama serves tools whose type begins with `web_search` itself: it sends the model's query to
ollama.com, gives the result to the model, and does so up to three times for one request
(middleware/web_search.go). The last of several members with one name does not always count: in a Go
struct a later `"type":null` changes nothing. So all members are checked, and one such type is
enough. A large body is checked part by part; a type too long to read counts as a search.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from ollama_gateway.wire.body import go_fold
from ollama_gateway.wire.bounds import is_search
from ollama_gateway.wire.large import RequestBody, Steps
from ollama_gateway.wire.parts import parts

PASSES: Final = 4
"""Runs of the model for one such request: the first, and one after each of three searches."""


def wants_search(body: RequestBody) -> Steps[bool]:
    """Return whether an accepted body has such a tool; costs as much as parsing it again."""
    if isinstance(body, bytes):
        return _has_search(json.loads(body.decode(), object_pairs_hook=_Pairs))
    for part in parts(body):
        yield
        if _has_search(part.value(_Pairs)):
            return True
    return False


def _has_search(pairs: object) -> bool:
    tools = (tool for tools in _values(pairs, "tools") if isinstance(tools, list) for tool in tools)
    types = (kind for tool in tools for kind in _values(tool, "type"))
    return any(isinstance(kind, str) and is_search(kind) for kind in types)


class _Pairs(tuple[tuple[str, Any], ...]):
    """An object's members in order, as a type that differs from JSON's lists."""

    __slots__ = ()


def _values(value: object, name: str) -> Iterator[Any]:
    for key, found in value if isinstance(value, _Pairs) else ():
        if go_fold(key) == name:
            yield found
