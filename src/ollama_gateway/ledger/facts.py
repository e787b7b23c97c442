"""The facts of a record that are filtered and summed, as columns of a table beside the documents.

The table `facts` of a journal has one narrow row for each finished record, so a filter or a sum
reads a hundred bytes of a record instead of parsing its document. It is read whole or by `seq`: a
million rows take less time than an index would cost the writer.

The document is the truth; only it is chained. A value that its column cannot hold exactly makes the
whole row *inexact*, and readers then take the record's document. `audit verify` compares each row
with its document.
"""

from __future__ import annotations

from datetime import datetime
from operator import itemgetter
from typing import Any, Final

from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.fields import COUNT, MOMENT, Form
from ollama_gateway.ledger.record import RECORD_FIELDS

FACT_FIELDS: Final = tuple(
    field for field in RECORD_FIELDS if field.is_column and field.name != "request_id"
)
"""The fields that have a column; `rows` has the request's id."""
FACTS: Final = tuple(field.name for field in FACT_FIELDS)
SUMMED: Final = tuple(field.name for field in FACT_FIELDS if field.form is COUNT)
"""The facts that are summed; the others are filtered and grouped by."""
MAX_COUNT: Final = 2**44
"""The largest number in a column: a sum of 500,000 of them fits the 64 bits that SQLite has."""
_MOMENT_LENGTH: Final = len("2026-01-02T03:04:05.000000+00:00")

CREATE_FACTS: Final = f"""CREATE TABLE IF NOT EXISTS facts (
    seq INTEGER PRIMARY KEY, is_exact INTEGER NOT NULL, {", ".join(FACTS)})"""
# One that an edited file has already must not stop the writer.
ADD_FACTS: Final = f"INSERT OR REPLACE INTO facts VALUES ({', '.join('?' * (len(FACTS) + 2))})"  # noqa: S608 - our names

FactsRow = tuple[Any, ...]
"""A seq, whether the facts are exact, and the facts in the order of `FACTS`."""


def facts_of(seq: int, document: Document) -> FactsRow:
    """Return the row of a record; without facts if a column cannot hold its value exactly."""
    values = [document.get(name) for name in FACTS]
    for field, value in zip(FACT_FIELDS, values, strict=True):
        if not _fits(value, field.form):
            return (seq, 0, *_NOTHING)
    return (seq, 1, *values)


def facts_of_own(seq: int, document: Document, text: str) -> FactsRow:
    """Return the same for a record of this program, whose values have the right types, fast.

    Args:
        seq: of the record.
        document: with all fields.
        text: the document as it is stored.

    """
    if "\\ud" in text:
        return facts_of(seq, document)
    for count in _counts_of(document):
        if count is not None and not 0 <= count <= MAX_COUNT:
            return facts_of(seq, document)
    return (seq, 1, *_all_of(document))


_counts_of: Final = itemgetter(*SUMMED)
_all_of: Final = itemgetter(*FACTS)
_NOTHING: Final = (None,) * len(FACTS)


def _fits(value: object, form: Form) -> bool:
    if value is None:
        return form is not MOMENT
    if form is COUNT:
        return type(value) is int and 0 <= value <= MAX_COUNT
    if not isinstance(value, str) or not (value.isascii() or _is_unicode(value)):
        return False
    return form is not MOMENT or _is_moment(value)


def _is_moment(value: str) -> bool:
    """Return whether a moment is written as `fields.MOMENT` does: columns are compared as texts."""
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return len(value) == _MOMENT_LENGTH and value.endswith("+00:00")


def _is_unicode(value: str) -> bool:
    """Return whether a text has no lone surrogates, which SQLite refuses."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
