"""Hedges that are not started, and why."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from ollama_gateway.backends.breaker import FAILURES
from ollama_gateway.reasons import Reason
from tests.flow.racing import GOOD, NEVER, M, RacePlan, Track, error, failed

Clock = trio.testing.MockClock
SLOW: RacePlan = {"a": (5, GOOD), "b": (0, GOOD)}


def unhealthy(track: Track) -> None:
    """Open the breaker of `b`."""
    for _ in range(FAILURES):
        track.by_name["b"].health_of(M).breaker.failed(0, Reason.CONNECTION_BROKEN, is_probe=False)


def occupied(track: Track) -> None:
    """Take the only slot of `b`."""
    track.by_name["b"].slots = track.by_name["b"].in_flight = 1


def paused(track: Track) -> None:
    """Pause `b`."""
    track.backends.pause({"b"})


@pytest.mark.parametrize(
    ("options", "prepare", "reason"),
    [
        ({"after": "off"}, None, None),
        ({"warm": "b"}, None, "cold_attempt"),
        ({"warm": "a"}, None, "cold"),
        ({}, occupied, "full"),
        ({}, unhealthy, "ill"),
        ({}, paused, "no_candidate"),
        ({"ratio": 0}, None, None),
        ({"attempts": 1}, None, None),
    ],
)
async def test_why_no_hedge_is_started(
    autojump_clock: Clock, options: dict[str, Any], prepare: Any, reason: str | None
) -> None:
    """The race waits for the slow backend and counts each reason once."""
    track = Track("a", "b", **{"after": 1, **options})
    if prepare is not None:
        prepare(track)

    outcomes = await track.run(SLOW)

    assert (outcomes.won, outcomes.started) == ("a", {"a": 0})
    hedge_skipped = ("cold_attempt", "cold", "full", "ill", "no_candidate", "budget")
    counted = [name for name in hedge_skipped if track.figure("hedges_total", result=name)]
    assert counted == ([reason] if reason else [])
    assert track.figure("hedges_total", result=reason or "started") == (1 if reason else 0)


async def test_what_is_not_streamed_is_never_hedged(autojump_clock: Clock) -> None:
    """A slow whole answer starts no second attempt."""
    track = Track("a", "b", after=1)

    assert (await track.run(SLOW, is_streamed=False)).started == {"a": 0}


async def test_a_skipped_hedge_is_tried_again(autojump_clock: Clock) -> None:
    """It is tried again after each delay, and the other backend has room by then."""
    track = Track("a", "b", after=2)
    occupied(track)

    async def free() -> None:
        await trio.sleep(4.5)
        track.by_name["b"].in_flight = 0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(free)
        outcomes = await track.run({"a": (NEVER, GOOD), "b": (1, GOOD)})

    assert outcomes.started == {"a": 0, "b": 6}


async def test_hedges_are_a_share_of_the_requests(autojump_clock: Clock) -> None:
    """Slow but healthy backends get one hedge at the start, then one in twenty requests."""
    track = Track("a", "b", after=1, ratio=0.05)
    hedged = 0
    for _ in range(100):
        # The hedge never wins, so no attempt loses to its hedge and no backend seems unhealthy.
        outcomes = await track.run({"a": (2, GOOD), "b": (NEVER, GOOD)})
        hedged += "b" in outcomes.started

    assert hedged == 6
    assert track.figure("hedges_total", result="started") == 6
    assert track.figure("hedges_total", result="won") == 0


async def test_a_backend_that_hangs_costs_no_client_more_than_the_delay(
    autojump_clock: Clock,
) -> None:
    """A hedge beside a failing backend is a retry, so a small ratio leaves no client waiting."""
    track = Track("a", "b", after=2, ratio=0.05)
    plan: RacePlan = {"a": (NEVER, GOOD), "b": (0.5, GOOD)}

    ended = [(await track.run(plan)).ended for _ in range(20)]

    assert max(ended) == 2.5
    assert ended[FAILURES : FAILURES + 1] == [0.5], "the breaker is open"


async def test_auto_learns_the_delay(autojump_clock: Clock) -> None:
    """After twenty answers within 0.5 s, a slow one is hedged after 0.5 s in place of 2 s."""
    track = Track("a", "b", after="auto")
    for _ in range(20):
        await track.run({"a": (0.5, GOOD), "b": (0, GOOD)})

    outcomes = await track.run({"a": (NEVER, GOOD), "b": (0, GOOD)})

    assert outcomes.started == {"a": 0, "b": 0.5}


async def test_a_failure_beside_one_that_loads_its_model_starts_nothing(
    autojump_clock: Clock,
) -> None:
    """A cold backend gets the time to load the model; its failure starts a failover."""
    track = Track("a", "b", warm="b", after=1)

    outcomes = await track.run({"a": (30, failed()), "b": (1, GOOD)})

    assert outcomes.started == {"a": 0, "b": 30}


async def test_no_hedges_are_no_hedges(autojump_clock: Clock) -> None:
    """With a ratio of 0, nothing starts beside a failing backend either."""
    track = Track("a", "b", after=1, ratio=0)
    track.by_name["a"].health_of(M).is_failing = True

    assert (await track.run(SLOW)).started == {"a": 0}


async def test_a_hedge_to_a_failing_backend_is_paid_as_a_retry(autojump_clock: Clock) -> None:
    """An outage of slow errors at all backends costs no more than the retry budget."""
    track = Track("a", "b", after=2, attempts=2)
    slow: RacePlan = {"a": (3, error()), "b": (3, error())}
    attempts = 0

    async def ask() -> None:
        nonlocal attempts
        attempts += len((await track.run(slow)).started)

    async with trio.open_nursery() as nursery:
        for _ in range(2000):
            nursery.start_soon(ask)
            await trio.sleep(0.01)

    seconds = trio.current_time()
    # Until the first error no backend seems unhealthy, so saved hedges are free.
    assert attempts <= 2000 * 1.1 + 10 * seconds + 10 + 50
