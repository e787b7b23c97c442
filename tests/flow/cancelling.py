"""Operators who look at requests in flight and cancel them, in virtual time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from ollama_gateway.control import requests
from ollama_gateway.control.errors import NoSuchThing
from ollama_gateway.control.requests import Document, RunningFilter
from ollama_gateway.flow.in_flight import InFlight
from ollama_gateway.storage.batcher import in_place
from ollama_gateway.turns import run_through
from tests.support.scenario import Reply, Scenario

EVA = "eva"
"""The operator."""
T = TypeVar("T")


def in_flight(scenario: Scenario) -> InFlight:
    """Return the requests that run in the scenario's gateway."""
    return scenario.gateway.app.in_flight


def listed(scenario: Scenario, **wanted: str) -> list[Document]:
    """Return the documents of the requests that run and match."""
    wanted_ones = RunningFilter(**wanted)
    page = run_through(requests.listed(in_flight(scenario), wanted_ones, limit=1000, cursor=None))
    items: list[Document] = page["items"]
    return items


def cancelled(scenario: Scenario, request_id: str, by: str = EVA) -> Document | None:
    """Cancel a request; return what the operator gets, None if no such request runs."""
    try:
        return requests.cancel(in_flight(scenario), request_id, by)[0]
    except NoSuchThing:
        return None


class SlowDisk:
    """Runs blocking work in place, and while `seconds` are set, only after these."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def __call__(self, work: Callable[[], T]) -> T:
        """Run the work."""
        if self.seconds:
            await trio.sleep(self.seconds)
        return await in_place(work)


class LateLimits:
    """A store of limits that reserves after a second, and is another one otherwise."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    async def reserve(self, request: Any) -> Any:
        """Reserve, after a second."""
        await trio.sleep(1)
        return await self._store.reserve(request)


class Cancelled:
    """A request that an operator cancelled, as all sides saw it."""

    def __init__(self) -> None:
        self.reply = Reply()
        self.before: Document = {}
        """As it was listed then."""
        self.answer: Document | None = None
        """What the operator got."""


async def cancelled_at(
    scenario: Scenario, seconds: float, ask: Callable[[], Awaitable[Reply]]
) -> Cancelled:
    """Send a request, list it after some seconds, cancel it, and wait for its end."""
    found = Cancelled()

    async def cancel() -> None:
        await trio.sleep(seconds)
        found.before = listed(scenario)[-1]
        found.answer = cancelled(scenario, found.before["id"])

    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel)
        found.reply = await ask()
    return found
