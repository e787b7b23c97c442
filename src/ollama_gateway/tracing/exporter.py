"""Exports the spans of finished requests in batches, from a bounded queue, to one collector.

The queue holds records, which exist anyway; their spans are made when a batch is due. A request
waits for nothing here: if the queue is full, because the collector is slow or away, its spans are
dropped and counted. At the end of the process the rest has `DRAIN_SECONDS`.

Source of the rules for retries: https://opentelemetry.io/docs/specs/otlp/#otlphttp-response.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import anyio
import attrs

from ollama_gateway.log import get_logger
from ollama_gateway.metrics import Metrics
from ollama_gateway.tracing.spans import SpanMaker, TracedRequest
from ollama_gateway.turns import in_turns

MAX_QUEUED: Final = 2048
"""Requests whose spans wait, those of the batch in hand included (as `OTEL_BSP_MAX_QUEUE_SIZE`)."""
MAX_BATCH: Final = 512
"""Requests in one post."""
BATCH_SECONDS: Final = 5.0
"""Seconds for which a batch gathers, unless it is full before."""
DRAIN_SECONDS: Final = 2.0
"""Seconds at the end for the spans that are left."""
MAX_POSTS: Final = 5
"""Posts of one batch."""
FIRST_PAUSE: Final = 1.0
"""Seconds between the first post of a batch and the second; doubled after each."""
LONGEST_PAUSE: Final = 30.0
"""Seconds that a collector may ask for with Retry-After."""
RETRIED: Final = frozenset({429, 502, 503, 504})
"""Statuses after which the same batch may be posted again; after all others it is dropped."""

log = get_logger("tracing")


@attrs.frozen
class Delivery:
    """How one post ended."""

    status: int | None
    """Of the answer; None if there was none."""
    cause: str = ""
    """Why there was none, in the gateway's own words."""
    retry_after: float | None = None
    """Seconds that the collector asks for."""

    @property
    def is_done(self) -> bool:
        """Whether the collector took the batch."""
        return self.status is not None and 200 <= self.status < 300  # noqa: PLR2004 - HTTP's classes

    @property
    def may_retry(self) -> bool:
        """Whether the same batch may be posted again."""
        return self.status is None or self.status in RETRIED


Post = Callable[[bytes], Awaitable[Delivery]]
"""Posts a batch, within a deadline of its own; raises nothing of the collector's."""


@attrs.define(eq=False)
class Exporter:
    """The queue and the task that empties it."""

    maker: SpanMaker
    post: Post
    metrics: Metrics
    _queue: deque[TracedRequest] = attrs.field(factory=deque, init=False)
    _in_hand: int = attrs.field(default=0, init=False)
    _stirred: anyio.Event = attrs.field(factory=anyio.Event, init=False)
    _fails: bool = attrs.field(default=False, init=False)

    @property
    def requests_queued(self) -> int:
        """Requests whose spans are not delivered yet."""
        return len(self._queue) + self._in_hand

    def __call__(self, record: TracedRequest) -> None:
        """Queue a finished request, if its trace is sampled; never waits and never raises."""
        if record.trace is None or not record.trace.is_sampled:
            return
        if self.requests_queued >= MAX_QUEUED:
            self.metrics.traces("dropped", 1)
            return
        self._queue.append(record)
        if len(self._queue) in {1, MAX_BATCH}:
            self._stirred.set()

    async def watch(self) -> None:
        """Export until cancelled."""
        while True:
            await self._wait_for_batch()
            await self._export(MAX_POSTS)

    async def drain(self) -> None:
        """Export the rest, each batch with one post, until one fails or `DRAIN_SECONDS` are over.

        Requests that are left are counted as dropped.
        """
        with anyio.move_on_after(DRAIN_SECONDS, shield=True):
            while self._queue and await self._export(1):
                pass
        if self._queue:
            self.metrics.traces("dropped", len(self._queue))
            log.warning("traces are lost at the end", requests=len(self._queue))
            self._queue.clear()

    async def _wait_for_batch(self) -> None:
        while not self._queue:
            self._stirred = anyio.Event()
            await self._stirred.wait()
        with anyio.move_on_after(BATCH_SECONDS):
            while len(self._queue) < MAX_BATCH:
                self._stirred = anyio.Event()
                await self._stirred.wait()

    async def _export(self, most: int) -> bool:
        """Export one batch with so many posts at most; return whether it was delivered."""
        batch = [self._queue.popleft() for _ in range(min(MAX_BATCH, len(self._queue)))]
        self._in_hand = len(batch)
        try:
            last = await self._deliver(await in_turns(self.maker.document(batch)), most)
        except anyio.get_cancelled_exc_class():
            self._queue.extendleft(reversed(batch))
            raise
        except Exception:
            self.metrics.traces("dropped", len(batch))
            raise
        finally:
            self._in_hand = 0
        self.metrics.traces("exported" if last.is_done else "dropped", len(batch))
        self._note(last)
        return last.is_done

    async def _deliver(self, body: bytes, most: int) -> Delivery:
        """Post a batch until it is taken or refused for good; return how the last post ended."""
        pause = FIRST_PAUSE
        for _ in range(most - 1):
            found = await self.post(body)
            asked = found.retry_after or 0.0
            if found.is_done or not found.may_retry or asked > LONGEST_PAUSE:
                return found
            self._note(found)
            await anyio.sleep(max(asked, pause * random.uniform(0.5, 1)))  # noqa: S311 - no secret
            pause *= 2
        return await self.post(body)

    def _note(self, found: Delivery) -> None:
        """Log when posts begin to fail, and when they work again; nothing of the collector's."""
        if not found.is_done and not self._fails:
            cause = found.cause or f"status {found.status}"
            log.warning("traces are not delivered", cause=cause)
        if found.is_done and self._fails:
            log.info("traces are delivered again")
        self._fails = not found.is_done


@asynccontextmanager
async def drained(exporter: Exporter) -> AsyncIterator[Exporter]:
    """Export the rest when the block is left, within `DRAIN_SECONDS`."""
    try:
        yield exporter
    finally:
        await exporter.drain()
