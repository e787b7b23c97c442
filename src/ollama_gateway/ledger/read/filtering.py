"""The filter of the commands that list and sum up records.

A filter is applied twice. The stores select by their columns (`conditions`), which may let more
through than is wanted: a model has many spellings, and a column cannot hold every value. Then the
document decides (`matches`).
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Literal

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.read.records import StoredRecord
from ollama_gateway.ledger.record import RECORD_FIELDS
from ollama_gateway.wire.names import ModelName

Operator = Literal["=", ">=", "<", "contains"]
Kind = Literal["request", "change"]


@attrs.frozen
class Condition:
    """A condition on a record's columns."""

    columns: tuple[str, ...]
    """Any of them may fulfil it."""
    operator: Operator
    """`contains` looks for a text in lower case, whatever the column's case."""
    value: str | datetime


@attrs.frozen
class TimeRange:
    """Requests that began at one moment or later, and before another."""

    since: datetime | None = None
    until: datetime | None = None

    def contains(self, moment: datetime) -> bool:
        """Return whether a moment is in this range."""
        return (self.since is None or moment >= self.since) and (
            self.until is None or moment < self.until
        )

    def conditions(self) -> Iterator[Condition]:
        """Yield what the columns must fulfil."""
        if self.since is not None:
            yield Condition(("started_at",), ">=", self.since.astimezone(UTC))
        if self.until is not None:
            yield Condition(("started_at",), "<", self.until.astimezone(UTC))


@attrs.frozen
class Filter:
    """Matches the records that agree with all values given."""

    time_range: TimeRange = attrs.field(factory=TimeRange)
    key: str | None = None
    """A key's id, or its name."""
    model: str | None = None
    """In any spelling that Ollama accepts for the same model."""
    backend: str | None = None
    outcome: str | None = None
    reason: str | None = None
    end_user: str | None = None
    endpoint: str | None = None
    kind: Kind | None = "request"
    """None: requests and changes. The other values but the time are those of requests."""

    def matches(self, record: StoredRecord) -> bool:
        """Return whether a record agrees."""
        document = record.document
        if self.kind not in {None, record.kind}:
            return False
        if record.kind == "change":
            return self.time_range.contains(record.began)
        return (
            self.time_range.contains(record.began)
            and self._is_of_key(document)
            and self.is_of_model(document["model"])
            and all(getattr(self, name) in {None, document[name]} for name in _EXACT)
        )

    def is_of_model(self, model: str | None) -> bool:
        """Return whether a record's model is the one wanted."""
        return self.model is None or _key_of(self.model) == _key_of(model or "")

    def conditions(self) -> Iterator[Condition]:
        """Yield what the columns of every record that matches fulfil."""
        yield from self.time_range.conditions()
        if self.key is not None:
            yield Condition(("key_id", "key_name"), "=", self.key)
        if self.model is not None:
            yield Condition(("model",), "contains", _part_of(self.model))
        for name in _EXACT:
            if (value := getattr(self, name)) is not None:
                yield Condition((name,), "=", value)

    def _is_of_key(self, document: Document) -> bool:
        return self.key is None or self.key in {document["key_id"], document["key_name"]}


ALL: Final = Filter()
"""All requests."""
EVERYTHING: Final = Filter(kind=None)
"""All requests and changes."""
_EXACT: Final = sorted(
    {field.name for field in attrs.fields(Filter)}
    & {field.name for field in RECORD_FIELDS if field.name != "model"}
)
"""Fields that must have exactly the value given."""


@lru_cache(maxsize=1024)
def _key_of(model: str) -> str:
    try:
        return ModelName.parse(model).key
    except BadRequest:
        return model


def _part_of(model: str) -> str:
    """Return a part that all spellings of a model have, in lower case."""
    try:
        return ModelName.parse(model).model.lower()
    except BadRequest:
        return model.lower() if model.isascii() else ""
