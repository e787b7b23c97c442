"""The fields of an audit record: how each is stored and checked when it is read again.

`AuditRecord` and `Attempt` (`record.py`) mark their attributes with `stored`. The document in the
journal, the listing, the JSON of the commands and the columns in PostgreSQL follow from these
marks, in the order in which the attributes are declared. The hash chain covers the text of the
document, so existing fields keep their names and order; a new field may stand anywhere, since each
document is hashed as it was written.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import attrs

JsonTypes = tuple[type, ...]

_KEY: Final = "stored"


def _as_it_is(value: Any) -> Any:
    return value


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


@attrs.frozen
class Form:
    """How one kind of value is stored."""

    json: JsonTypes
    """The types that it has in JSON; null is always allowed."""
    column: str = ""
    """The type of a column in PostgreSQL."""
    to_json: Callable[[Any], Any] = _as_it_is


TEXT: Final = Form((str,), "text")
COUNT: Final = Form((int,), "bigint")
FLAG: Final = Form((bool,))
MILLISECONDS: Final = Form((int, float), to_json=_milliseconds)
"""Stored in ms, held in seconds."""
MOMENT: Final = Form((str,), "timestamptz", lambda when: when.isoformat(timespec="microseconds"))
"""Stored in UTC (RFC 3339), to the microsecond."""


@attrs.frozen
class StoredField:
    """One field, as it stands in the document."""

    name: str
    attribute: str
    form: Form
    is_column: bool
    """Whether PostgreSQL has it as a column too, to filter and sum by."""


def stored(form: Form, name: str | None = None, *, is_column: bool = False) -> dict[str, Any]:
    """Return the metadata of a stored attribute; it keeps its own name unless one is given."""
    return {_KEY: (form, name, is_column)}


def stored_fields(cls: type[attrs.AttrsInstance]) -> tuple[StoredField, ...]:
    """Return the stored fields of a class, in the order of the document."""
    found = []
    for attribute in attrs.fields(cls):
        if mark := attribute.metadata.get(_KEY):
            form, name, is_column = mark
            found.append(StoredField(name or attribute.name, attribute.name, form, is_column))
    return tuple(found)


def document_maker(fields: Sequence[StoredField]) -> Callable[[object], dict[str, Any]]:
    """Return the function that makes the document of an object, with these stored fields."""
    names = [field.name for field in fields]
    values_of = attrgetter(*(field.attribute for field in fields))
    converted = [(f.name, f.form.to_json) for f in fields if f.form.to_json is not _as_it_is]

    def make(value: object) -> dict[str, Any]:
        document = dict(zip(names, values_of(value), strict=True))
        for name, to_json in converted:
            document[name] = to_json(document[name])
        return document

    return make


def list_of(fields: Sequence[StoredField]) -> Form:
    """Return the form of a list of objects with these fields."""
    make = document_maker(fields)
    return Form((list,), to_json=lambda values: [make(value) for value in values])
