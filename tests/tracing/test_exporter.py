"""The exporter in virtual time: batches, retries, its bounds, and its end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
import trio.testing

from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.metrics import Metrics
from ollama_gateway.tracing.context import Tracer
from ollama_gateway.tracing.exporter import (
    BATCH_SECONDS,
    DRAIN_SECONDS,
    MAX_BATCH,
    MAX_POSTS,
    MAX_QUEUED,
    Delivery,
    Exporter,
)
from ollama_gateway.tracing.sampling import Sampler
from ollama_gateway.tracing.spans import SpanMaker
from tests.ledger.records import record
from tests.tracing.otlp_rules import checked

Clock = trio.testing.MockClock
MAKER = SpanMaker({"service.name": "test"}, "1", {"/api/chat": "chat"}, lambda _: None)


@attrs.define
class FakeCollector:
    """Receives posts, and answers as the test says."""

    answers: list[Delivery] = attrs.field(factory=list)
    """The next answers; the last of them for ever; 200 without any."""
    hangs: bool = False
    posts: list[tuple[float, int]] = attrs.field(factory=list)
    """When each came, and how many spans it had."""

    async def post(self, body: bytes) -> Delivery:
        """Take a post."""
        self.posts.append((trio.current_time(), len(checked(body))))
        if self.hangs:
            await trio.sleep_forever()
        await trio.lowlevel.checkpoint()
        if not self.answers:
            return Delivery(200)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def traced(request_id: str = "r", sampler: Sampler | None = None) -> AuditRecord:
    """Return a record that has a trace."""
    return attrs.evolve(record(request_id), trace=Tracer(sampler or Sampler()).begin([]))


def counted(exporter: Exporter) -> tuple[int, int]:
    """Return how many requests were exported and dropped, as the metrics count them."""

    def value(result: str) -> int:
        name, labels = "ollama_gateway_traces_total", {"result": result}
        return int(exporter.metrics.registry.get_sample_value(name, labels) or 0)

    return value("exported"), value("dropped")


@asynccontextmanager
async def running(exporter: Exporter) -> AsyncIterator[Callable[[], None]]:
    """Run its task for the block; yields what ends the task."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exporter.watch)
        await trio.testing.wait_all_tasks_blocked()
        yield nursery.cancel_scope.cancel
        nursery.cancel_scope.cancel()


async def test_a_batch_gathers_for_some_seconds(autojump_clock: Clock) -> None:
    """Requests of five seconds are one post."""
    collector = FakeCollector()
    exporter = Exporter(MAKER, collector.post, Metrics())
    async with running(exporter):
        for number in range(3):
            exporter(traced(str(number)))
            await trio.sleep(1)
        await trio.sleep(10)

    assert collector.posts == [(BATCH_SECONDS, 3)]
    assert counted(exporter) == (3, 0)


async def test_a_full_batch_goes_at_once(autojump_clock: Clock) -> None:
    """It waits for no further requests."""
    collector = FakeCollector()
    exporter = Exporter(MAKER, collector.post, Metrics())
    async with running(exporter):
        for number in range(MAX_BATCH + 1):
            exporter(traced(str(number)))
        await trio.sleep(1)
        assert collector.posts == [(0, MAX_BATCH)]
        await trio.sleep(BATCH_SECONDS)

    assert collector.posts[1:] == [(BATCH_SECONDS, 1)]


async def test_what_is_not_sampled_is_not_exported(autojump_clock: Clock) -> None:
    """Neither is a request without a trace."""
    exporter = Exporter(MAKER, FakeCollector().post, Metrics())
    exporter(traced(sampler=Sampler(bound=0)))
    exporter(record("r"))

    assert exporter.requests_queued == 0


async def test_a_full_queue_drops_and_counts(autojump_clock: Clock) -> None:
    """With a collector that hangs, no more requests are held than the queue has places."""
    exporter = Exporter(MAKER, FakeCollector(hangs=True).post, Metrics())
    async with running(exporter):
        for _ in range(2):
            for number in range(MAX_QUEUED):
                exporter(traced(str(number)))
            await trio.sleep(1)  # a batch is in hand
        assert exporter.requests_queued == MAX_QUEUED

    assert counted(exporter) == (0, MAX_QUEUED)


async def test_a_busy_collector_is_asked_again(autojump_clock: Clock) -> None:
    """The same batch comes again after the time that the collector asks for."""
    collector = FakeCollector([Delivery(429, retry_after=7), Delivery(503), Delivery(200)])
    exporter = Exporter(MAKER, collector.post, Metrics())
    async with running(exporter):
        exporter(traced())
        await trio.sleep(60)
    (first, _), (second, _), (third, _) = collector.posts

    assert (first, second) == (BATCH_SECONDS, BATCH_SECONDS + 7)
    assert 1 <= third - second <= 2
    assert counted(exporter) == (1, 0)


async def test_a_dead_collector_is_given_up(autojump_clock: Clock) -> None:
    """A batch has five posts, with growing pauses; then it is dropped, and the next has its own."""
    collector = FakeCollector([Delivery(None, "refused")])
    exporter = Exporter(MAKER, collector.post, Metrics())
    async with running(exporter):
        exporter(traced())
        await trio.sleep(100)

    assert len(collector.posts) == MAX_POSTS
    assert counted(exporter) == (0, 1)


async def test_a_refusal_is_final(autojump_clock: Clock) -> None:
    """Statuses that no retry can change, redirects among them, drop the batch at once."""
    for status in (301, 400, 401, 404, 413, 500):
        collector = FakeCollector([Delivery(status)])
        exporter = Exporter(MAKER, collector.post, Metrics())
        async with running(exporter):
            exporter(traced())
            await trio.sleep(100)

        assert len(collector.posts) == 1
        assert counted(exporter) == (0, 1)


async def test_a_collector_that_asks_for_too_long_gets_nothing(autojump_clock: Clock) -> None:
    """An hour's Retry-After drops the batch, and the next is tried as usual."""
    collector = FakeCollector([Delivery(503, retry_after=3600), Delivery(200)])
    exporter = Exporter(MAKER, collector.post, Metrics())
    async with running(exporter):
        exporter(traced())
        await trio.sleep(20)
        exporter(traced())
        await trio.sleep(20)

    assert counted(exporter) == (1, 1)


async def test_a_batch_in_hand_is_not_lost_at_the_end(autojump_clock: Clock) -> None:
    """A post that is cancelled by the shutdown is made again by the drain."""
    collector = FakeCollector(hangs=True)
    exporter = Exporter(MAKER, collector.post, Metrics())
    async with running(exporter) as end:
        exporter(traced())
        await trio.sleep(BATCH_SECONDS + 1)
        end()
    collector.hangs = False
    exporter(traced("later"))
    await exporter.drain()

    assert [spans for _, spans in collector.posts] == [1, 2]
    assert counted(exporter) == (2, 0)


async def test_the_drain_is_bounded(autojump_clock: Clock) -> None:
    """A collector that hangs delays the end by two seconds, cancelled or not, and no more."""
    exporter = Exporter(MAKER, FakeCollector(hangs=True).post, Metrics())
    for number in range(MAX_QUEUED):
        exporter(traced(str(number)))
    began = trio.current_time()
    with trio.CancelScope() as scope:
        scope.cancel()
        await exporter.drain()

    assert trio.current_time() - began == DRAIN_SECONDS
    assert exporter.requests_queued == 0
    assert counted(exporter) == (0, MAX_QUEUED)


async def test_the_drain_does_not_wait_for_a_collector_that_fails(autojump_clock: Clock) -> None:
    """After one failed post the rest is given up."""
    collector = FakeCollector([Delivery(503)])
    exporter = Exporter(MAKER, collector.post, Metrics())
    for number in range(MAX_QUEUED):
        exporter(traced(str(number)))
    await exporter.drain()

    assert (len(collector.posts), trio.current_time()) == (1, 0)
    assert counted(exporter) == (0, MAX_QUEUED)


async def test_a_batch_that_cannot_be_made_is_dropped(autojump_clock: Clock) -> None:
    """The watcher crashes once, and the next batch is exported."""
    collector = FakeCollector()
    exporter = Exporter(MAKER, collector.post, Metrics())
    broken = traced()
    broken.duration = float("nan")
    exporter(broken)
    with pytest.RaisesGroup(ValueError):
        async with running(exporter):
            await trio.sleep(10)
    exporter(traced())
    async with running(exporter):
        await trio.sleep(10)

    assert counted(exporter) == (1, 1)
