"""Finding out whether a request has Ollama search the web, which means asking its cloud.

Ollama serves tools of a type that begins `web_search` itself: it sends what the model wants to know
to ollama.com, gives the model what it found, and does so up to three times for one request
(middleware/web_search.go). The last member of a name is not always the one that counts: in a struct
of Go a later `"type":null` changes nothing. So every member is looked at, and one that begins so is
enough. A large body is looked at by its parts; a type that is too long to be read may begin so.
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
"""How often the model may run for one such request: once, and after each of three searches."""


def wants_search(body: RequestBody) -> Steps[bool]:
    """Whether a body that was accepted has such a tool; costs as much as parsing it again."""
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
    """An object's members as they came, unlike a list that holds lists."""

    __slots__ = ()


def _values(value: object, name: str) -> Iterator[Any]:
    for key, found in value if isinstance(value, _Pairs) else ():
        if go_fold(key) == name:
            yield found
