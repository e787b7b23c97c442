"""Take a large body apart into small documents that together hold all its values.

The body is divided where the scanner cut it. Each part starts with the containers that were open at
its first cut, with their keys, and ends with the brackets that close those open at its last. So a
part is a body itself, and a function that reads the fields of a small body can read every part.
Long strings are left out (`LongText`), so a part stays small however large its pictures are.

The rule for adding up parts: a container that a cut divides appears in two parts, so it can be
counted twice, and each of the two holds only some of its members.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final, NoReturn, TypeAlias

import attrs

from ollama_gateway.wire.body import JSON_WHITESPACE, LongText, go_fold, invalid_body, lookup
from ollama_gateway.wire.large import Large, RequestBody, Steps
from ollama_gateway.wire.structure import Container, Cut, Omission

MAX_PATH_KEY: Final = 128
"""Bytes of a key in a part's opening; `~` stands for a longer key, which no reader looks for."""

_TOOLS: Final = 2
"""The depth of a cut between two tools: the outermost object and their list."""

Pairs: TypeAlias = Callable[[list[tuple[str, Any]]], Any]


@attrs.frozen
class Part:
    """One part of a body."""

    text: str = attrs.field(repr=False)
    """JSON, except that `NaN` stands for each long string."""
    texts: tuple[LongText, ...] = attrs.field(repr=False)
    """The long strings, in order."""
    keys: tuple[str, ...]
    """The keys on the path to the container in which the part begins."""
    divided: tuple[tuple[str, int], ...]
    """For each end that is a cut inside a member: the first key on its path, and its depth."""

    def value(self, pairs: Pairs | None = None) -> Any:
        """Parse the part; `pairs` builds the value of an object, as in `json.loads`."""
        texts = iter(self.texts)
        return json.loads(self.text, object_pairs_hook=pairs, parse_constant=lambda _: next(texts))


def whole(body: RequestBody) -> Steps[Any]:
    """Parse a document part by part; its large arrays must be members of the outermost object.

    An element larger than a part becomes several elements. Raises BadRequest if the document is not
    valid JSON.
    """
    if isinstance(body, bytes):
        try:
            return json.loads(body, parse_constant=_no_constant)
        except (ValueError, RecursionError):
            raise invalid_body("not valid JSON") from None
    found: dict[str, Any] = {}
    for part in parts(body):
        yield
        for key, value in part.value().items():
            if isinstance(value, list) and isinstance(found.get(key), list):
                found[key] += value
            else:
                found[key] = value
    return found


def _no_constant(_literal: str) -> NoReturn:
    raise ValueError("NaN and Infinity are not JSON: they would break every client's list")


def parts(body: Large) -> Iterator[Part]:
    """Yield the parts of a body in order; each takes at most about 5 ms."""
    found = body.found
    omissions = iter(found.omissions)
    omission = next(omissions, None)
    for first, last in pairwise([Cut(0, ()), *found.cuts, Cut(found.closed_at + 1, ())]):
        left_out = []
        while omission is not None and omission.end <= last.at:
            left_out.append(omission)
            omission = next(omissions, None)
        yield _part(body, first, last, left_out)


def _part(body: Large, first: Cut, last: Cut, left_out: list[Omission]) -> Part:
    chunks, rest = [], first.at
    for omission in left_out:
        chunks += [body.blocks.read(rest, omission.start), _stand_in(omission)]
        rest = omission.end
    chunks.append(body.blocks.read(rest, last.at))
    inner = b"".join(chunks).rstrip(JSON_WHITESPACE).removesuffix(b",")
    closers = b"".join(b"}" if one.is_object else b"]" for one in reversed(last.path))
    openers = b"".join(_opener(body, one) for one in first.path)
    texts = [LongText.of(one.size, one.printed) for one in left_out if one.size and not one.is_key]
    keys = _keys(body, first)
    ends = [(keys, len(first.path)), (_keys(body, last), len(last.path))]
    divided = tuple((names[0], depth) for names, depth in ends if names)
    return Part((openers + inner + closers).decode(), tuple(texts), keys, divided)


def _keys(body: Large, cut: Cut) -> tuple[str, ...]:
    return tuple(json.loads(_key(body, one)) for one in cut.path if one.key_start >= 0)


def _stand_in(omission: Omission) -> bytes:
    if omission.is_key:
        return b'"~"'
    return b"NaN" if omission.size else b" "


def _opener(body: Large, container: Container) -> bytes:
    key = _key(body, container) + b":" if container.key_start >= 0 else b""
    return key + (b"{" if container.is_object else b"[")


def _key(body: Large, container: Container) -> bytes:
    start, end = container.key_start, container.key_end
    return body.blocks.read(start, end) if end - start <= MAX_PATH_KEY else b'"~"'


def divides_a_namespace(part: Part, document: dict[str, object]) -> bool:
    """Return whether the part begins or ends inside a namespace, a tool that holds tools.

    `document` is the part's value. A namespace's name counts once for each of its tools, but only
    one part holds the name.
    """
    if not any(go_fold(key) == "tools" and depth > _TOOLS for key, depth in part.divided):
        return False
    tools = lookup(document, "tools")
    ends = (tools[0], tools[-1]) if isinstance(tools, list) and tools else ()
    return any(isinstance(tool, dict) and lookup(tool, "tools") for tool in ends)
