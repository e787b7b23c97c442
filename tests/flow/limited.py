"""Scenarios with a key that has limits, in virtual time."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.limits.quota import KeyUsage
from ollama_gateway.simulator import Model, Seen, Simulator
from tests.support.scenario import CHAT, Reply, Scenario, open_scenario

SLOW = Model("m1:latest", tokens=("a", "b", "c"), first_token=1, between_tokens=1)
"""First token at 1 s, then one a second; reports 11 and 3 tokens."""
BODY = len(json.dumps(CHAT))
"""Bytes of `scenario.CHAT` as JSON."""
PROMPT = BODY + 128 + 16
"""The bound of its prompt: its bytes, and those of a template around it and its message."""


@attrs.define
class Limited:
    """A scenario with a key that has limits."""

    scenario: Scenario
    key_id: str
    key: str

    async def ask(self, path: str = "/api/chat", body: object = None, **how: Any) -> Reply:
        """Send a request with the key."""
        return await self.scenario.ask(path, CHAT if body is None else body, key=self.key, **how)

    async def usage(self) -> KeyUsage:
        """Return the usage of the key."""
        return await self.scenario.gateway.admin.limits.store.usage(self.key_id)

    def seen(self, backend: str = "a") -> Seen:
        """Return the last request that a backend got."""
        return self.scenario.simulators[backend].seen[-1]


@asynccontextmanager
async def limited(
    limits: KeyLimits,
    given: Mapping[str, Simulator] | None = None,
    *,
    models: tuple[Model, ...] = (SLOW,),
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[Limited]:
    """Open a scenario with a key that has these limits."""
    async with open_scenario(given, models=models, settings=settings) as scenario:
        key, text = scenario.store.create("limited", limits=limits)
        yield Limited(scenario, key.id, text)
        assert scenario.gateway.admin.limits.open == 0, "a reservation was left open"
        usage = await scenario.gateway.admin.limits.store.usage(key.id)
        assert usage.open == 0, "a place was not given back"
