"""A large body by parts: small documents that together hold all its values, each where it stands.

The body is taken apart where the scanner cut it. In front of a part stands what was open there, the
containers and their keys, and behind it what closes them; so a part is a body of its own, and who
reads the fields of one can read those of all. Long texts are left out (`LongText`), so that a part
is small however large its pictures are.

The rule for who adds up what parts say: a container that a cut divides is in two of them, so it can
be counted twice, and of its members one part has some and the next the others.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any, Final, NoReturn, TypeAlias

import attrs

from ollama_gateway.wire.body import LongText, go_fold, invalid_body, lookup
from ollama_gateway.wire.large import Large, RequestBody, Steps
from ollama_gateway.wire.structure import Container, Cut, Omission

MAX_PATH_KEY: Final = 128
"""Bytes of a key in front of a part; a longer one, which no reader knows, is another one there."""

_TOOLS: Final = 2
"""How deep a cut between two tools is: in the outermost object and their list."""

Pairs: TypeAlias = Callable[[list[tuple[str, Any]]], Any]


@attrs.frozen
class Part:
    """One part of a body."""

    text: str = attrs.field(repr=False)
    """JSON, but for a `NaN` where a long text was."""
    texts: tuple[LongText, ...] = attrs.field(repr=False)
    """Those, in their order."""
    keys: tuple[str, ...]
    """Under which the container stands in which it begins."""
    divided: tuple[tuple[str, int], ...]
    """Of its beginning and its end, where a cut is there: the first key, and how deep it is."""

    def value(self, pairs: Pairs | None = None) -> Any:
        """Its value; `pairs` makes something else of an object."""
        texts = iter(self.texts)
        return json.loads(self.text, object_pairs_hook=pairs, parse_constant=lambda _: next(texts))


def whole(body: RequestBody) -> Steps[Any]:
    """The value of a document whose large arrays are the outermost object's; made part by part.

    An element that is larger than a part is made into several. Raises BadRequest where it is none.
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
    """The parts of a body, in their order; each takes at most about 5 ms."""
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
    pieces, rest = [], first.at
    for omission in left_out:
        pieces += [body.blocks.read(rest, omission.start), _stand_in(omission)]
        rest = omission.end
    pieces.append(body.blocks.read(rest, last.at))
    inner = b"".join(pieces).rstrip(b" \t\r\n").removesuffix(b",")
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
    """Whether a part, whose value is `document`, begins or ends within a tool that holds tools.

    The name of such a one goes before each of its tools, and is in one part alone.
    """
    if not any(go_fold(key) == "tools" and depth > _TOOLS for key, depth in part.divided):
        return False
    tools = lookup(document, "tools")
    ends = (tools[0], tools[-1]) if isinstance(tools, list) and tools else ()
    return any(isinstance(tool, dict) and lookup(tool, "tools") for tool in ends)
