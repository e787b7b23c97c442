"""A gateway with two backends, as most tests here need it."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.server.managing import ManagingClient, managed
from tests.support.scenario import Scenario, open_scenario


@pytest.fixture
async def scenario() -> AsyncIterator[Scenario]:
    """Backends `a` and `b`, which host `m1`, behind a gateway with default settings."""
    async with open_scenario() as opened:
        yield opened


@pytest.fixture
async def client() -> AsyncIterator[ManagingClient]:
    """A client that may manage backends `a` and `b`."""
    async with managed() as opened:
        yield opened
