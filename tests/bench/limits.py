"""The cost of a quota operation: `python -m tests.bench.limits`, or `tox -e bench`.

An operation is one reserve or one settle of a key with all four limits. Tasks do the two in turn,
each on the next of some keys. A line has the operations a second, and the CPU time of this process
for each, with its threads and without Redis. It is the best of some rounds, as other load on the
machine can only make one worse.

    memory       `MemoryQuota`
    redis        `RedisQuota`: all waiting operations are one batch, in one thread
    thread hop   the same scripts in the same Redis, each call in its own thread: to compare
"""

from __future__ import annotations

import argparse
import itertools
import logging
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
import anyio.lowlevel
import anyio.to_thread
import attrs
import redis
import structlog

from ollama_gateway.limits.calendar import moment, utc_now
from ollama_gateway.limits.memory import MemoryQuota
from ollama_gateway.limits.quota import (
    LEASE_SECONDS,
    Grant,
    Quota,
    QuotaStore,
    Reservation,
    ReservationRequest,
)
from ollama_gateway.limits.redis.operations import RedisOperation, Reserve, Settle
from ollama_gateway.limits.redis.scripts import RedisScripts
from ollama_gateway.limits.redis.store import RedisQuota
from tests.support.redis_server import redis_server

TASKS: Final = (1, 16, 64, 256)
KEYS: Final = 16
ROUNDS: Final = 3
SECONDS: Final = 2.0
QUOTA: Final = Quota(10**6, 10**6, 10**12, 10**12)
"""All four, and never reached."""

Reserver = Callable[[ReservationRequest], Awaitable[Any]]


@attrs.frozen
class Measured:
    """One line of the table."""

    operations: int
    wall: float
    cpu: float
    """Both are seconds."""

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.operations / self.wall

    def __str__(self) -> str:
        each = self.cpu / self.operations * 1e6
        return f"{self.rate:>10,.0f} ops/s {each:>7.1f} us CPU each"


class Store:
    """A store as a task uses it."""

    def __init__(self, store: QuotaStore) -> None:
        self._store = store
        self._waits = store.is_shared

    async def reserve(self, request: ReservationRequest) -> Reservation:
        """Admit a request."""
        outcome = await self._store.reserve(request)
        assert isinstance(outcome, Grant)
        return outcome.reservation

    async def settle(self, reservation: Reservation) -> None:
        """Settle the request."""
        self._store.settle(reservation, 300)
        if not self._waits:
            await anyio.lowlevel.checkpoint()  # so that others have their turn

    async def rest(self) -> None:
        """Wait until all requests are settled."""
        while self._store.settlements_waiting:  # noqa: ASYNC110 - no event says when
            await anyio.sleep(0.001)


class ThreadHop:
    """One call in one thread at a time, through redis-py without batches."""

    def __init__(self, url: str, tasks: int) -> None:
        self._redis = redis.Redis.from_url(url, decode_responses=True, max_connections=tasks)
        scripts = RedisScripts(url)
        self._digests = {n: self._redis.script_load(t) for n, t in scripts._texts.items()}
        self._limiter = anyio.CapacityLimiter(tasks)
        scripts.close()

    async def reserve(self, request: ReservationRequest) -> Reservation:
        """Admit a request."""
        outcome = await self._call(Reserve(request))
        assert isinstance(outcome, Grant)
        return outcome.reservation

    async def settle(self, reservation: Reservation) -> None:
        """Settle the request."""
        await self._call(Settle(reservation, 300))

    async def rest(self) -> None:
        """Return at once: no settlement waits."""

    def close(self) -> None:
        """Close the connections."""
        self._redis.close()

    async def _call(self, operation: RedisOperation) -> Any:
        return await anyio.to_thread.run_sync(self._run, operation, limiter=self._limiter)

    def _run(self, operation: RedisOperation) -> Any:
        keys, arguments = operation.call(int(LEASE_SECONDS * 1000), 0)
        reply: Any = self._redis.evalsha(
            self._digests[operation.script], len(keys), *keys, *arguments
        )
        return operation.read(reply)


Subject = Store | ThreadHop


@asynccontextmanager
async def in_memory(_tasks: int) -> AsyncIterator[Subject]:
    """Count in this process."""
    yield Store(MemoryQuota(lambda: moment(anyio.current_time(), utc_now())))


@asynccontextmanager
async def batched(url: str, _tasks: int) -> AsyncIterator[Subject]:
    """Count in Redis, in batches."""

    async def nothing() -> Sequence[Any]:
        return ()

    async def nowhere() -> dict[str, Any]:
        return {}

    async with RedisQuota(RedisScripts(url), nothing, nowhere).opened() as store:
        while store.why_not is not None:
            await store.renew(list)
            await anyio.sleep(0.1)
        yield Store(store)


@asynccontextmanager
async def hopping(url: str, tasks: int) -> AsyncIterator[Subject]:
    """Count in Redis, call by call."""
    subject = ThreadHop(url, tasks)
    try:
        yield subject
    finally:
        subject.close()


async def measure(
    opened: Callable[[int], AbstractAsyncContextManager[Subject]], tasks: int, seconds: float
) -> Measured:
    """Have tasks reserve and settle for some seconds."""
    async with opened(tasks) as subject:
        run, numbers = secrets.token_hex(4), itertools.count()
        await _work(subject, run, numbers, tasks, 0.2)  # threads, connections, scripts
        before, began, cpu = next(numbers), time.perf_counter(), _cpu()
        await _work(subject, run, numbers, tasks, seconds)
        wall, used = time.perf_counter() - began, _cpu() - cpu
        return Measured(2 * (next(numbers) - before - 1), wall, used)


async def _work(
    subject: Subject, run: str, numbers: itertools.count[int], tasks: int, seconds: float
) -> None:
    deadline = time.perf_counter() + seconds

    async def task() -> None:
        while time.perf_counter() < deadline:
            number = next(numbers)
            request = ReservationRequest(
                f"{run}-{number}", f"{run}-{number % KEYS}", QUOTA, 300, 500, 256
            )
            await subject.settle(await subject.reserve(request))

    async with anyio.create_task_group() as group:
        for _ in range(tasks):
            group.start_soon(task)
    await subject.rest()


def _cpu() -> float:
    times = os.times()
    return times.user + times.system


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.limits", description=__doc__)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each round")
    seconds = parser.parse_args().seconds
    silent = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=silent)
    with redis_server() as url:
        for name, opened in (
            ("memory", in_memory),
            ("redis", partial(batched, url)),
            ("thread hop", partial(hopping, url)),
        ):
            for tasks in TASKS:
                run = partial(anyio.run, measure, opened, tasks, seconds, backend="trio")
                row = max((run() for _ in range(ROUNDS)), key=lambda row: row.rate)
                sys.stdout.write(f"{name:<12} {tasks:>3} tasks {row}\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
