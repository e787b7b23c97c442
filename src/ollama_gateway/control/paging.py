"""Pages of a list, and entity tags."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

import attrs

from ollama_gateway.control.errors import Problem, WrongInput

Document = dict[str, Any]
Place = tuple[str | int | float, ...]
"""Where an item stands in the order of its list: no two items have the same."""
T = TypeVar("T")

MAX_CURSOR: Final = 4096
ETAG_LENGTH: Final = 32


@attrs.frozen
class DocumentPage:
    """Some of a list's items."""

    items: list[Document]
    next: str | None
    """The cursor of the next page; None at the end."""

    def document(self) -> Document:
        """Return it as JSON has it."""
        return {"items": self.items, "next": self.next}


def page_after(
    items: Iterable[T],
    place_of: Callable[[T], Place],
    cursor: str | None,
    limit: int,
    show: Callable[[T], Document],
) -> DocumentPage:
    """Return the page after a cursor, of a list that may have changed since; raises WrongInput.

    Args:
        items: the whole list, in any order.
        place_of: returns where an item stands.
        cursor: `next` of the page before; None for the first page.
        limit: the most items.
        show: returns an item's document.

    """
    ordered = sorted(items, key=place_of)
    if cursor is not None:
        after = _read(cursor)
        try:
            ordered = [item for item in ordered if place_of(item) > after]
        except TypeError:
            raise _WRONG from None
    shown = ordered[:limit]
    following = cursor_of(place_of(shown[-1])) if len(ordered) > limit and shown else None
    return DocumentPage([show(item) for item in shown], following)


def cursor_of(place: Place) -> str:
    """Return the cursor of the page after a place."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def place_in(cursor: str | None, kinds: tuple[type, ...]) -> Place | None:
    """Return the place that a cursor names, of values of these types; raises WrongInput."""
    if cursor is None:
        return None
    place = _read(cursor)
    if tuple(map(type, place)) != kinds:
        raise _WRONG
    return place


def _read(cursor: str) -> Place:
    if len(cursor) > MAX_CURSOR:
        raise _WRONG
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise _WRONG from None
    if not isinstance(found, list) or not all(type(one) in {str, int, float} for one in found):
        raise _WRONG
    return tuple(found)


_WRONG: Final = WrongInput([Problem("cursor", "is not one that this list gave")])


def etag_of(document: Document) -> str:
    """Return the entity tag of a document: it changes when the document does."""
    text = json.dumps(document, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:ETAG_LENGTH]
