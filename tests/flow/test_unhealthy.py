"""Failures of backends: which of them open a breaker, and the effect of an open one."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ollama_gateway.backends.breaker import FAILURES, FIRST_WAIT, JITTER
from ollama_gateway.backends.health import BackendFault
from ollama_gateway.errors import UpstreamFailed, UpstreamTimeout
from ollama_gateway.flow.hedging import RETRIES_SAVED
from ollama_gateway.reasons import Reason, reason_of
from ollama_gateway.wire.names import ModelName
from tests.flow.racing import GOOD, NEVER, M, RacePlan, Track, error, failed, full, unreachable

Clock = trio.testing.MockClock
HEALTHY: RacePlan = {"a": (0, GOOD), "b": (0, GOOD)}
OVER = FIRST_WAIT * (1 + JITTER)
"""Seconds after which a breaker's first wait is certainly over."""


def states(track: Track, name: str) -> tuple[str, str]:
    """Return the breakers of a backend and of its model."""
    backend, now = track.by_name[name], trio.current_time()
    return backend.breaker.state(now), backend.health_of(M).breaker.state(now)


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        (unreachable(), ("open", "closed")),
        (failed(Reason.CONNECTION_BROKEN), ("closed", "open")),
        (failed(Reason.EMPTY_ANSWER), ("closed", "open")),
        (error(500), ("closed", "open")),
        (error(401), ("closed", "open")),
        (failed(Reason.ERROR_AS_ANSWER, BackendFault.ERROR), ("closed", "open")),
        (full(), ("closed", "closed")),
        (full(status=429), ("closed", "closed")),
        (failed(reason_of(404), BackendFault.NONE, 404), ("closed", "closed")),
        (failed(Reason.BACKEND_DOWN, BackendFault.NONE), ("closed", "closed")),
    ],
)
async def test_what_counts_where_another_backend_served(
    autojump_clock: Clock, failure: Exception, expected: tuple[str, str]
) -> None:
    """Connect failures count for the backend, others for its model; full counts for neither."""
    track = Track("a", "b")
    for _ in range(FAILURES):
        assert (await track.run({"a": (1, failure), "b": (0, GOOD)})).won == "b"
        await trio.sleep(1)

    assert states(track, "a") == expected
    assert states(track, "b") == ("closed", "closed")


async def test_an_open_breaker_is_passed_over_until_its_probe_answers(
    autojump_clock: Clock,
) -> None:
    """The backend gets nothing, then one probe while the other requests go elsewhere."""
    track = Track("a", "b")
    for _ in range(FAILURES):
        await track.run({"a": (0, failed()), "b": (0, GOOD)})
    assert (await track.run(HEALTHY)).started == {"b": 0}
    await trio.sleep(OVER)
    slow: RacePlan = {"a": (5, GOOD), "b": (0, GOOD)}

    async with trio.open_nursery() as nursery:
        nursery.start_soon(track.run, slow)
        await trio.testing.wait_all_tasks_blocked()
        assert (await track.run(slow)).started == {"b": 0}

    assert (await track.run(HEALTHY)).started == {"a": 0}
    assert (
        track.figure(
            "breaker_changes_total", backend="a", change="opened", reason="connection_broken"
        )
        == 1
    )
    assert (
        track.figure("breaker_changes_total", backend="a", change="closed", reason="answered") == 1
    )


async def test_a_request_that_fails_everywhere_opens_nothing(autojump_clock: Clock) -> None:
    """A body that gets 500 everywhere is to blame itself; the client gets the last status."""
    track = Track("a", "b")
    for _ in range(10):
        outcomes = await track.run({"a": (0, error(500)), "b": (0, error(502))})
        assert isinstance(outcomes.error, UpstreamFailed)
        assert outcomes.error.status == 502
        assert outcomes.started == {"a": 0, "b": 0}
        await trio.sleep(1)

    assert states(track, "a") == states(track, "b") == ("closed", "closed")


async def test_a_deadline_counts(autojump_clock: Clock) -> None:
    """A backend that never answers is passed over after three failed requests."""
    track = Track("a", "b")
    for _ in range(FAILURES):
        outcomes = await track.run({"a": (NEVER, GOOD), "b": (0, GOOD)}, timeout=10)
        assert isinstance(outcomes.error, UpstreamTimeout)

    assert (await track.run(HEALTHY)).started == {"b": 0}


async def test_losing_to_its_hedge_counts(autojump_clock: Clock) -> None:
    """Losing to its own hedge counts against an attempt; a hedge that loses counts nothing."""
    track = Track("a", "b", after=1)
    for _ in range(FAILURES):
        await track.run({"a": (2, GOOD), "b": (NEVER, GOOD)})
    assert states(track, "b") == ("closed", "closed")
    for _ in range(FAILURES):
        await track.run({"a": (NEVER, GOOD), "b": (1, GOOD)})

    assert states(track, "a") == ("closed", "open")


async def test_a_client_that_leaves_says_nothing_of_the_backend(autojump_clock: Clock) -> None:
    """A probe whose client leaves shows nothing either; the next request is the probe."""
    track = Track("a", "b")
    for _ in range(FAILURES):
        await track.run({"a": (0, failed()), "b": (0, GOOD)})
    await trio.sleep(OVER)
    for _ in range(10):
        with trio.move_on_after(1):
            await track.run({"a": (NEVER, GOOD), "b": (0, GOOD)})

    assert (await track.run(HEALTHY)).started == {"a": 0}
    assert states(track, "a") == ("closed", "closed")


async def test_failures_that_are_not_in_a_row_open_nothing(autojump_clock: Clock) -> None:
    """One good answer in between resets the count."""
    track = Track("a", "b")
    for number in range(20):
        outcome = GOOD if number % FAILURES == 0 else failed()
        await track.run({"a": (0, outcome), "b": (0, GOOD)})

    assert states(track, "a") == ("closed", "closed")


async def test_never_are_all_passed_over(autojump_clock: Clock) -> None:
    """With every breaker open the last resort is tried, and a good answer closes its breaker."""
    track = Track("a", "b")
    for _ in range(FAILURES):
        await track.run({"a": (0, failed()), "b": (1, failed())})
        await trio.sleep(0.1)
    assert states(track, "a") == states(track, "b") == ("closed", "open")

    assert (await track.run(HEALTHY)).won == "a"
    assert (await track.run(HEALTHY)).started == {"a": 0}


async def test_of_the_bad_ones_a_request_tries_one(autojump_clock: Clock) -> None:
    """A request tries one unhealthy backend and does not go on to the next."""
    track = Track("a", "b", "c")
    broken: RacePlan = {name: (0, failed()) for name in "abc"}
    for _ in range(FAILURES):
        await track.run(broken)

    assert len((await track.run(broken)).started) == 1


async def test_the_backends_own_breaker_is_for_all_of_its_models(autojump_clock: Clock) -> None:
    """An unreachable machine serves no model; one that answers with an error serves others."""
    track = Track("a", "b")
    other = ModelName.parse("other:1")
    for _ in range(FAILURES):
        await track.run({"a": (0, unreachable()), "b": (0, error())})

    assert not track.by_name["a"].breaker.admits(trio.current_time())
    assert track.by_name["b"].health_of(other).breaker.admits(trio.current_time())


async def test_retries_on_what_is_failing_have_a_budget(autojump_clock: Clock) -> None:
    """If all backends answer with errors, attempts are bounded, here in one instant."""
    track = Track("a", "b")
    broken: RacePlan = {"a": (0, error()), "b": (0, error())}
    attempts = 0
    for _ in range(200):
        attempts += len((await track.run(broken)).started)

    # The first failover goes to a backend that has not failed yet.
    assert attempts == 200 + 1 + RETRIES_SAVED + 200 * 0.1 - 1
    assert track.figure("retries_total", result="started") == RETRIES_SAVED + 19
    assert track.figure("retries_total", result="budget") == 200 - 1 - (RETRIES_SAVED + 19)


async def test_a_failover_to_a_healthy_backend_is_free(autojump_clock: Clock) -> None:
    """Any number of such failovers is free."""
    track = Track("a", "b")
    for _ in range(200):
        assert (await track.run({"a": (0, error()), "b": (0, GOOD)})).won == "b"

    assert track.figure("retries_total", result="started") == 0
