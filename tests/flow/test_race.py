"""The race in virtual time: who starts when, who wins, and that every loser is closed."""

from __future__ import annotations

import math

import anyio
import attrs
import httpx
import pytest
import trio
import trio.testing

from ollama_gateway.backends.backends import Backend
from ollama_gateway.errors import (
    Forbidden,
    GatewayError,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from ollama_gateway.flow.attempt import Answer, AttemptFailed, BackendRefused
from ollama_gateway.flow.race import race
from ollama_gateway.wire.dialects import Reading
from ollama_gateway.wire.frames import WholeBody

GOOD = "good"
Outcome = str | Exception


@attrs.define
class Track:
    """A race's scenario `{backend: (seconds, outcome)}`, and what happened in it."""

    scenario: dict[str, tuple[float, Outcome]]
    started: dict[str, float] = attrs.field(factory=dict)
    closed: dict[str, float] = attrs.field(factory=dict)

    def candidates(self) -> list[Backend]:
        """The backends, in the scenario's order."""
        return [
            Backend(name, httpx.URL("http://h"), httpx.AsyncHTTPTransport())
            for name in self.scenario
        ]

    async def start(self, backend: Backend) -> Answer:
        """One attempt, as the scenario says; a cancelled one notes when it ended."""
        self.started[backend.name] = trio.current_time()
        delay, outcome = self.scenario[backend.name]
        try:
            await anyio.sleep(delay)
        except trio.Cancelled:
            self.closed[backend.name] = trio.current_time()
            raise
        if isinstance(outcome, Exception):
            raise outcome
        return self._answer(backend)

    def _answer(self, backend: Backend) -> Answer:
        track = self

        class Stream(httpx.AsyncByteStream):
            async def aclose(self) -> None:
                track.closed[backend.name] = trio.current_time()

        response = httpx.Response(200, stream=Stream())
        return Answer(
            backend, 200, [], WholeBody(), [b"{}"], Reading(), response, response.aiter_raw()
        )


async def run(
    track: Track, *, attempts: int = 3, patience: float = 100, stagger: float = math.inf
) -> str | GatewayError:
    """Race; the winner's name, or the error."""
    try:
        async with race(
            iter(track.candidates()), track.start, attempts, patience, stagger
        ) as winner:
            return winner.backend.name
    except GatewayError as error:
        return error


def failed(reason: str = "connection_broken", status: int | None = None) -> AttemptFailed:
    """A failed attempt."""
    return AttemptFailed(reason, status=status)


@pytest.mark.parametrize(
    ("scenario", "winner", "started"),
    [
        ({"a": (1, GOOD), "b": (0, GOOD)}, "a", {"a": 0}),
        ({"a": (1, failed()), "b": (2, GOOD)}, "b", {"a": 0, "b": 1}),
        ({"a": (1, failed()), "b": (2, failed()), "c": (0, GOOD)}, "c", {"a": 0, "b": 1, "c": 3}),
    ],
)
async def test_a_failure_starts_the_next_at_once(
    autojump_clock: trio.testing.MockClock,
    scenario: dict[str, tuple[float, Outcome]],
    winner: str,
    started: dict[str, float],
) -> None:
    """Candidates are asked in order, each at the instant the last one failed."""
    track = Track(scenario)

    assert await run(track) == winner
    assert track.started == started
    assert winner in track.closed


async def test_at_most_so_many_attempts(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The number of attempts is bounded, whatever the number of candidates."""
    track = Track({name: (1, failed()) for name in "abcde"})

    assert isinstance(await run(track, attempts=2), UpstreamFailed)
    assert track.started == {"a": 0, "b": 1}


async def test_the_clients_own_error_ends_the_race(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """A 400 would be a 400 anywhere: no other backend is asked."""
    track = Track({"a": (1, BackendRefused(400, "no")), "b": (0, GOOD)})

    error = await run(track)

    assert isinstance(error, BackendRefused)
    assert (error.status, error.message, track.started) == (400, "no", {"a": 0})


async def test_with_a_stagger_the_first_good_chunk_wins(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The shape holds for hedging: the next starts beside a slow one, the loser ends at once."""
    track = Track({"a": (5, GOOD), "b": (1, GOOD), "c": (9, GOOD)})

    assert await run(track, stagger=2) == "b"
    assert track.started == {"a": 0, "b": 2}
    assert track.closed == {"a": 3, "b": 3}


async def test_a_photo_finish_has_one_winner_and_leaves_nothing_open(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Two answers in one instant: one wins, both are closed in the end."""
    track = Track({"a": (2, GOOD), "b": (1, GOOD)})

    assert await run(track, stagger=1) in {"a", "b"}
    assert set(track.closed) == {"a", "b"}


@pytest.mark.parametrize(
    ("failures", "error", "status"),
    [
        ([failed("connect_failed"), failed("backend_down")], Unavailable, 503),
        ([failed("status_500", 500), failed("connect_failed")], UpstreamFailed, 502),
        ([failed("connect_failed"), failed("status_500", 500)], UpstreamFailed, 500),
        ([failed("status_429", 429)], UpstreamFailed, 429),
        ([failed("status_503", 503)], UpstreamFailed, 503),
        ([failed("status_302", 302)], UpstreamFailed, 502),
        ([failed("status_404", 404)], Forbidden, 403),
        ([failed("status_500", 500), failed("status_404", 404)], UpstreamFailed, 500),
        ([failed("connect_failed"), failed("status_404", 404)], Unavailable, 503),
        ([], Unavailable, 503),
    ],
)
async def test_when_all_fail_the_last_one_speaks(
    autojump_clock: trio.testing.MockClock,
    failures: list[AttemptFailed],
    error: type[GatewayError],
    status: int,
) -> None:
    """The error is what became of the last attempt; 429 and 503 say when to come back."""
    track = Track({str(number): (1, failure) for number, failure in enumerate(failures)})

    found = await run(track)

    assert type(found) is error
    assert isinstance(found, GatewayError)
    assert found.status == status
    assert (found.retry_after is not None) == (status in {429, 503})


async def test_patience_covers_all_attempts_together(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """The first good chunk has one deadline, however many attempts it took."""
    track = Track({"a": (3, failed()), "b": (10, GOOD)})

    assert isinstance(await run(track, patience=5), UpstreamTimeout)
    assert track.closed == {"b": 5}


@pytest.mark.parametrize("moment", [0.0, 0.5, 1.0, 1.5, 2.0, 2.5])
async def test_a_client_that_leaves_at_any_moment_leaves_nothing_open(
    autojump_clock: trio.testing.MockClock,
    moment: float,
) -> None:
    """Cancelled before, between or during attempts, or with a winner in hand: all is closed."""
    track = Track({"a": (1, failed()), "b": (1, GOOD)})

    async def exchange() -> None:
        async with race(iter(track.candidates()), track.start, 3, 100, math.inf):
            await anyio.sleep(1)

    with anyio.move_on_after(moment):
        await exchange()

    good = {name for name in track.started if name != "a" or moment < 1}
    assert set(track.closed) >= good - {"a"}
    assert trio.current_time() == moment
