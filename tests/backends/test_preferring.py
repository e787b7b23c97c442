"""Requests that wait for a backend of their own until a moment, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs
import pytest
import trio
import trio.testing

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.evaluation import Evaluation, RouteRequest
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.selection import Candidates
from ollama_gateway.backends.waiting import LOOKS_PER_TURN
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.names import ModelName
from tests.flow.racing import M, Track

Clock = trio.testing.MockClock
Change = Callable[[Track], None]


class Payer:
    """A token bucket that always pays."""

    def pay(self) -> bool:
        """Pay."""
        return True

    def affordable_at(self) -> float:
        """Now."""
        return 0


@attrs.define
class Counted:
    """Evaluations of one backend for one request."""

    number: int = 0


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Counted]:
    """Count the evaluations in the block."""
    found, of = Counted(), Evaluation.of

    def counting(route: RouteRequest, backend: Backend, position: int, now: float) -> Evaluation:
        found.number += 1
        return of(route, backend, position, now)

    with monkeypatch.context() as patch:
        patch.setattr(Evaluation, "of", counting)
        yield found


def occupied(track: Track, names: str) -> list[Slot]:
    """Take a slot at each of these backends."""
    return [Slot.take(track.backends, track.by_name[name], M, 0) for name in names]


def preferring(
    track: Track,
    name: str,
    until: float,
    key: str = "k",
    model: ModelName = M,
    timeout: float = 100,
) -> Candidates:
    """Return the candidates of a request that waits for one backend until a moment."""
    route = RouteRequest(model, key)
    return Candidates(track.backends, route, timeout, track.by_name[name], until)


async def taken(candidates: Candidates) -> tuple[str, float]:
    """Return the backend that a request gets, and when."""
    slot = await candidates.next(Payer())
    assert slot is not None
    return slot.backend.name, trio.current_time()


async def test_a_request_waits_for_its_own_backend_until_a_moment(autojump_clock: Clock) -> None:
    """Until then an idle one is not taken; from then on it is."""
    track = Track("a", "b", slots=1)
    occupied(track, "a")

    assert await taken(preferring(track, "a", until=3)) == ("b", 3)


async def test_its_own_backend_is_taken_once_it_has_room(autojump_clock: Clock) -> None:
    """The slot is handed over in the instant in which it is freed."""
    track = Track("b", "a", slots=1)
    (slot,) = occupied(track, "a")
    found: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(lambda: wait(preferring(track, "a", until=3), found))
        await trio.sleep(2)
        slot.release()

    assert found == [("a", 2)]


async def wait(candidates: Candidates, found: list[tuple[str, float]]) -> None:
    """Note the backend that a request gets, and when."""
    found.append(await taken(candidates))


async def test_room_at_once_needs_no_wait(autojump_clock: Clock) -> None:
    """The request's own backend comes before better ones."""
    track = Track("b", "a", slots=1)

    assert await taken(preferring(track, "a", until=3)) == ("a", 0)


@pytest.mark.parametrize(
    "change",
    [
        lambda track: track.backends.pause({"a"}),
        lambda track: [track.backends.failed(track.by_name["a"], "no answer") for _ in range(3)],
        lambda track: track.backends.lost(track.by_name["a"], M),
        lambda track: fail(track, 3),
        lambda track: track.backends.replace([track.by_name["b"]]),
    ],
    ids=["paused", "down", "lost", "breaker", "removed"],
)
async def test_a_backend_that_cannot_be_asked_is_not_waited_for(
    autojump_clock: Clock, change: Change
) -> None:
    """If it goes in the middle of the wait, any other is taken at once."""
    track = Track("a", "b", slots=2)
    occupied(track, "aa")
    found: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait, preferring(track, "a", until=30), found)
        nursery.start_soon(wait, preferring(track, "a", until=30, key="l"), found)
        await trio.sleep(2)
        change(track)

    assert found == [("b", 2), ("b", 2)]


def fail(track: Track, times: int) -> None:
    """Let the breaker of a model on `a` count failures."""
    backend = track.by_name["a"]
    breaker = backend.health_of(M).breaker
    for _ in range(times):
        if breaker.failed(trio.current_time(), Reason.CONNECTION_BROKEN, is_probe=False):
            track.backends.breaker_opened(backend, M, Reason.CONNECTION_BROKEN, 2)


async def test_a_backend_that_backs_off_too_long_is_not_waited_for(autojump_clock: Clock) -> None:
    """When the request arrives, a backoff that ends before the moment is waited for, no other."""
    track = Track("a", "b", slots=1)
    track.by_name["a"].health_of(M).backoff_until = 2

    assert await taken(preferring(track, "a", until=1.5)) == ("b", 0)
    assert await taken(preferring(track, "a", until=3)) == ("a", 2)


async def test_a_request_is_not_rejected_for_its_preference(autojump_clock: Clock) -> None:
    """A second before its wait would end, it takes any backend."""
    track = Track("a", "b", slots=1)
    occupied(track, "a")

    assert await taken(preferring(track, "a", until=500, timeout=10)) == ("b", 9)


async def test_others_take_the_idle_backend_at_once(autojump_clock: Clock) -> None:
    """200 requests wait for their own backend, and hold up no other, of whichever key."""
    track = Track("a", "b", "c", slots=1)
    occupied(track, "ac")
    found: list[tuple[str, float]] = []
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(taken, preferring(track, "a", until=30))
        await trio.testing.wait_all_tasks_blocked()
        await wait(Candidates(track.backends, RouteRequest(M, "l"), 100), found)
        nursery.start_soon(wait, Candidates(track.backends, RouteRequest(M, "k"), 100), found)
        await trio.sleep(1)
        track.by_name["b"].in_flight -= 1
        track.backends.line.dispatch(track.by_name["b"], track.by_name["b"].has_slot)
        await trio.testing.wait_all_tasks_blocked()

        assert found == [("b", 0), ("b", 1)]
        nursery.cancel_scope.cancel()


async def test_a_freed_slot_costs_few_evaluations(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of a thousand requests for other models and backends wait, few are evaluated."""
    track = Track("a", "b", "c", slots=1)
    models = [ModelName.parse(f"m{number}:cloud") for number in range(2)]
    (slot, *_) = occupied(track, "abc")
    async with trio.open_nursery() as nursery:
        for number in range(1000):
            candidates = preferring(track, "bc"[number % 2], 30, model=models[number % 2])
            nursery.start_soon(taken, candidates)
        nursery.start_soon(taken, preferring(track, "a", 30))
        await trio.testing.wait_all_tasks_blocked()
        with counted(monkeypatch) as evaluations:
            slot.release()
            await trio.testing.wait_all_tasks_blocked()

        assert evaluations.number <= 2 * len(track.backends.all)
        nursery.cancel_scope.cancel()


async def test_the_end_of_the_preference_costs_each_request_little(
    autojump_clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When 1,024 requests for one backend may take any, and none has room, few are evaluated."""
    track = Track("a", "b", slots=1)
    occupied(track, "ab")
    async with trio.open_nursery() as nursery:
        for _ in range(1024):
            nursery.start_soon(taken, preferring(track, "a", until=5))
        await trio.sleep(4)
        with counted(monkeypatch) as evaluations:
            await trio.sleep(2)

        assert evaluations.number <= 2 * LOOKS_PER_TURN * len(track.backends.all)
        nursery.cancel_scope.cancel()
