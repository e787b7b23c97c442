"""Operations on requests in flight, and the sharing of lists among all who ask for them.

A cancel cuts first and is recorded then: a slow disk must not keep a request running. The
audit log has it in any case, since the record of the request itself names the operator.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final, get_args

import anyio
import attrs

from ollama_gateway import clock
from ollama_gateway.control import requests
from ollama_gateway.control.errors import Problem, WrongInput
from ollama_gateway.control.recorded_change import recorded
from ollama_gateway.control.requests import RunningFilter
from ollama_gateway.control.shapes import Fields, Flag, Integer, ListOf, Number, OrNull, Text
from ollama_gateway.errors import Unavailable
from ollama_gateway.flow.in_flight import InFlight, Stage
from ollama_gateway.ledger.operator_change import ChangeNotRecorded, ChangeRecorder, OperatorChange
from ollama_gateway.reasons import Reason
from ollama_gateway.server.admin_api.operation import PAGING, AdminCall, AdminReply, Operation
from ollama_gateway.storage.batcher import Runner
from ollama_gateway.turns import in_turns
from ollama_gateway.wire.large import Steps

SHARED_SECONDS: Final = 0.25
"""For so long a list serves all who ask for the same one."""
MAX_CANCELLED: Final = 100_000
_NAME: Final = OrNull(Text())
_ATTEMPT: Final = Fields(
    {
        "backend": Text(),
        "started_ms": Number("After the request's arrival."),
        "hedge": Flag(),
        "reason": OrNull(Text("Why it failed; null while it runs and when it answered.")),
    }
)
REQUEST: Final = Fields(
    {
        "id": Text(),
        "key_id": Text(),
        "key_name": Text(),
        "end_user": _NAME,
        "client": Text("Its address."),
        "endpoint": Text(),
        "model": _NAME,
        "alias": _NAME,
        "backend": OrNull(Text("The one that answers, or the one asked last.")),
        "stage": Text(one_of=get_args(Stage)),
        "started_at": Text(is_time=True),
        "age_s": Number(),
        "tokens": Integer("Of the answer so far, by our own count."),
        "chunks": Integer("Of the answer so far."),
        "attempts": ListOf(_ATTEMPT),
        "cancelled_by": OrNull(Text("The operator who has just cancelled it.")),
        "process": OrNull(Integer("From 0; null if there is only one.")),
    }
)
_UNANSWERED: Final = ListOf(Integer(), "The processes that did not answer in time.")
PAGE: Final = Fields(
    {
        "items": ListOf(REQUEST),
        "next": OrNull(Text("The cursor of the next page; null at the end.")),
        "unanswered": _UNANSWERED,
    }
)
CANCELLED: Final = Fields(
    {
        "key_id": Text(),
        "cancelled": ListOf(Text(), "Ids of requests.", most=MAX_CANCELLED),
        "unanswered": _UNANSWERED,
    }
)
KEY: Final = {"key": Text("A key's id.")}
FILTER: Final = {
    "key": Text("A key's id, or its name."),
    "model": Text("In any spelling, or the alias that was asked for."),
    "backend": Text("The one that answers or is asked."),
    "stage": Text(one_of=get_args(Stage)),
}

Serve = Callable[[AdminCall], Awaitable[AdminReply]]


def operations(show_all: Serve, get: Serve, cancel: Serve, cancel_all: Serve) -> list[Operation]:
    """Return the operations, served by one process or by all."""
    return [
        Operation(
            *("GET", "/requests", "viewer", "List the requests that run, the oldest first."),
            *(show_all, PAGE, FILTER | dict(PAGING)),
        ),
        Operation("GET", "/requests/{id}", "viewer", "Get a request that runs.", get, REQUEST),
        Operation("DELETE", "/requests/{id}", "operator", "Cancel a request.", cancel, REQUEST),
        Operation(
            *("DELETE", "/requests", "operator", "Cancel all requests of a key."),
            *(cancel_all, CANCELLED, KEY),
        ),
    ]


@attrs.define(eq=False)
class SharedPages:
    """Lists as JSON; one is made at a time, and serves all who wait for the same one."""

    _made: dict[object, tuple[float, bytes]] = attrs.field(factory=dict, init=False)
    """The lists, by the question, with the time of their making."""
    _making: anyio.Lock = attrs.field(factory=anyio.Lock, init=False)

    async def get(self, asked: object, make: Callable[[], Awaitable[bytes]]) -> bytes:
        """Return the list, made by `make` unless there is one that is new enough."""
        async with self._making:
            since = clock.now() - SHARED_SECONDS
            self._made = {key: made for key, made in self._made.items() if made[0] > since}
            if asked not in self._made:
                began = clock.now()
                self._made[asked] = began, await make()
            return self._made[asked][1]

    def clear(self) -> None:
        """Make all lists anew: one who has changed something wants to see that."""
        self._made.clear()


@attrs.frozen
class RequestOperations:
    """Operations on the requests of this process."""

    in_flight: InFlight
    recorder: ChangeRecorder
    runner: Runner
    pages: SharedPages = attrs.field(factory=SharedPages)

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        return operations(self._list, self._get, self._cancel, self._cancel_all)

    async def _list(self, call: AdminCall) -> AdminReply:
        wanted = RunningFilter(**{name: call.query.get(name) for name in FILTER})
        cursor = call.query.get("cursor")

        async def make() -> bytes:
            page = requests.listed(self.in_flight, wanted, limit=call.limit, cursor=cursor)
            return await in_turns(encoded(page))

        asked = wanted, call.limit, cursor
        return AdminReply(encoded=await self.pages.get(asked, make))

    async def _get(self, call: AdminCall) -> AdminReply:
        return AdminReply(requests.shown(self.in_flight, call.path["id"]))

    async def _cancel(self, call: AdminCall) -> AdminReply:
        by = call.actor.name
        document, is_first = requests.cancel(self.in_flight, call.path["id"], by)
        if is_first:
            await self._record(requests.change_of_one(document, by))
        return AdminReply(document)

    async def _cancel_all(self, call: AdminCall) -> AdminReply:
        key_id, by = key_in(call), call.actor.name
        ids = requests.cancel_all_of(self.in_flight, key_id, by)
        if ids:
            await self._record(requests.change_of_key(key_id, ids, by))
        return AdminReply({"key_id": key_id, "cancelled": ids, "unanswered": []})

    async def _record(self, change: OperatorChange) -> None:
        """Record a cancel that is done; raises Unavailable."""
        self.pages.clear()
        try:
            async with recorded(self.recorder, change, self.runner):
                pass
        except (ChangeNotRecorded, Unavailable):
            raise Unavailable(
                "cancelled, but the audit log cannot record the change now; the records of the"
                " requests say who cancelled them",
                reason=Reason.AUDIT_UNAVAILABLE,
            ) from None


def key_in(call: AdminCall) -> str:
    """Return the key that is named; raises WrongInput without one."""
    if not call.query.get("key"):
        raise WrongInput([Problem("key", "is missing")])
    return str(call.query["key"])


def encoded(page: Steps[dict[str, Any]]) -> Steps[bytes]:
    """Make the JSON of a page, with no process left out, in steps."""
    document = yield from page
    items = []
    for number, item in enumerate(document["items"], 1):
        items.append(json.dumps(item).encode())
        if not number % requests.STEP:
            yield
    tail = json.dumps({"next": document["next"], "unanswered": []}).encode()
    return b'{"items": [' + b", ".join(items) + b"], " + tail[1:]
