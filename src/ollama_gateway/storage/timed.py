"""Measure the operations of a store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import attrs

from ollama_gateway.metrics import Metrics
from ollama_gateway.storage.batcher import Runner

R = TypeVar("R")


@attrs.frozen
class TimedRunner:
    """A runner that records how long each operation of one store took, and whether it failed."""

    runner: Runner
    store: str
    metrics: Metrics

    async def __call__(self, work: Callable[[], R], /) -> R:
        """Run `work`; an operation whose caller left is not recorded."""
        began = time.perf_counter()
        try:
            result = await self.runner(work)
        except Exception:
            self._note(began, has_failed=True)
            raise
        self._note(began, has_failed=False)
        return result

    def _note(self, began: float, *, has_failed: bool) -> None:
        self.metrics.stored(self.store, time.perf_counter() - began, has_failed=has_failed)
