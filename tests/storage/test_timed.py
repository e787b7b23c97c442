"""The times of a store's operations."""

from __future__ import annotations

import pytest

from ollama_gateway.metrics import Metrics, running
from ollama_gateway.storage.batcher import in_place
from ollama_gateway.storage.timed import TimedRunner

pytestmark = pytest.mark.virtual_time


async def test_each_operation_counts_and_failures_too() -> None:
    """What an operation returns or raises passes through; its time is recorded either way."""
    metrics = Metrics()
    runner = TimedRunner(in_place, "keys", metrics)

    assert await runner(lambda: 7) == 7
    with pytest.raises(ZeroDivisionError):
        await runner(lambda: 1 // 0)

    cell = metrics.families[running.STORE_SECONDS.name].cells["keys",]
    assert sum(cell[:-1]) == 2
    assert metrics.value("store_errors_total", {"store": "keys"}) == 1
