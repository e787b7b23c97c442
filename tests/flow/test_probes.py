"""Probes of half-open breakers: which attempts are probes, for how long, and their results."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ollama_gateway.backends.breaker import FAILURES, FIRST_WAIT, JITTER, LONGEST_WAIT
from ollama_gateway.flow.failures import BackendRefused
from tests.flow.racing import GOOD, NEVER, M, RacePlan, Track, error, failed, unreachable

Clock = trio.testing.MockClock
OVER = FIRST_WAIT * (1 + JITTER)
HEALTHY: RacePlan = {"a": (0, GOOD), "b": (0, GOOD)}


async def half_open(failure: Exception, **options: float) -> Track:
    """Return backends whose first has a half-open breaker, its own or that of its model."""
    track = Track("a", "b", **options)  # type: ignore[arg-type]
    for _ in range(FAILURES):
        await track.run({"a": (0, failure), "b": (0, GOOD)})
    await trio.sleep(OVER)
    return track


async def test_a_slotless_probe_that_leaves_lets_the_line_go_on(
    autojump_clock: Clock,
) -> None:
    """When `/api/show` leaves, the chat that waits beside it is the next probe at once."""
    track = await half_open(unreachable())
    track.by_name["b"].slots = track.by_name["b"].in_flight = 1
    async with trio.open_nursery() as nursery:

        async def show() -> None:
            with trio.move_on_after(1):
                await track.run({"a": (NEVER, GOOD)}, is_slotless=True)

        nursery.start_soon(show)
        await trio.testing.wait_all_tasks_blocked()
        outcomes = await track.run(HEALTHY)

    assert outcomes.started == {"a": 1}


@pytest.mark.parametrize("shown", [error(), BackendRefused(400, "no"), failed()])
async def test_any_answer_shows_that_a_backend_can_be_reached(
    autojump_clock: Clock, shown: Exception
) -> None:
    """An error shows it, even of the client's own; a connection that broke before does not."""
    track = await half_open(unreachable())

    await track.run({"a": (0, shown), "b": (0, GOOD)})

    reached = "closed" if not isinstance(shown, type(failed())) or shown.status else "half-open"
    assert track.by_name["a"].breaker.state(trio.current_time()) == reached


async def test_a_deadline_while_connecting_shows_nothing_of_the_connection(
    autojump_clock: Clock,
) -> None:
    """An attempt that lost or was late before it connected has not reached the backend."""
    track = Track("a", "b", after=0.5)
    for _ in range(FAILURES - 1):
        await track.run({"a": (0, unreachable()), "b": (0, GOOD)})
    await track.run({"a": (2, unreachable()), "b": (0, GOOD)})

    assert track.by_name["a"].breaker.failures == FAILURES - 1


async def test_an_error_is_the_probes_until_the_race_is_over(autojump_clock: Clock) -> None:
    """Requests that arrive meanwhile are no probes, and the wait is doubled only once."""
    track = await half_open(failed())
    breaker = track.by_name["a"].health_of(M).breaker
    plan: RacePlan = {"a": (0, error()), "b": (1, GOOD)}
    async with trio.open_nursery() as nursery:
        for _ in range(6):
            nursery.start_soon(track.run, plan)
            await trio.sleep(0.01)

    assert breaker.state(trio.current_time()) == "open"
    assert (breaker.until or 0) - trio.current_time() <= 2 * FIRST_WAIT * (1 + JITTER)


async def test_the_end_of_an_old_stream_is_not_the_end_of_a_new_probe(
    autojump_clock: Clock,
) -> None:
    """A stream that began as a probe does not end the next probe."""
    track = await half_open(failed())
    breaker = track.by_name["a"].health_of(M).breaker
    async with trio.open_nursery() as nursery:

        async def old() -> None:
            await track.run(HEALTHY, holds=10)

        nursery.start_soon(old)
        await trio.sleep(1)
        assert breaker.state(trio.current_time()) == "closed"
        await track.run({"a": (0, failed()), "b": (0, GOOD)})
        await trio.sleep(6)
        nursery.start_soon(track.run, {"a": (50, GOOD), "b": (0, GOOD)})
        await trio.sleep(4)

        assert (await track.run(HEALTHY)).started == {"b": 0}, "the probe is still out"
        nursery.cancel_scope.cancel()


async def test_a_probe_that_takes_too_long_gives_way(autojump_clock: Clock) -> None:
    """A whole answer may take half an hour; after a minute another request is the probe."""
    track = await half_open(failed())
    async with trio.open_nursery() as nursery:

        async def slow() -> None:
            await track.run({"a": (900, GOOD)}, is_streamed=False)

        nursery.start_soon(slow)
        await trio.sleep(LONGEST_WAIT - 1)
        assert (await track.run(HEALTHY)).started == {"b": 0}
        await trio.sleep(1)
        assert (await track.run(HEALTHY)).started == {"a": 0}
        nursery.cancel_scope.cancel()
