"""Slots and the waiting line, in virtual time."""

from __future__ import annotations

import anyio
import pytest
import trio
import trio.testing

from ollama_gateway.backends.evaluation import RouteRequest
from ollama_gateway.backends.selection import Candidates
from ollama_gateway.errors import Unavailable
from ollama_gateway.wire.names import ModelName
from tests.flow.racing import GOOD, M, Outcomes, RacePlan, Track, failed, full

Clock = trio.testing.MockClock


async def many(track: Track, keys: str, *, holds: float, **arguments: float) -> list[Outcomes]:
    """Send one request for each letter, its key, in this order in one instant."""
    found: dict[int, Outcomes] = {}

    async def ask(number: int, key: str) -> None:
        plan = dict.fromkeys(track.by_name, (0.0, GOOD))
        found[number] = await track.run(plan, holds=holds, key=key, **arguments)  # type: ignore[arg-type]

    async with trio.open_nursery() as nursery:
        for number, key in enumerate(keys):
            nursery.start_soon(ask, number, key)
            await trio.testing.wait_all_tasks_blocked()
    track.assert_idle()
    return [found[number] for number in sorted(found)]


async def test_as_many_at_once_as_there_are_slots(autojump_clock: Clock) -> None:
    """Two backends of one slot serve two of five requests of 10 s at a time."""
    outcomes = await many(Track("a", "b", slots=1), "kkkkk", holds=10)

    assert [outcome.ended for outcome in outcomes] == [10, 10, 20, 20, 30]


async def test_keys_take_turns_for_a_slot(autojump_clock: Clock) -> None:
    """One key's requests in line do not hold up another key."""
    outcomes = await many(Track("a", slots=1), "kkkkl", holds=10)

    assert [outcome.ended for outcome in outcomes] == [10, 20, 40, 50, 30]


async def test_without_slots_nobody_waits(autojump_clock: Clock) -> None:
    """`slots = 0` is no cap; requests spread over a tier."""
    track = Track("a", "b", priorities={"a": 1, "b": 1})

    outcomes = await many(track, "k" * 10, holds=10)

    assert [outcome.ended for outcome in outcomes] == [10] * 10
    assert [outcome.won for outcome in outcomes] == ["a", "b"] * 5


async def test_who_has_waited_too_long_is_told_when_to_come_back(autojump_clock: Clock) -> None:
    """It gets a 503 with the reason `queue_timeout`, and no backend is asked."""
    _, late = await many(Track("a", slots=1), "kk", holds=10, queue_timeout=4)

    assert isinstance(late.error, Unavailable)
    assert (late.error.reason, late.error.retry_after, late.ended) == ("queue_timeout", 5, 4)
    assert late.started == {}


async def test_the_wait_is_part_of_the_first_chunks_deadline(autojump_clock: Clock) -> None:
    """The deadline of the first chunk covers the waiting line too."""
    _, late = await many(Track("a", slots=1), "kk", holds=10, timeout=4)

    assert (late.ended, late.started) == (4, {})


async def test_a_newcomer_does_not_overtake_the_line(autojump_clock: Clock) -> None:
    """Free room goes to the next in line in the same instant."""
    track = Track("a", slots=1)
    served: list[str] = []

    async def ask(name: str, holds: float) -> None:
        await track.run({"a": (0, GOOD)}, holds=holds, key=name)
        served.append(name)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask, "first", 10)
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask, "waits", 5)
        await trio.sleep(10)
        nursery.start_soon(ask, "newcomer", 5)

    assert served == ["first", "waits", "newcomer"]


@pytest.mark.parametrize("moment", [0, 1, 3, 9.99, 10, 10.01])
async def test_a_client_that_leaves_the_line_leaves_nothing(
    autojump_clock: Clock, moment: float
) -> None:
    """It may leave before its turn, in the instant of its turn, or after it."""
    track = Track("a", slots=1)

    async def leaves() -> None:
        await trio.testing.wait_all_tasks_blocked()
        with anyio.move_on_after(moment):
            await track.run({"a": (0, GOOD)}, holds=10)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leaves)
        await track.run({"a": (0, GOOD)}, holds=10)

    track.assert_idle()
    assert (await track.run({"a": (0, GOOD)})).won == "a"


async def test_a_backend_that_comes_back_serves_the_line(autojump_clock: Clock) -> None:
    """Any new room serves the line; here a backend is resumed."""
    track = Track("a", "b", slots=1)
    track.backends.pause({"b"})

    async def resume() -> None:
        await trio.sleep(3)
        track.backends.pause(())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(resume)
        outcomes = await many(track, "kk", holds=10)

    assert [(outcome.won, outcome.ended) for outcome in outcomes] == [("a", 10), ("b", 13)]


async def test_a_line_before_backends_that_are_all_lost_dissolves(autojump_clock: Clock) -> None:
    """With nothing left to wait for, all get a 503 at once."""
    track = Track("a", slots=1)

    async def lose() -> None:
        await trio.sleep(3)
        track.backends.pause({"a"})

    async with trio.open_nursery() as nursery:
        nursery.start_soon(lose)
        first, second = await many(track, "kk", holds=10)

    assert (first.won, first.ended) == ("a", 10)
    assert isinstance(second.error, Unavailable)
    assert second.ended == 3


async def test_a_backend_that_says_it_is_full_is_left_alone_for_as_long_as_it_says(
    autojump_clock: Clock,
) -> None:
    """After `Retry-After: 7` from the preferred backend, requests go elsewhere for 7 s."""
    track = Track("a", "b")
    busy: RacePlan = {"a": (0, full(retry_after=7)), "b": (0, GOOD)}
    healthy: RacePlan = {"a": (0, GOOD), "b": (0, GOOD)}

    assert (await track.run(busy)).started == {"a": 0, "b": 0}
    await trio.sleep(6.9)
    assert (await track.run(healthy)).started == {"b": 0}
    await trio.sleep(0.1)
    assert (await track.run(healthy)).started == {"a": 0}


async def test_a_backend_that_does_not_say_is_left_alone_for_a_second(
    autojump_clock: Clock,
) -> None:
    """A 429 or 503 without `Retry-After` means full, not unhealthy; no breaker opens."""
    track = Track("a", "b")
    for _ in range(10):
        assert (await track.run({"a": (0, full()), "b": (0, GOOD)})).started == {"a": 0, "b": 0}
        assert (await track.run({"a": (0, GOOD), "b": (0, GOOD)})).started == {"b": 0}
        await trio.sleep(1)

    assert (await track.run({"a": (0, GOOD), "b": (0, GOOD)})).won == "a"


async def test_a_request_waits_while_all_back_off(autojump_clock: Clock) -> None:
    """A request is served when the first of them may be asked again."""
    track = Track("a", "b")
    await track.run({"a": (0, full(retry_after=7)), "b": (0, full(retry_after=4))})

    outcomes = await track.run({"a": (0, GOOD), "b": (0, GOOD)})

    assert outcomes.started == {"b": 4}


async def test_who_would_wait_in_vain_is_told_at_once(autojump_clock: Clock) -> None:
    """If all are full for longer than the queue timeout, it gets a 503 with `Retry-After`."""
    track = Track("a")
    await track.run({"a": (0, full(retry_after=600))})

    outcomes = await track.run({"a": (0, GOOD)}, queue_timeout=10)

    assert isinstance(outcomes.error, Unavailable)
    assert (outcomes.error.reason, outcomes.error.retry_after) == ("backends_full", 60)
    assert outcomes.ended == 0


async def test_a_failover_waits_for_room_too(autojump_clock: Clock) -> None:
    """If the second backend is full when the first fails, the request waits for its slot."""
    track = Track("a", "b", slots=1)
    async with trio.open_nursery() as nursery:
        track.backends.pause({"a"})
        nursery.start_soon(lambda: track.run({"b": (0, GOOD)}, holds=10))
        await trio.testing.wait_all_tasks_blocked()
        track.backends.pause(())
        outcomes = await track.run({"a": (1, failed()), "b": (1, GOOD)})

    assert outcomes.started == {"a": 0, "b": 10}
    track.assert_idle()


async def test_what_costs_a_backend_nothing_takes_no_room(autojump_clock: Clock) -> None:
    """`/api/show` neither waits for chats nor makes them wait."""
    track = Track("a", slots=1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: track.run({"a": (0, GOOD)}, holds=10))
        await trio.testing.wait_all_tasks_blocked()
        outcomes = await track.run({"a": (1, GOOD)}, is_slotless=True)
        assert track.by_name["a"].in_flight == 1

    assert outcomes.ended == 1
    track.assert_idle()


async def test_room_that_time_alone_gives_is_seen_in_time(autojump_clock: Clock) -> None:
    """A backoff that ends at 5 s counts, although the backend's breaker waits until 20 s."""
    track = Track("a")
    health = track.by_name["a"].health_of(M)
    health.backoff_until, health.breaker.until = 5.0, 20.0

    assert (await track.run({"a": (0, GOOD)})).started == {"a": 5}


async def test_a_breakers_wait_is_not_taken_for_a_backoff(autojump_clock: Clock) -> None:
    """The request waits for a slot that is free in a second, however long the breaker waits."""
    track = Track("a", slots=1)
    track.by_name["a"].health_of(M).breaker.until = 70.0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: track.run({"a": (0, GOOD)}, holds=1))
        await trio.testing.wait_all_tasks_blocked()
        outcomes = await track.run({"a": (0, GOOD)}, queue_timeout=30)

    assert outcomes.started == {"a": 1}


async def test_the_retry_budget_is_waited_for_beside_a_full_backend(
    autojump_clock: Clock,
) -> None:
    """With an empty bucket and a full backend, the retry is made once it can be paid."""
    track = Track("c", "b", "a")
    track.by_name["a"].slots = track.by_name["a"].in_flight = 1
    track.by_name["b"].health_of(M).is_failing = True
    while track.rules.retries.pay(0):
        pass
    plan: RacePlan = {"c": (0, failed()), "b": (0, GOOD), "a": (0, GOOD)}

    outcomes = await track.run(plan)

    assert outcomes.won == "b"
    assert 0 < outcomes.started["b"] < 0.2


async def test_a_key_that_fills_the_line_makes_room_for_another(autojump_clock: Clock) -> None:
    """Its newest request is rejected, and the other key's first one is served in its turn."""
    track = Track("a", slots=1)
    track.backends.line.capacity = 5

    outcomes = await many(track, "kkkkkkl", holds=1)

    assert [outcome.ended for outcome in outcomes] == [1, 2, 4, 5, 6, 0, 3]
    assert isinstance(outcomes[5].error, Unavailable)
    assert outcomes[5].error.reason == "queue_full"


async def test_many_that_wait_for_the_same_look_at_the_clock_once(autojump_clock: Clock) -> None:
    """A thousand requests for as many cloud names look at the clock as one kind."""
    track = Track("a", slots=1)
    track.by_name["a"].in_flight = 1
    async with trio.open_nursery() as nursery:
        for number in range(100):
            name = ModelName.parse(f"m{number}:cloud")
            candidates = Candidates(track.backends, RouteRequest(name, "k"), 100)
            nursery.start_soon(candidates.next, Penniless())
        await trio.testing.wait_all_tasks_blocked()

        assert len(track.backends.line._kinds) == 1
        nursery.cancel_scope.cancel()
    track.by_name["a"].in_flight = 0
    track.assert_idle()


class Penniless:
    """A token bucket that is always empty."""

    def pay(self) -> bool:
        """Never."""
        return False

    def affordable_at(self) -> float:
        """Never."""
        return float("inf")
