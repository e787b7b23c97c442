"""The filter of the commands that list and sum up records."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import attrs

from ollama_gateway.errors import BadRequest
from ollama_gateway.ledger.document import Document
from ollama_gateway.ledger.read.journals import TimeRange
from ollama_gateway.ledger.read.records import StoredRecord
from ollama_gateway.ledger.record import RECORD_FIELDS
from ollama_gateway.wire.names import ModelName


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

    def matches(self, record: StoredRecord) -> bool:
        """Return whether a record agrees."""
        document = record.document
        return (
            self.time_range.contains(record.began)
            and self._is_of_key(document)
            and self._is_of_model(document)
            and all(getattr(self, name) in {None, document[name]} for name in _EXACT)
        )

    def _is_of_key(self, document: Document) -> bool:
        return self.key is None or self.key in {document["key_id"], document["key_name"]}

    def _is_of_model(self, document: Document) -> bool:
        return self.model is None or _key_of(self.model) == _key_of(document["model"] or "")


_EXACT: Final = {field.name for field in attrs.fields(Filter)} & {
    field.name for field in RECORD_FIELDS if field.name != "model"
}
"""Fields that must have exactly the value given."""


@lru_cache(maxsize=1024)
def _key_of(model: str) -> str:
    try:
        return ModelName.parse(model).key
    except BadRequest:
        return model
