"""A batch that is sent twice counts once, and a late event loop is no Redis that hangs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import anyio
import attrs
import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from ollama_gateway.errors import Unavailable
from ollama_gateway.limits.contributions import Contribution, Totals
from ollama_gateway.limits.quota import Grant, LimitRefusal, Quota
from ollama_gateway.limits.redis.scripts import RedisScripts
from ollama_gateway.limits.redis.store import RedisQuota
from ollama_gateway.limits.redis.ticks import Ticks
from ollama_gateway.services import running
from tests.limits.faults import (
    HASTY,
    Gateway,
    begin,
    by_hand,
    look,
    ready_redis,
    request_for,
    status,
)
from tests.limits.proxy import proxy_to
from tests.support.patience import PATIENCE, until

R = TypeVar("R")

ALL = Quota(9, 9, 100_000, 100_000)
CROWD = 200
PLACES = 150


async def granted(made: Gateway, request_id: str) -> Grant:
    """Reserve once, and expect a grant of the whole request."""
    outcome = await made.quota.reserve(request_for(request_id, ALL))
    assert isinstance(outcome, Grant)
    assert outcome.reservation.tokens == 100
    return outcome


def used(url: str) -> tuple[int, int, int]:
    """Return the key's admissions, open requests and tokens of the day."""
    usage = look(url)
    return usage.admissions, usage.open, usage.day


@pytest.mark.parametrize("passing", [0.0, 0.5])
async def test_a_reservation_whose_answer_is_lost_is_made_once(passing: float) -> None:
    """The second try finds the reservation of the first, and the client notices nothing."""
    with ready_redis() as server:
        async with proxy_to(server) as proxy, by_hand(proxy.url) as one:
            proxy.cut_after, proxy.passing = b"lost-reservation", passing
            grant = await granted(one, "lost-reservation")
            assert (proxy.cuts, used(server.url)) == (1, (1, 1, 100))
            one.quota.settle(grant.reservation, 30)
            await one.beat()
            assert used(server.url) == (1, 0, 30)


async def test_a_first_try_that_arrives_last_changes_nothing() -> None:
    """Redis runs it after its last moment, when the request has already ended."""
    with ready_redis() as server:
        async with proxy_to(server) as proxy, by_hand(proxy.url, timeout=HASTY) as one:
            proxy.keep = b"late-reservation"
            grant = await granted(one, "late-reservation")
            assert (len(proxy.kept), used(server.url)) == (1, (1, 1, 100))
            one.quota.settle(grant.reservation, 30)
            await one.beat()
            await proxy.deliver()
            assert used(server.url) == (1, 0, 30)


@pytest.mark.parametrize("is_answered", [True, False])
async def test_a_first_try_that_arrives_last_but_in_time_changes_nothing(
    is_answered: bool,  # noqa: FBT001 - a column
) -> None:
    """Its last moment is still to come, and the settlement has left a tombstone."""
    with ready_redis() as server:
        async with proxy_to(server) as proxy, by_hand(proxy.url) as one:
            proxy.keep, proxy.ends_kept = b"early-reservation", True
            if is_answered:
                grant = await granted(one, "early-reservation")
                one.quota.settle(grant.reservation, 30)
            else:
                proxy.cut_after, proxy.tries = b"early-reservation", 2
                with pytest.raises(Unavailable):
                    await one.quota.reserve(request_for("early-reservation", ALL))
            await one.beat()
            before = used(server.url)
            await proxy.deliver()
            assert used(server.url) == before == ((1, 0, 30) if is_answered else (0, 0, 0))


async def test_tokens_that_are_added_twice_count_once() -> None:
    """The second step of a request may be sent twice too."""
    with ready_redis() as server:
        async with proxy_to(server) as proxy, by_hand(proxy.url) as one:
            await one.quota.reserve(request_for("two-steps", ALL, prompt=0))
            proxy.cut_after = b"two-steps"
            second = attrs.evolve(request_for("two-steps", ALL), has_places=True)
            assert isinstance(await one.quota.reserve(second), Grant)
            assert (proxy.cuts, used(server.url)) == (1, (1, 1, 100))


async def test_settlements_and_renewals_that_are_sent_twice_count_once() -> None:
    """A heartbeat whose answer is lost is no failure, and charges nothing twice."""
    with ready_redis() as server:
        async with proxy_to(server) as proxy, by_hand(proxy.url) as one:
            for request_id in ("ends", "renewed-twice"):
                await one.reserve(request_for(request_id, ALL))
            one.settle("ends", 30)
            proxy.cut_after = b"renewed-twice"
            await one.beat()
            assert (proxy.cuts, one.quota.why_not) == (1, None)
            await until(lambda: not one.quota.settlements_waiting)
            assert used(server.url) == (2, 1, 130)


async def test_a_redis_that_has_been_silent_is_asked_once() -> None:
    """If Redis has not answered lately, the first failure counts, and nothing is held."""
    with ready_redis() as server:
        async with proxy_to(server) as proxy, by_hand(proxy.url) as one:
            state = one.quota._pipeline.state
            assert state is not None
            one.quota._pipeline.state = attrs.evolve(state, at=state.at - 2 * PATIENCE)
            proxy.cut_after = b"asked-once"
            with pytest.raises(Unavailable):
                await one.quota.reserve(request_for("asked-once", ALL))
            assert proxy.cuts == 1
            await one.beat()
            await until(lambda: used(server.url) == (0, 0, 0))


async def test_a_crowd_whose_answers_are_lost_gets_the_limit() -> None:
    """While the connection breaks again and again, each request is answered, and counts once."""
    quota = Quota(concurrent_requests=PLACES, tokens_per_day=100 * CROWD)
    outcomes: list[Grant | LimitRefusal] = []
    with ready_redis() as server:
        async with proxy_to(server) as proxy, by_hand(proxy.url) as one:

            async def ask(number: int) -> None:
                outcomes.append(await one.quota.reserve(request_for(f"crowd-{number}", quota)))

            proxy.passes_one = b"first:0"  # the generation, at the end of each batch
            async with anyio.create_task_group() as tasks:
                for number in range(CROWD):
                    tasks.start_soon(ask, number)
                    if number % 20 == 0:
                        await until(lambda number=number: len(outcomes) >= number - 20)  # type: ignore[misc]
            grants = [outcome for outcome in outcomes if isinstance(outcome, Grant)]
            assert (len(outcomes), len(grants)) == (CROWD, PLACES)
            assert proxy.cuts >= 1
            assert status(server.url) == (PLACES, 100 * PLACES)


async def nothing_spent() -> Sequence[Contribution]:
    """Return no contributions."""
    return []


async def nothing_lost() -> dict[str, Totals]:
    """Return no lost journals."""
    return {}


async def test_the_timeout_runs_from_the_sending(redis_url: str, autojump_clock: MockClock) -> None:
    """A batch that waits for its thread longer than the timeout is still answered."""
    begin(redis_url)
    scripts = RedisScripts(redis_url, timeout=HASTY)

    async def late(work: Callable[[], R], /) -> R:
        await anyio.sleep(1.5 * HASTY)
        return work()

    quota = RedisQuota(scripts, nothing_spent, nothing_lost, runner=late)
    async with quota.opened():
        await quota.renew(list)
        assert isinstance(await quota.reserve(request_for("late-thread", ALL)), Grant)


async def test_time_in_which_the_loop_stood_still_does_not_count(mock_clock: MockClock) -> None:
    """Three ticks that come a hundred seconds late do not use up five seconds."""
    late: list[float] = []
    ticks, has_ended = Ticks(1.0, late.append), False
    async with running(ticks.run):
        with ticks.at_most(5):
            for _ in range(3):
                await wait_all_tasks_blocked()
                mock_clock.jump(101)
            await wait_all_tasks_blocked()
            has_ended = True
    assert has_ended
    assert late == [100, 100, 100]


async def test_time_in_which_the_loop_runs_counts(autojump_clock: MockClock) -> None:
    """A block is left after its ticks, and the next one has its own."""
    late: list[float] = []
    ticks = Ticks(1.0, late.append)
    async with running(ticks.run):
        for seconds in (5, 3):
            began = anyio.current_time()
            with ticks.at_most(seconds):
                await anyio.sleep_forever()
            assert seconds - 1 <= anyio.current_time() - began <= seconds
    assert late == []
