"""Events in one instant: attempts that end together, and clients that leave just then.

Tasks that wake by their own deadlines can still be cancelled by the first of them. Here all
attempts wake from one event, so each of them really ends.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import attrs
import pytest
import trio
import trio.testing

from ollama_gateway.backends.evaluation import RouteRequest
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.selection import Candidates
from ollama_gateway.errors import GatewayError, UpstreamTimeout
from ollama_gateway.flow.attempt import GoodAnswer
from ollama_gateway.flow.failures import BackendRefused
from ollama_gateway.flow.race import Race
from tests.flow.racing import GOOD, M, Outcome, Track, answer, failed

Clock = trio.testing.MockClock
TIMES = 20
"""Trio shuffles tasks that wake in one tick; this often, every order occurs."""


@attrs.define
class Instant:
    """A race whose attempts all end in one instant."""

    outcomes: Mapping[str, Outcome]
    moment: trio.Event = attrs.field(factory=trio.Event)
    client: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    is_left: bool = False
    closed: list[str] = attrs.field(factory=list)
    started: list[str] = attrs.field(factory=list)

    async def start(self, slot: Slot) -> GoodAnswer:
        """Make one attempt."""
        name = slot.backend.name
        self.started.append(name)
        await self.moment.wait()
        if self.is_left:
            self.client.cancel()
        outcome = self.outcomes[name]
        if isinstance(outcome, Exception):
            raise outcome
        return answer(slot, partial(self.closed.append, name))

    async def end_attempts(self) -> None:
        """End all attempts at 1.5 s, when the second has begun."""
        await trio.sleep(1.5)
        self.moment.set()


async def race_in_an_instant(
    outcomes: Mapping[str, Outcome], *, is_left: bool = False, timeout: float = 100
) -> tuple[Instant, str | GatewayError | None]:
    """Race once; return the winner, the error, or None if the client left."""
    track, instant = Track(*outcomes, after=1), Instant(outcomes, is_left=is_left)
    result: str | GatewayError | None = None
    candidates = Candidates(track.backends, RouteRequest(M, "k"), 100)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(instant.end_attempts)
        deadline = trio.current_time() + timeout
        racing = Race(
            candidates, instant.start, track.rules, deadline, is_streamed=True, requested_name="m1"
        )
        with instant.client:
            try:
                async with racing as winner:
                    result = winner.backend.name
            except GatewayError as error:
                result = error
    track.assert_idle()
    return instant, result


async def test_of_two_answers_one_wins_and_both_are_closed(autojump_clock: Clock) -> None:
    """The loser is closed at once, the winner at the end."""
    winners = set()
    for _ in range(TIMES):
        instant, winner = await race_in_an_instant({"a": GOOD, "b": GOOD})
        winners.add(winner)
        assert sorted(instant.closed) == ["a", "b"]

    assert winners == {"a", "b"}


async def test_a_client_that_leaves_just_then_leaves_nothing_open(autojump_clock: Clock) -> None:
    """Every attempt that has an answer by then is closed."""
    for _ in range(TIMES):
        instant, _ = await race_in_an_instant({"a": GOOD, "b": GOOD}, is_left=True)
        assert instant.closed
        assert len(instant.closed) == len(set(instant.closed))


@pytest.mark.parametrize("other", [failed(), BackendRefused(400, "no")])
async def test_an_answer_counts_more_than_what_fails_just_then(
    autojump_clock: Clock, other: Exception
) -> None:
    """The answer wins in either order, and no third attempt begins."""
    for _ in range(TIMES):
        instant, winner = await race_in_an_instant({"a": GOOD, "b": other, "c": GOOD})
        assert winner == "a"
        assert (instant.closed, instant.started) == (["a"], ["a", "b"])


async def test_an_answer_at_the_deadline_is_too_late_or_not(autojump_clock: Clock) -> None:
    """Either way it is closed, and nothing is left open."""
    for _ in range(TIMES):
        instant, result = await race_in_an_instant({"a": GOOD, "b": GOOD}, timeout=1.5)
        assert isinstance(result, UpstreamTimeout) or result in {"a", "b"}
        assert len(instant.closed) == len(set(instant.closed))


async def test_a_slot_handed_over_to_who_leaves_just_then(autojump_clock: Clock) -> None:
    """The slot is given back, whether the turn, the deadline or the leaving is seen first."""
    for _ in range(2 * TIMES):
        track = Track("a", slots=1)
        occupant = Slot.take(track.backends, track.by_name["a"], M, trio.current_time())
        client = trio.CancelScope()

        async def waits(track: Track = track, client: trio.CancelScope = client) -> None:
            with client:
                await track.run({"a": (0, GOOD)}, queue_timeout=3)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(waits)
            await trio.sleep(3)
            occupant.release()
            client.cancel()

        track.assert_idle()
