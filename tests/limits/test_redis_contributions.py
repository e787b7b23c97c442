"""Contributions of usage journals to a Redis, and answers that do not count: each once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.contributions import Contribution
from ollama_gateway.limits.quota import Grant, KeyUsage
from ollama_gateway.limits.redis.operations import (
    GENERATION_KEY,
    OPENING_SECONDS,
    REBUILD_KEY,
    Contribute,
    ReadUsage,
    RedisOperation,
    Reserve,
)
from ollama_gateway.limits.redis.pipeline import Pipeline
from ollama_gateway.limits.redis.scripts import Batch, QuotaRedisDown, RedisScripts
from ollama_gateway.limits.redis.store import RedisQuota
from ollama_gateway.metrics import Metrics
from ollama_gateway.storage.batcher import in_thread
from tests.limits.faults import (
    KEY,
    Gateway,
    account_key,
    by_hand,
    flush,
    inside,
    look,
    refused,
    request_for,
    run,
    spend,
    status,
)
from tests.support.patience import PATIENCE

TODAY = int(time.time() // 86_400)


@asynccontextmanager
async def restarted(before: Gateway) -> AsyncIterator[Gateway]:
    """Run the same gateway as a new process: with the same journal, and nothing open."""
    made = Gateway(before.url, before.identity, spent=before.spent)
    async with made.quota.opened():
        await made.beat()
        yield made


async def test_a_gateway_that_restarts_adds_nothing_again(redis_url: str) -> None:
    """Its journal is in this generation already, by its settlements or by a rebuild."""
    async with by_hand(redis_url) as one:
        await spend(one, 40)
    async with restarted(one) as again:
        assert status(redis_url) == (0, 40)
        await spend(again, 5)
        flush(redis_url)
        await again.beat()
        assert status(redis_url) == (0, 45)
    async with restarted(again):
        assert status(redis_url) == (0, 45)


async def test_different_journals_add_up(redis_url: str) -> None:
    """Two gateways that join one after the other each add their own journal."""
    async with by_hand(redis_url, "a") as one, by_hand(redis_url, "b") as two:
        await spend(one, 40)
        await spend(two, 25)
        flush(redis_url)
        await one.beat()
        await one.beat()
        assert status(redis_url) == (0, 40)
        await two.beat()
        assert status(redis_url) == (0, 65)
        await one.beat()
        await two.beat()
        assert status(redis_url) == (0, 65)


@attrs.define
class Finder:
    """A gateway that found the journal of a dead one."""

    found: Contribution

    async def contributions(self) -> Sequence[Contribution]:
        """Return the contribution of the dead one."""
        return [self.found]

    async def elsewhere(self) -> dict[str, dict[str, dict[int, int]]]:
        """Return no other."""
        return {}


async def test_a_dead_gateways_journal_counts_once(redis_url: str) -> None:
    """Several may add it, also in part and with more in it the second time."""
    for tokens in (40, 40, 55, 30):
        totals = {KEY: {TODAY: tokens}, "other": {TODAY: 7}}
        with inside(redis_url) as client:
            client.delete("ollama-gateway:1:{epoch}:given")  # as if the finder died before the end
        finder = Finder(Contribution("dead", totals, is_alive=False))
        quota = RedisQuota(
            RedisScripts(redis_url, timeout=PATIENCE), finder.contributions, finder.elsewhere
        )
        async with quota.opened():
            await quota.renew(list)
    with inside(redis_url) as client:
        assert client.hget(account_key("budget"), f"day:{TODAY}:spent") == "55"
        assert client.hget(account_key("budget", "other"), f"day:{TODAY}:spent") == "7"


async def test_a_lost_journal_counts_once(redis_url: str) -> None:
    """The first gateway that joins and can ask adds it, once a generation."""
    async with by_hand(redis_url, "a") as one, by_hand(redis_url, "b") as two:
        one.elsewhere, two.elsewhere = None, {"gone": {KEY: {TODAY: 30}}}
        await spend(one, 40)
        flush(redis_url)
        for heartbeat in (one.beat, two.beat, one.beat, two.beat):
            await heartbeat()

        assert status(redis_url) == (0, 70)
        assert (one.questions, two.questions) == (2, 1)
        async with restarted(two) as again:
            assert (status(redis_url), again.questions) == ((0, 70), 0)


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_journal_that_is_not_lost_is_not_added_to(redis_url: str, *, is_late: bool) -> None:
    """The audit log has less of it than the journal, which adds the rest, before or after."""
    async with by_hand(redis_url, "a") as one, by_hand(redis_url, "b") as two:
        one.elsewhere = two.elsewhere = {"a": {KEY: {TODAY: 25}}, "b": {KEY: {TODAY: 10}}}
        await spend(one, 40)
        await spend(two, 10)
        flush(redis_url)
        for gateway in (two, one) if is_late else (one, two):
            await gateway.beat()
            await gateway.beat()

        assert status(redis_url) == (0, 50)


def test_a_contribution_adds_to_later_charges(redis_url: str) -> None:
    """A repeated contribution changes nothing, whatever was charged in between."""
    (grant,) = run(redis_url, Reserve(request_for("a")))
    assert isinstance(grant, Grant)
    contribution = Contribute(KEY, "a", {grant.reservation.day: 40})
    run(redis_url, contribution, contribution)

    assert look(redis_url).day == look(redis_url).month == 140
    run(redis_url, contribution)
    assert look(redis_url).day == 140


@attrs.define
class Forgetful:
    """Scripts on a Redis that loses everything at a given place of the next batch."""

    scripts: RedisScripts
    url: str
    before: int = -1
    timeout: float = PATIENCE

    def run(self, operations: Sequence[RedisOperation]) -> Batch:
        """Run a batch, and lose the first of its operations."""
        if self.before < 0:
            return self.scripts.run(operations)
        first = self.scripts.run(operations[: self.before])
        with inside(self.url) as client:
            client.flushall()
        rest = self.scripts.run(operations[self.before :])
        return Batch(
            [*first.outcomes, *rest.outcomes], rest.generation, rest.is_rebuilding, rest.time
        )

    def close(self) -> None:
        """Close the connection."""
        self.scripts.close()


@pytest.mark.parametrize("before", [0, 1, 2])
async def test_a_batch_in_which_redis_lost_everything_admitted_nothing(
    redis_url: str, before: int
) -> None:
    """Grants and figures of such a batch do not count, wherever in it the loss was."""
    scripts = Forgetful(RedisScripts(redis_url, timeout=PATIENCE), redis_url)
    pipeline = Pipeline(scripts, in_thread, Metrics())  # type: ignore[arg-type]
    async with pipeline.opened():
        asked = (Reserve(request_for("a"), generation="first:0"), ReadUsage(KEY, "first:0"))
        granted, usage = await pipeline.submit(*asked)
        assert isinstance(granted, Grant)
        assert isinstance(usage, KeyUsage)
        scripts.before = before
        outcomes = await pipeline.submit(*asked)
    assert [type(outcome) for outcome in outcomes] == [QuotaRedisDown, QuotaRedisDown]


async def test_a_grant_of_an_old_generation_does_not_count(redis_url: str) -> None:
    """Another gateway may have begun a new generation: it is not the one that was joined."""
    pipeline = Pipeline(RedisScripts(redis_url, timeout=PATIENCE), in_thread, Metrics())
    with inside(redis_url) as client:
        client.set("ollama-gateway:1:{epoch}", "second:0")
    async with pipeline.opened():
        (outcome,) = await pipeline.submit(Reserve(request_for("a"), generation="first:0"))
    assert isinstance(outcome, QuotaRedisDown)


async def test_a_generation_admits_when_it_opens(one: Gateway, redis_url: str) -> None:
    """Others need time to add their journals, but no gateway waits longer than an opening takes."""
    with inside(redis_url) as client:
        client.set(GENERATION_KEY, f"second:{(client.time()[0] + 3600) * 1000}")
    with pytest.raises(Unavailable) as refusal:
        await one.quota.reserve(request_for("early"))
    assert 1 <= (refusal.value.retry_after or 0) <= OPENING_SECONDS
    await one.admits()
    await one.reserve(request_for("in time"))


async def test_no_gateway_admits_while_another_rebuilds(one: Gateway, redis_url: str) -> None:
    """A gateway that has joined waits until the mark of another one expires."""
    await one.reserve(request_for("before"))
    with inside(redis_url) as client:
        client.set(REBUILD_KEY, 1, px=500)
    await refused(one, "in the batch that sees it")
    await refused(one, "after it")
    assert one.quota.why_not == "the quota store is being filled again"
    await one.admits()
    await one.reserve(request_for("after"))
