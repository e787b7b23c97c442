"""Suggest the name that was probably meant, for operators: they may know what exists."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from itertools import islice
from typing import Final

from ollama_gateway.printable import printable

_LONGEST: Final = 200
"""Characters of a name that are compared."""
_MOST: Final = 10_000
"""Names that are compared."""
_MIN_PART: Final = 3
"""Characters with which a part of a name suggests it."""


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return ` (did you mean NAME?)`, printable; an empty string if no name is near.

    Args:
        word: an unknown name.
        known: the names that exist.
        cutoff: how similar a name must be, from 0 to 1.

    """
    names = {name.casefold()[:_LONGEST]: name for name in islice(known, _MOST)}
    given = word.casefold()[:_LONGEST]
    found = difflib.get_close_matches(given, names, n=1, cutoff=cutoff)
    if not found and len(given) >= _MIN_PART:
        found = sorted((name for name in names if given in name), key=len)
    return f" (did you mean {printable(names[found[0]])}?)" if found else ""
