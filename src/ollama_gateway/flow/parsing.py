"""Parsing JSON that may be large: in a thread then, to keep the others' streams moving."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")

IN_PLACE: Final = 256 * 1024
"""Bytes up to which a thread costs more than it saves."""


async def parsed(parse: Callable[[bytes], T], data: bytes) -> T:
    """What `parse` makes of `data`; raises what it raises."""
    if len(data) <= IN_PLACE:
        return parse(data)
    return await anyio.to_thread.run_sync(parse, data, limiter=_one_at_a_time())


@cache
def _one_at_a_time() -> anyio.CapacityLimiter:
    """One at a time: what JSON becomes in memory can be many times its bytes."""
    return anyio.CapacityLimiter(1)
