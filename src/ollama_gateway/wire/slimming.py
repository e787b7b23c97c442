"""A large body without its pictures: what is read of it then takes no memory of their size.

Read as it is, a body stands in memory three times, as bytes, as text and as values, and with one
emoji in its words the text alone takes four bytes for each. Pictures are nearly all of a large
body, and nothing reads them here. So a long run of base64 is left out, and a mark stands for it.

The rule: the slim body is JSON exactly where the whole one is, with the same structure and, but for
these runs, the same values. A run stands between a quote or a comma and a quote. No character of
base64 opens, closes or escapes anything; in a string a run is part of its text, and outside of any
nothing so long is JSON: no literal has its letters, and no number a quote behind it. One thing is
not seen: that two keys of such a length are the same. No field of Ollama's is called so.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from typing import Final

import attrs

LONG: Final = 32 * 1024
"""Bytes of a run that is worth it."""
PREFIX: Final = 128
"""Bytes in which the comma of `data:image/png;base64,` is looked for."""

_BASE64: Final = re.compile(rb"[A-Za-z0-9+/=]+")


@attrs.frozen
class Slim:
    """A body without its long runs, and what was left out."""

    body: bytes = attrs.field(repr=False)
    _runs: tuple[memoryview, ...] = attrs.field(default=(), repr=False)
    _mark: str = attrs.field(default="", repr=False)
    """What stands for a run, its number follows; nobody outside can know it."""

    def length(self, text: str) -> int:
        """Characters that a text of the slim body has in the whole one."""
        if not self._mark:
            return len(text)
        # The quote behind a run closes its text: a mark is the last that there is in one.
        head, mark, number = text.partition(self._mark)
        return len(head) + (len(self._runs[int(number)]) if mark else 0)

    def whole(self, body: bytes) -> bytes:
        """The slim body, perhaps changed meanwhile, with its runs where their marks stand."""
        if not self._mark:
            return body
        parts = re.split(rb"%b([0-9]+)" % self._mark.encode(), body)
        return b"".join(self._runs[int(part)] if n % 2 else part for n, part in enumerate(parts))


def slimmed(body: bytes, long: int = LONG) -> Slim:
    """A body without its long runs of base64, whether it is JSON or not: 60 MiB take 0.1 s.

    Args:
        body: its bytes.
        long: bytes of a run that is left out.

    """
    spans = list(_runs(body, long)) if len(body) >= long else []
    if not spans:
        return Slim(body)
    # A tilde is in no model's name and no number: what stands for a run is never taken for one.
    mark = f"~{secrets.token_hex(16)}-"
    parts, rest = [], 0
    for number, (start, end) in enumerate(spans):
        parts += [body[rest:start], b"%b%d" % (mark.encode(), number)]
        rest = end
    view = memoryview(body)
    runs = tuple(view[start:end] for start, end in spans)
    return Slim(b"".join([*parts, body[rest:]]), runs, mark)


def _runs(body: bytes, long: int) -> Iterator[tuple[int, int]]:
    """Where runs begin and end."""
    for start, end in _unquoted(body, long):
        start = body.rfind(b",", start, min(start + PREFIX, end)) + 1 or start  # noqa: PLW2901
        if end - start >= long and _BASE64.fullmatch(body, start, end):
            yield start, end


def _unquoted(body: bytes, long: int) -> Iterator[tuple[int, int]]:
    """What stands between two quotes, next to each other, and is long; most quotes are skipped."""
    start = body.find(b'"') + 1
    while 0 < start < len(body):
        last = body.rfind(b'"', start, start + long)
        if last < 0:
            last = body.find(b'"', start + long)
            if last >= 0:
                yield start, last
        start = last + 1
