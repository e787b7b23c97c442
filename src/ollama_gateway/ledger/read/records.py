"""An audit record as it is read again: checked, since a writable file can hold anything.

It is that of a request, or of a change by an operator.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, Literal, NoReturn

import attrs

from ollama_gateway.ledger.attempted import ATTEMPT_FIELDS
from ollama_gateway.ledger.document import CHANGE_TYPES, Document, is_change
from ollama_gateway.ledger.fields import JsonTypes
from ollama_gateway.ledger.read.page import MAX_INT64
from ollama_gateway.ledger.record import RECORD_FIELDS

_TYPES: Final = {field.name: field.form.json for field in RECORD_FIELDS}
_TYPES_OF_ATTEMPT: Final = {field.name: field.form.json for field in ATTEMPT_FIELDS}


@attrs.frozen
class StoredRecord:
    """A record that was read and checked."""

    journal: str
    """The name of the journal, or of PostgreSQL and the journal."""
    seq: int
    """Its number there; 0 while the request runs."""
    document: Document
    """With every field that this version knows, of the right type or None."""
    began: datetime

    @property
    def kind(self) -> Literal["request", "change"]:
        """Whose record it is."""
        return "change" if is_change(self.document) else "request"

    @property
    def request_id(self) -> str:
        """The request's id; of a change, its own."""
        return str(self.document["change_id" if self.kind == "change" else "request_id"])

    @property
    def ended(self) -> float:
        """When the request ended or the change began, in seconds since 1970."""
        if self.kind == "change":
            return self.began.timestamp()
        return self.began.timestamp() + (self.document["duration_ms"] or 0) / 1000


def read(journal: str, seq: int, text: bytes) -> StoredRecord:
    """Read a record from its stored text; raises ValueError if this program did not write it."""
    found = _loaded(text)
    if not isinstance(found, dict):
        _refuse("record")
    if is_change(found):
        return _read_change(journal, seq, found)
    document = {**dict.fromkeys(_TYPES), **found}
    _check(document, _TYPES)
    document["attempts"] = [_attempt(one) for one in document["attempts"] or ()]
    if document["request_id"] is None or document["started_at"] is None:
        _refuse("record")
    began = _moment(document["started_at"])
    document["started_at"] = shown_time(began)
    return StoredRecord(journal, seq, document, began)


def _read_change(journal: str, seq: int, found: Document) -> StoredRecord:
    document = {**dict.fromkeys(CHANGE_TYPES), **found}
    _check(document, CHANGE_TYPES)
    if None in {document[name] for name in ("change_id", "at", "by", "action", "target")}:
        _refuse("record")
    began = _moment(document["at"])
    document["at"] = shown_time(began)
    return StoredRecord(journal, seq, document, began)


def as_text(given: str) -> str:
    """Return a search term as a store accepts it: a command line may hold invalid text."""
    return given.replace("\x00", "").encode(errors="replace").decode()


def shown_time(moment: datetime) -> str:
    """Return a moment in UTC, to the microsecond (RFC 3339)."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _loaded(text: bytes) -> Any:
    try:
        return json.loads(text.decode())
    except RecursionError:
        _refuse("record")


def _attempt(value: object) -> Document:
    if not isinstance(value, dict):
        _refuse("attempt")
    document = {**dict.fromkeys(_TYPES_OF_ATTEMPT), **value}
    _check(document, _TYPES_OF_ATTEMPT)
    return document


def _check(document: Document, types: Mapping[str, JsonTypes]) -> None:
    for name, allowed in types.items():
        value = document[name]
        if value is None:
            continue
        if type(value) not in allowed:  # a bool is an int to isinstance
            _refuse(name)
        if allowed[0] is int and not 0 <= value <= MAX_INT64:
            _refuse(name)


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        _refuse("started_at")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        _refuse("started_at")


def _refuse(what: str) -> NoReturn:
    raise ValueError(f"{what} is not as this program writes it")
