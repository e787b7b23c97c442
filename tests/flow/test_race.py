"""The race in virtual time: when attempts start, which one wins, and that losers are closed."""

from __future__ import annotations

import anyio
import pytest
import trio
import trio.testing

from ollama_gateway.backends.health import BackendFault
from ollama_gateway.errors import (
    GatewayError,
    ModelForbidden,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from ollama_gateway.flow.failures import AttemptFailed, BackendRefused
from ollama_gateway.reasons import Reason, reason_of
from tests.flow.racing import GOOD, NEVER, RacePlan, Track, error, failed, full, unreachable

Clock = trio.testing.MockClock


@pytest.mark.parametrize(
    ("plan", "winner", "started"),
    [
        ({"a": (1, GOOD), "b": (0, GOOD)}, "a", {"a": 0}),
        ({"a": (1, failed()), "b": (2, GOOD)}, "b", {"a": 0, "b": 1}),
        ({"a": (1, failed()), "b": (2, failed()), "c": (0, GOOD)}, "c", {"a": 0, "b": 1, "c": 3}),
    ],
)
async def test_a_failure_starts_the_next_at_once(
    autojump_clock: Clock, plan: RacePlan, winner: str, started: dict[str, float]
) -> None:
    """Candidates are asked in order, each in the instant in which the last one failed."""
    track = Track(*plan)

    outcomes = await track.run(plan)

    assert (outcomes.won, outcomes.started) == (winner, started)
    assert winner in outcomes.closed
    track.assert_idle()


async def test_at_most_so_many_attempts(autojump_clock: Clock) -> None:
    """The number of attempts is bounded, whatever the number of candidates."""
    track = Track(*"abcde", attempts=2)

    outcomes = await track.run({name: (1, failed()) for name in "abcde"})

    assert isinstance(outcomes.error, UpstreamFailed)
    assert outcomes.started == {"a": 0, "b": 1}
    track.assert_idle()


async def test_the_clients_own_error_ends_the_race(autojump_clock: Clock) -> None:
    """A 400 is the same at every backend, so no other is asked."""
    track = Track("a", "b")

    outcomes = await track.run({"a": (1, BackendRefused(400, "no")), "b": (0, GOOD)})

    assert isinstance(outcomes.error, BackendRefused)
    assert (outcomes.error.status, outcomes.error.message) == (400, "no")
    assert outcomes.started == {"a": 0}
    track.assert_idle()


@pytest.mark.parametrize(
    ("plan", "started", "won", "closed", "ended"),
    [
        # slow: the next one starts beside it and wins, and the loser ends at once
        ({"a": (5, GOOD), "b": (1, GOOD)}, {"a": 0, "b": 2}, "b", {"a": 3, "b": 3}, 3),
        # the first one still wins
        ({"a": (3, GOOD), "b": (9, GOOD)}, {"a": 0, "b": 2}, "a", {"a": 3, "b": 3}, 3),
        # as fast as the delay: no hedge
        ({"a": (1.9, GOOD), "b": (0, GOOD)}, {"a": 0}, "a", {"a": 1.9}, 1.9),
        # hanging: two hedges
        (
            {"a": (NEVER, GOOD), "b": (NEVER, GOOD), "c": (1, GOOD)},
            {"a": 0, "b": 2, "c": 4},
            "c",
            {"a": 5, "b": 5, "c": 5},
            5,
        ),
        # the hedge fails: the next one starts beside the first at once
        (
            {"a": (9, GOOD), "b": (0.5, failed()), "c": (1, GOOD)},
            {"a": 0, "b": 2, "c": 2.5},
            "c",
            {"a": 3.5, "c": 3.5},
            3.5,
        ),
        # the first fails while its hedge runs: nothing starts before the delay
        (
            {"a": (3, failed()), "b": (1.5, GOOD), "c": (0, GOOD)},
            {"a": 0, "b": 2},
            "b",
            {"b": 3.5},
            3.5,
        ),
        # the first fails, and its hedge hangs: a hedge of the hedge
        (
            {"a": (3, failed()), "b": (NEVER, GOOD), "c": (1, GOOD)},
            {"a": 0, "b": 2, "c": 4},
            "c",
            {"b": 5, "c": 5},
            5,
        ),
        # both fail: failover
        (
            {"a": (3, failed()), "b": (1.5, failed()), "c": (1, GOOD)},
            {"a": 0, "b": 2, "c": 3.5},
            "c",
            {"c": 4.5},
            4.5,
        ),
        # all fail
        ({"a": (3, failed()), "b": (1.5, failed())}, {"a": 0, "b": 2}, None, {}, 3.5),
    ],
)
async def test_hedges(
    autojump_clock: Clock,
    plan: RacePlan,
    started: dict[str, float],
    won: str | None,
    closed: dict[str, float],
    ended: float,
) -> None:
    """With a delay of 2 s, attempts start, win and are closed at these times."""
    track = Track(*plan, after=2)

    outcomes = await track.run(plan)

    assert outcomes.started == started
    assert (outcomes.won, outcomes.ended) == (won, ended)
    assert outcomes.closed == closed
    track.assert_idle()


async def test_two_answers_in_one_instant_have_one_winner(
    autojump_clock: Clock,
) -> None:
    """Of two answers in one instant one wins, and both are closed in the end."""
    track = Track("a", "b", after=1)

    outcomes = await track.run({"a": (2, GOOD), "b": (1, GOOD)})

    assert outcomes.won in {"a", "b"}
    assert outcomes.closed == {"a": 2, "b": 2}
    track.assert_idle()


async def test_a_failure_in_the_instant_of_the_win_changes_nothing(autojump_clock: Clock) -> None:
    """The good chunk counts, whichever of the two is seen first."""
    track = Track("a", "b", after=1)

    outcomes = await track.run({"a": (2, GOOD), "b": (1, failed())})

    assert outcomes.won == "a"
    track.assert_idle()


async def test_a_refusal_in_the_instant_of_the_win_leaves_nothing_open(
    autojump_clock: Clock,
) -> None:
    """The client gets one of the two, and the other one is closed."""
    track = Track("a", "b", after=1)

    outcomes = await track.run({"a": (2, GOOD), "b": (1, BackendRefused(400, "no"))})

    assert (outcomes.won, type(outcomes.error)) in {("a", type(None)), (None, BackendRefused)}
    assert outcomes.closed["a"] == 2
    track.assert_idle()


@pytest.mark.parametrize(
    ("failures", "expected", "status"),
    [
        ([unreachable(), failed(Reason.BACKEND_DOWN, BackendFault.NONE)], Unavailable, 503),
        ([error(500), unreachable()], UpstreamFailed, 502),
        ([unreachable(), error(500)], UpstreamFailed, 500),
        ([full(status=429)], UpstreamFailed, 429),
        ([full()], UpstreamFailed, 503),
        ([error(302)], UpstreamFailed, 502),
        ([failed(reason_of(404), BackendFault.NONE, 404)], ModelForbidden, 403),
        ([error(500), failed(reason_of(404), BackendFault.NONE, 404)], UpstreamFailed, 500),
        ([unreachable(), failed(reason_of(404), BackendFault.NONE, 404)], Unavailable, 503),
    ],
)
async def test_when_all_fail_the_last_one_speaks(
    autojump_clock: Clock,
    failures: list[AttemptFailed],
    expected: type[GatewayError],
    status: int,
) -> None:
    """The error is that of the last attempt; 429 and 503 have Retry-After."""
    plan = {str(number): (1.0, failure) for number, failure in enumerate(failures)}
    track = Track(*plan)

    found = (await track.run(plan)).error

    assert type(found) is expected
    assert isinstance(found, GatewayError)
    assert found.status == status
    assert (found.retry_after is not None) == (status in {429, 503})
    track.assert_idle()


async def test_patience_covers_all_attempts_together(autojump_clock: Clock) -> None:
    """The first good chunk has one deadline, however many attempts it took."""
    track = Track("a", "b")

    outcomes = await track.run({"a": (3, failed()), "b": (10, GOOD)}, timeout=5)

    assert isinstance(outcomes.error, UpstreamTimeout)
    assert outcomes.closed == {"b": 5}
    track.assert_idle()


@pytest.mark.parametrize("moment", [step / 4 for step in range(25)])
async def test_a_client_that_leaves_at_any_moment_leaves_nothing_open(
    autojump_clock: Clock, moment: float
) -> None:
    """The race may be cancelled before, between or during attempts, or after it was won."""
    track = Track("a", "b", "c", after=1)
    plan: RacePlan = {"a": (1.5, failed()), "b": (NEVER, GOOD), "c": (2, GOOD)}

    with anyio.move_on_after(moment):
        await track.run(plan, holds=1)

    assert trio.current_time() == min(moment, 5)
    track.assert_idle()


async def test_an_attempt_that_nobody_waits_for_is_not_made(autojump_clock: Clock) -> None:
    """With no candidate left there is no race."""
    track = Track("a")
    track.backends.pause({"a"})

    outcomes = await track.run({"a": (1, GOOD)})

    assert isinstance(outcomes.error, Unavailable)
    assert outcomes.started == {}
