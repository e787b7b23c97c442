"""What records of spending add to a Redis, and what does not count in it: each thing once."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import pytest

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.quota import Grant, KeyUsage
from ollama_gateway.limits.redis.operations import (
    GENERATION_KEY,
    OPENING_SECONDS,
    REBUILD_KEY,
    Contribute,
    Operation,
    ReadUsage,
    Reserve,
)
from ollama_gateway.limits.redis.pipeline import Pipeline
from ollama_gateway.limits.redis.scripts import Batch, QuotaRedisDown, RedisScripts
from ollama_gateway.limits.redis.store import RedisQuota
from ollama_gateway.limits.spending import Contribution
from ollama_gateway.storage.batcher import in_thread
from tests.limits.faults import (
    KEY,
    Gateway,
    account_key,
    begin,
    by_hand,
    inside,
    look,
    refused,
    request_for,
    status,
)
from tests.support.patience import PATIENCE

TODAY = int(time.time() // 86_400)


@asynccontextmanager
async def restarted(before: Gateway) -> AsyncIterator[Gateway]:
    """The same gateway as a new process: it has the same record, and nothing open."""
    made = Gateway(before.url, before.identity, spent=before.spent)
    async with made.quota.opened():
        await made.beat()
        yield made


async def spend(one: Gateway, tokens: int) -> None:
    """Spend some, confirmed."""
    await one.reserve(request_for(f"spent {one.identity} {tokens}"))
    one.settle(f"spent {one.identity} {tokens}", tokens)
    await one.beat()


async def test_a_gateway_that_restarts_adds_nothing_again(redis_url: str) -> None:
    """In the same epoch its record was counted: as it was spent, or when Redis was filled."""
    begin(redis_url)
    async with by_hand(redis_url) as one:
        await spend(one, 40)
    async with restarted(one) as again:
        assert status(redis_url) == (0, 40)
        await spend(again, 5)
        with inside(redis_url) as client:
            client.flushall()
        await again.beat()
        assert status(redis_url) == (0, 45)
    async with restarted(again):
        assert status(redis_url) == (0, 45)


async def test_records_that_differ_add_up(redis_url: str) -> None:
    """Two gateways that join one after the other each add their own."""
    begin(redis_url)
    async with by_hand(redis_url, "a") as one, by_hand(redis_url, "b") as two:
        await spend(one, 40)
        await spend(two, 25)
        with inside(redis_url) as client:
            client.flushall()
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
    """A gateway that found the record of a dead one."""

    found: Contribution

    async def contributions(self) -> Sequence[Contribution]:
        """What it adds."""
        return [self.found]

    async def elsewhere(self) -> dict[str, dict[str, dict[int, int]]]:
        """Nothing more."""
        return {}


async def test_a_dead_gateways_record_counts_once_whoever_finds_it(redis_url: str) -> None:
    """Several may add it, also in part and with more in it the second time."""
    begin(redis_url)
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


async def test_what_a_lost_record_had_counts_once(redis_url: str) -> None:
    """It is asked for once an epoch, by whoever joins first and can ask."""
    begin(redis_url)
    async with by_hand(redis_url, "a") as one, by_hand(redis_url, "b") as two:
        one.elsewhere, two.elsewhere = None, {"gone": {KEY: {TODAY: 30}}}
        await spend(one, 40)
        with inside(redis_url) as client:
            client.flushall()
        for heartbeat in (one.beat, two.beat, one.beat, two.beat):
            await heartbeat()

        assert status(redis_url) == (0, 70)
        assert (one.questions, two.questions) == (2, 1)
        async with restarted(two) as again:
            assert (status(redis_url), again.questions) == ((0, 70), 0)


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_record_that_is_not_lost_is_not_added_to(redis_url: str, *, is_late: bool) -> None:
    """The trail has less of it than the record, which adds the rest, before or after."""
    begin(redis_url)
    async with by_hand(redis_url, "a") as one, by_hand(redis_url, "b") as two:
        one.elsewhere = two.elsewhere = {"a": {KEY: {TODAY: 25}}, "b": {KEY: {TODAY: 10}}}
        await spend(one, 40)
        await spend(two, 10)
        with inside(redis_url) as client:
            client.flushall()
        for gateway in (two, one) if is_late else (one, two):
            await gateway.beat()
            await gateway.beat()

        assert status(redis_url) == (0, 50)


def test_a_record_adds_to_what_was_spent_since(redis_url: str) -> None:
    """Said again it changes nothing, whatever was charged in between."""
    begin(redis_url)
    scripts = RedisScripts(redis_url, timeout=PATIENCE)
    (grant,) = scripts.run([Reserve(request_for("a"))]).outcomes
    assert isinstance(grant, Grant)
    given = Contribute(KEY, "a", {grant.reservation.day: 40})
    scripts.run([given, given])
    assert look(redis_url).day == look(redis_url).month == 140
    scripts.run([given])
    scripts.close()
    assert look(redis_url).day == 140


@attrs.define
class Forgetful:
    """Scripts on a Redis that loses everything at a given place of the next batch."""

    scripts: RedisScripts
    url: str
    before: int = -1

    def run(self, operations: Sequence[Operation]) -> Batch:
        """Run a batch; those of its operations that come first are lost."""
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
    """Wherever in the batch that was: its grants and its figures are not believed."""
    begin(redis_url)
    scripts = Forgetful(RedisScripts(redis_url, timeout=PATIENCE), redis_url)
    pipeline = Pipeline(scripts, in_thread)  # type: ignore[arg-type]
    async with pipeline.opened():
        asked = (Reserve(request_for("a"), generation="first:0"), ReadUsage(KEY, "first:0"))
        granted, usage = await pipeline.submit(*asked)
        assert isinstance(granted, Grant)
        assert isinstance(usage, KeyUsage)
        scripts.before = before
        outcomes = await pipeline.submit(*asked)
    assert [type(outcome) for outcome in outcomes] == [QuotaRedisDown, QuotaRedisDown]


async def test_a_grant_of_an_epoch_that_is_over_does_not_count(redis_url: str) -> None:
    """Another gateway may have begun a new epoch already: it is not the one that was joined."""
    begin(redis_url)
    pipeline = Pipeline(RedisScripts(redis_url, timeout=PATIENCE), in_thread)
    with inside(redis_url) as client:
        client.set("ollama-gateway:1:{epoch}", "second:0")
    async with pipeline.opened():
        (outcome,) = await pipeline.submit(Reserve(request_for("a"), generation="first:0"))
    assert isinstance(outcome, QuotaRedisDown)


async def test_an_epoch_admits_when_it_opens(redis_url: str) -> None:
    """Others need the time to add theirs; but nobody waits longer than an opening takes."""
    begin(redis_url)
    with inside(redis_url) as client:
        client.set(GENERATION_KEY, f"second:{(client.time()[0] + 3600) * 1000}")
    async with by_hand(redis_url) as one:
        with pytest.raises(Unavailable) as refusal:
            await one.quota.reserve(request_for("early"))
        assert 1 <= (refusal.value.retry_after or 0) <= OPENING_SECONDS
        await one.admits()
        await one.reserve(request_for("in time"))


async def test_nobody_admits_while_anybody_fills(redis_url: str) -> None:
    """A gateway that has joined waits for the sign of another one to vanish."""
    begin(redis_url)
    async with by_hand(redis_url) as one:
        await one.reserve(request_for("before"))
        with inside(redis_url) as client:
            client.set(REBUILD_KEY, 1, px=500)
        await refused(one, "in the batch that sees it")
        await refused(one, "after it")
        assert one.quota.why_not == "the quota store is being filled again"
        await one.admits()
        await one.reserve(request_for("after"))
