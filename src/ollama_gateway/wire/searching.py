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

from ollama_gateway.wire.body import go_fold, lookup
from ollama_gateway.wire.bounds import WEB_SEARCH, is_search
from ollama_gateway.wire.large import RequestBody, Steps
from ollama_gateway.wire.parts import parts
from ollama_gateway.wire.splicing import array_at, elements

PASSES: Final = 4
"""Runs of the model for one such request: the first, and one after each of three searches."""

MAX_TOOLS_BYTES: Final = 256 * 1024
"""Bytes of tools of which some may be taken out: as much as is read in one go."""


def wants_search(body: RequestBody) -> Steps[bool]:
    """Return whether an accepted body has such a tool; costs as much as parsing it again."""
    if isinstance(body, bytes):
        return _has_search(json.loads(body.decode(), object_pairs_hook=_Pairs))
    for part in parts(body):
        yield
        if _has_search(part.value(_Pairs)):
            return True
    return False


def without_search(body: RequestBody, document: dict[str, object]) -> RequestBody | None:
    """Take the search tools out of a body that has some; None where that is not to be done.

    `document` holds the body's fields, as `fields_of` reads them.

    Codex offers a search in every request, beside its own tools. Where a search is the only tool,
    or `tool_choice` asks for one, the client wants it: then, and where the body is not plain
    (members that are there twice, or in another spelling), it is to be refused.
    """
    text, start = _tools_of(body)
    if text is None or _is_chosen(body, document):
        return None
    try:
        kept, count = _kept(text)
    except ValueError:
        return None
    if not kept or len(kept) == count:
        return None
    tools = f"[{','.join(kept)}]"
    if _has_search(json.loads(f'{{"tools":{tools}}}', object_pairs_hook=_Pairs)):
        return None
    new = tools.encode()
    end = start + len(text.encode())
    if isinstance(body, bytes):
        return body[:start] + new + body[end:]
    return body.edited([(start, end, new)])


def _tools_of(body: RequestBody) -> tuple[str | None, int]:
    """Return the text of the only member `tools`, and its first byte."""
    if isinstance(body, bytes):
        return array_at(body, "tools")
    members = [member for member in body.found.members if go_fold(member.key) == "tools"]
    if [member.key for member in members] != ["tools"]:
        return None, 0
    (member,) = members
    if member.kind != "[" or member.end - member.start > MAX_TOOLS_BYTES:
        return None, 0
    return body.value(member).decode(), member.start


def _kept(text: str) -> tuple[list[str], int]:
    """Return the text of each tool that is no search, and the number of all tools."""
    kept, count = [], 0
    for tool in elements(text):
        count += 1
        types = list(_values(json.loads(tool, object_pairs_hook=_Pairs), "type"))
        if len(types) > 1:
            raise ValueError
        if not any(isinstance(kind, str) and is_search(kind) for kind in types):
            kept.append(tool)
    return kept, count


def _is_chosen(body: RequestBody, document: dict[str, object]) -> bool:
    """Return whether `tool_choice` names a search, however deep."""
    if isinstance(body, bytes):
        return WEB_SEARCH in json.dumps(lookup(document, "tool_choice"))
    chosen = [m for m in body.found.members if go_fold(m.key) == "tool_choice"]
    return any(
        m.end - m.start > MAX_TOOLS_BYTES or WEB_SEARCH in json.dumps(json.loads(body.value(m)))
        for m in chosen
    )


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
