"""The requests in flight of one process: list them, look at one, cancel one or all of a key.

The functions are synchronous, since what they read changes at every turn of the event loop. Only a
list of very many takes long, so it is made in steps (`turns.in_turns`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import attrs

from ollama_gateway import clock
from ollama_gateway.control.errors import NoSuchThing, Problem, WrongInput
from ollama_gateway.flow.ask import Ask
from ollama_gateway.flow.in_flight import InFlight, RunningRequest
from ollama_gateway.ledger.operator_change import OperatorChange
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.wire.large import Steps

Document = dict[str, Any]

STEP: Final = 64
"""Requests that are looked at in one step: a fraction of a millisecond."""
MAX_IDS: Final = 1000
"""Ids of requests that the record of one change lists."""
NO_CURSOR: Final = Problem("cursor", "is not one that this list gave")
NOT_RUNNING: Final = "no request of this id runs, or its answer is whole already"
_UNIX: Final = datetime(1970, 1, 1, tzinfo=UTC)


@attrs.frozen
class RunningFilter:
    """Matches the requests that agree with all values given."""

    key: str | None = None
    """A key's id, or its name."""
    model: str | None = None
    """In any spelling that Ollama accepts for the same model, or the alias that was asked for."""
    backend: str | None = None
    """The one that answers, or one that is asked now."""
    stage: str | None = None

    def matches(self, running: RunningRequest, ask: Ask) -> bool:
        """Return whether a request agrees."""
        record = ask.record
        return (
            (self.key is None or self.key in _key_of(ask))
            and (self.model is None or (record is not None and self._is_of_model(record)))
            and (self.backend is None or self.backend in _backends_of(record))
            and self.stage in {None, running.stage}
        )

    def _is_of_model(self, record: AuditRecord) -> bool:
        return record.alias == self.model or Filter(model=self.model).is_of_model(record.model)


def listed(
    in_flight: InFlight, wanted: RunningFilter, *, limit: int, cursor: str | None
) -> Steps[Document]:
    """Make a page of the requests that run, the oldest first: `{"items": [...], "next": cursor}`.

    Args:
        in_flight: all that run.
        wanted: the filter.
        limit: of the page.
        cursor: the `next` of the page before, which is then continued; None begins.

    Raises:
        WrongInput: it is no cursor.

    """
    after = None if cursor is None else _place(cursor)
    found: list[tuple[int, str, RunningRequest]] = []
    for number, running in enumerate(list(in_flight), 1):
        place, ask = (running.began, running.request_id), running.ask
        is_left = running.is_known and (after is None or place > after)
        if is_left and ask is not None and wanted.matches(running, ask):
            found.append((*place, running))
        if not number % STEP:
            yield
    found.sort()
    items: list[Document] = []
    for number, (_, _, running) in enumerate(found[:limit], 1):
        items.append(document_of(running))
        if not number % STEP:
            yield
    return {"items": items, "next": cursor_after(items[-1]) if len(found) > limit else None}


def shown(in_flight: InFlight, request_id: str) -> Document:
    """Return one request; raises NoSuchThing if none of this id runs."""
    running = in_flight.find(request_id)
    if running is None:
        raise NoSuchThing(NOT_RUNNING)
    return document_of(running)


def cancel(in_flight: InFlight, request_id: str, by: str) -> tuple[Document, bool]:
    """Cancel one request in the name of an operator.

    Returns it as it was, and whether this cancelled it: one that is cancelled already stays so, by
    the operator who was first. Raises NoSuchThing if none of this id runs, or its answer is whole.
    """
    running = in_flight.find(request_id)
    if running is None:
        raise NoSuchThing(NOT_RUNNING)
    document, is_first = document_of(running), running.cancelled_by is None
    if not running.cancel(by):
        raise NoSuchThing(NOT_RUNNING)
    return document | {"cancelled_by": running.cancelled_by}, is_first


def cancel_all_of(in_flight: InFlight, key_id: str, by: str) -> list[str]:
    """Cancel all requests of a key in the name of an operator; return their ids."""
    return [
        running.request_id
        for running in list(in_flight)
        if running.ask is not None
        and key_id == _key_of(running.ask)[0]
        and running.cancelled_by is None
        and running.cancel(by)
    ]


def change_of_one(before: Document, by: str) -> OperatorChange:
    """Return what the audit log says of a request that was cancelled."""
    return OperatorChange(by, "requests.cancel", str(before["id"]), before=before)


def change_of_key(key_id: str, cancelled: list[str], by: str) -> OperatorChange:
    """Return what the audit log says of all requests of a key that were cancelled."""
    before = {"count": len(cancelled), "ids": cancelled[:MAX_IDS]}
    return OperatorChange(by, "requests.cancel_key", key_id, before=before)


def document_of(running: RunningRequest) -> Document:
    """Return a request whose key is known; times in s, in ms after its arrival, and in UTC."""
    ask = running.ask
    if ask is None:
        raise ValueError("its head is not understood yet")
    record = ask.record
    key_id, key_name = _key_of(ask)
    backends = _backends_of(record)
    began = _UNIX + timedelta(microseconds=running.began)
    return {
        "id": running.request_id,
        "key_id": key_id,
        "key_name": key_name,
        "end_user": record and record.end_user,
        "client": ask.client,
        "endpoint": ask.path,
        "model": record and record.model,
        "alias": record and record.alias,
        "backend": backends[-1] if backends else None,
        "stage": running.stage,
        "started_at": began.isoformat(timespec="microseconds").replace("+00:00", "Z"),
        "age_s": round(clock.now() - ask.arrived, 3),
        "tokens": record.relayed if record else 0,
        "chunks": record.chunks if record else 0,
        "attempts": list(_attempts(record)) if record else [],
        "cancelled_by": running.cancelled_by,
        "process": None,
    }


def _attempts(record: AuditRecord) -> Iterator[Mapping[str, Any]]:
    for one in record.attempts:
        yield {
            "backend": one.backend,
            "started_ms": round(one.started * 1000, 1),
            "hedge": one.is_hedge,
            "reason": one.reason,
        }


def _key_of(ask: Ask) -> tuple[str, str]:
    """Return the id and the name of a request's key; empty until it is known."""
    if ask.record is not None:
        return ask.record.key_id, ask.record.key_name
    return (ask.caller.key_id, ask.caller.key_name) if ask.caller is not None else ("", "")


def _backends_of(record: AuditRecord | None) -> list[str]:
    """Return the backend that answers, or those that are asked now."""
    if record is None:
        return []
    if record.backend is not None:
        return [record.backend]
    return [one.backend for one in record.attempts if one.reason is None]


def cursor_after(item: Document) -> str:
    """Return the cursor of the page that begins behind a request."""
    return f"{item['started_at']}/{item['id']}"


def _place(cursor: str) -> tuple[int, str]:
    """Return the place that a cursor names; raises WrongInput."""
    moment, _, request_id = cursor.partition("/")
    try:
        began = datetime.fromisoformat(moment)
    except ValueError:
        raise WrongInput([NO_CURSOR]) from None
    if began.tzinfo is None or not request_id:
        raise WrongInput([NO_CURSOR])
    return (began - _UNIX) // timedelta(microseconds=1), request_id
