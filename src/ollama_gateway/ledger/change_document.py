"""A change by an operator as the audit log stores it: one document, begun and then ended.

A change is no request: no sum, metric or budget counts it. It stands in the same chains, and its
field `kind` tells it from the documents of requests, which have none.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from ollama_gateway.ledger.document import Document, killed
from ollama_gateway.ledger.fields import MOMENT

if TYPE_CHECKING:
    from ollama_gateway.ledger.operator_change import OperatorChange

CHANGE: Final = "change"
"""The kind of these documents."""
ChangeOutcome = Literal["made", "failed", "unknown"]
"""`unknown`: the process ended, or was interrupted, before the end of the change was recorded."""
CHANGE_TYPES: Final[dict[str, tuple[type, ...]]] = {
    "kind": (str,),
    "change_id": (str,),
    "at": (str,),
    "by": (str,),
    "action": (str,),
    "target": (str,),
    "before": (dict,),
    "after": (dict,),
    "reason": (str,),
    "outcome": (str,),
}
"""The fields of the document in their order, and their types in JSON; null is allowed too."""

CREATE_CHANGES: Final = "CREATE TABLE IF NOT EXISTS changes (seq INTEGER PRIMARY KEY)"
"""The numbers of the records that are changes; they have no facts (`facts.py`)."""
# One that an edited file has already must not stop the writer.
ADD_CHANGE: Final = "INSERT OR REPLACE INTO changes VALUES (?)"


def begun(change: OperatorChange, change_id: str) -> Document:
    """Return the document of a change that is about to be made: it has no outcome yet."""
    return {
        "kind": CHANGE,
        "change_id": change_id,
        "at": MOMENT.to_json(datetime.now(UTC)),
        "by": change.by,
        "action": change.action,
        "target": change.target,
        "before": None if change.before is None else dict(change.before),
        "after": None if change.after is None else dict(change.after),
        "reason": change.reason,
        "outcome": None,
    }


def ended(document: Document, change: OperatorChange, outcome: ChangeOutcome) -> Document:
    """Return the document of a change that has ended, with what `after` says by now."""
    after = None if change.after is None else dict(change.after)
    return {**document, "after": after, "outcome": outcome}


def ended_by_kill(intent: Document, charge: tuple[int, int] | None) -> Document:
    """Return the record of a request or a change whose process was killed before its end.

    Args:
        intent: the document that was written at its beginning.
        charge: of a request; see `document.killed`.

    """
    return {**intent, "outcome": "unknown"} if is_change(intent) else killed(intent, charge)


def is_change(document: Document) -> bool:
    """Return whether a document is that of a change."""
    return document.get("kind") == CHANGE
