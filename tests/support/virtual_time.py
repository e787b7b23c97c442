"""Virtual time: the clock jumps to the next deadline whenever every task waits."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import trio
import trio.testing


def run_in_virtual_time(
    test: Callable[[], Awaitable[Any]],
    clock: trio.abc.Clock | None,
    instruments: Sequence[trio.abc.Instrument],
) -> Any:
    """Run a test as `autojump_clock` does, from the time 0."""
    jumping = trio.testing.MockClock(autojump_threshold=0)
    return trio.run(test, clock=clock or jumping, instruments=instruments)
