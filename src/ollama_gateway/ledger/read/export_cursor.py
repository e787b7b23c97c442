"""A cursor of an export: how far each journal was read, as a text of one word.

The records of a journal arrive in the order of their seqs, wherever they are, so an export that
goes on from a cursor misses none and repeats none, however late a journal's records arrive.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from typing import Final

from ollama_gateway.ledger.read.page import MAX_INT64

PREFIX: Final = "c1-"
"""Tells a cursor from a time, and its form from later ones."""
MAX_BYTES: Final = 2**24
"""Of a cursor, unpacked: some 300,000 journals."""


def cursor_of(reached: Mapping[str, int]) -> str:
    """Return the cursor for the seq up to which each journal was read, by its identity."""
    text = json.dumps(reached, separators=(",", ":"), sort_keys=True)
    return PREFIX + base64.urlsafe_b64encode(zlib.compress(text.encode())).decode().rstrip("=")


def reached_by(cursor: str) -> dict[str, int]:
    """Return the seq up to which each journal was read; raises ValueError for any other text."""
    try:
        found = json.loads(_unpacked(cursor))
    except (ValueError, RecursionError, zlib.error):
        found = None
    if not isinstance(found, dict) or not all(map(_is_seq, found.values())):
        raise ValueError("not a cursor")
    return found


def _unpacked(cursor: str) -> bytes:
    packed = cursor.removeprefix(PREFIX)
    raw = base64.b64decode(packed + "=" * (-len(packed) % 4), altchars=b"-_", validate=True)
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(raw, MAX_BYTES)
    if not cursor.startswith(PREFIX) or not unpacking.eof:
        raise ValueError("not a cursor, or not a whole one")
    return text


def _is_seq(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_INT64
