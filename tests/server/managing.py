"""A client that may manage models, and two backends with a registry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import attrs

from ollama_gateway.keys.key import ENDPOINT_GROUPS, KeyLimits
from ollama_gateway.simulator import Model, Simulator
from tests.support.scenario import Reply, Scenario, open_scenario

SHARED = Model("shared:1")
DISCOVERY = {"/api/version", "/api/tags", "/api/ps"}
"""Paths that discovery asks for."""


def publishing(*models: Model) -> Simulator:
    """Return a simulator that hosts `shared:1` and can pull `new:1` and `team/m`."""
    simulator = Simulator(models or (SHARED,))
    simulator.publish(Model("new:1"))
    simulator.publish(Model("team/m:latest"))
    return simulator


@attrs.define
class ManagingClient:
    """A client of a scenario whose key may manage."""

    scenario: Scenario
    key: str
    """The key with the right to manage."""

    async def ask(
        self,
        path: str,
        body: object = None,
        *,
        to: str | None = None,
        key: str | None = None,
        headers: Sequence[tuple[str, str]] = (),
        **options: Any,
    ) -> Reply:
        """Send one request, to the backend `to`."""
        override = [("x-gateway-backend", to)] if to is not None else []
        given = b"" if body is None else body
        key = self.key if key is None else key
        return await self.scenario.ask(
            path, given, key=key, headers=[*override, *headers], **options
        )

    async def names(self) -> list[str]:
        """Return the names in `/api/tags`, sorted."""
        reply = await self.scenario.ask("/api/tags", method="GET", key=self.key)
        return sorted(entry["name"] for entry in reply.document["models"])

    def paths(self, name: str) -> list[str]:
        """Return the paths that a simulator was asked for, except by discovery."""
        seen = [request.path for request in self.scenario.simulators[name].seen]
        return [path for path in seen if path not in DISCOVERY]


@asynccontextmanager
async def managed(
    given: Mapping[str, Simulator] | None = None,
    models: tuple[str, ...] = ("*",),
    limits: KeyLimits | None = None,
    **settings: Any,
) -> AsyncIterator[ManagingClient]:
    """Open a scenario with backends `a` and `b` and a key that may manage these models."""
    simulators = given or {"a": publishing(), "b": publishing()}
    async with open_scenario(simulators, **settings) as scenario:
        groups, own = frozenset(ENDPOINT_GROUPS), limits or KeyLimits()
        _, key = scenario.store.create("ops", models, groups, limits=own)
        yield ManagingClient(scenario, key)
