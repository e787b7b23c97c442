"""Scenarios whose settings a test changes and reloads."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from ollama_gateway.reloading import Reloading, SettingsSource
from ollama_gateway.settings import BackendSettings, Loaded, Settings
from ollama_gateway.storage.batcher import in_place
from tests.support.scenario import Reply, Scenario, open_scenario

A = BackendSettings(name="a", url="http://a")
B: Mapping[str, Any] = {"name": "b", "url": "http://b", "priority": 2, "slots": 40}
Change = Callable[[Settings], Settings]


@attrs.define
class Reloadable:
    """A scenario whose settings a test changes."""

    scenario: Scenario
    reloading: Reloading
    settings: Settings

    async def reload(self, change: Change) -> list[str]:
        """Change the settings and reload them; return the paths of the changes."""
        self.settings = change(self.settings)
        return [change["path"] for change in (await self.reloading.reload()).changes]

    def reaches(self) -> list[str]:
        """Return the backends that are up."""
        return [backend.name for backend in self.scenario.gateway.backends.all if backend.is_up]


@asynccontextmanager
async def reloadable(**given: Any) -> AsyncIterator[Reloadable]:
    """Open a scenario that can be reloaded, with its watchers."""
    async with open_scenario(**given) as scenario, trio.open_nursery() as nursery:

        def read() -> Loaded:
            return Loaded(made.settings, None)

        gateway = scenario.gateway
        made = Reloadable(
            scenario, Reloading(gateway, SettingsSource(read), runner=in_place), gateway.settings
        )
        nursery.start_soon(gateway.watchers["backends"])
        yield made
        nursery.cancel_scope.cancel()


def backends(change: Callable[[dict[str, Any]], Mapping[str, Any]]) -> Change:
    """Return a change of the backends, which are given and returned by name."""

    def changed(settings: Settings) -> Settings:
        by_name = {backend.name: backend for backend in settings.backends}
        return attrs.evolve(settings, backends=tuple(change(by_name).values()))

    return changed


def without(name: str) -> Change:
    """Return a change that removes a backend."""
    return backends(lambda named: {n: b for n, b in named.items() if n != name})


def changed(name: str, **values: Any) -> Change:
    """Return a change of one backend."""
    return backends(lambda named: named | {name: attrs.evolve(named[name], **values)})


def stream(gateway: Reloadable, nursery: trio.Nursery, count: int = 1) -> list[Reply]:
    """Start streams; the list gets each reply when it has ended."""
    replies: list[Reply] = []

    async def ask() -> None:
        replies.append(await gateway.scenario.ask())

    for _ in range(count):
        nursery.start_soon(ask)
    return replies
