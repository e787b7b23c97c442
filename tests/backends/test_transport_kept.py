"""Connections kept for next requests: which ones, for how long, and the cost of a stale one."""

from __future__ import annotations

import itertools
import random
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, cast

import httpx
import pytest
import trio
from anyio.abc import SocketAttribute

from ollama_gateway.backends.connecting import tcp
from ollama_gateway.backends.idle import KEEP_SECONDS, SETTLE_SECONDS, is_quiet
from ollama_gateway.backends.transport import ONCE, Transport
from ollama_gateway.backends.uploading import ONE_WRITE
from tests.backends.asking import CHUNKED, OK, chunk, fetch, is_cancelled_at, post
from tests.backends.misbehaving import Peer, Script, listening, talking_to

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from trio.testing import MockClock

HI = OK + b"Content-Length: 2\r\n\r\nhi"


def serves(*parts: bytes, times: int = 10**6) -> Script:
    """Give the same answer to each of these many requests, then close."""

    async def script(peer: Peer) -> None:
        for _ in range(times):
            peer.heard.clear()
            await peer.hear_request()
            if not peer.heard:
                return
            await peer.say(*parts)

    return script


async def test_a_second_request_takes_the_connection_of_the_first(
    autojump_clock: MockClock,
) -> None:
    """The first request does not ask to close, and its answer is complete before it is kept."""
    script = serves(CHUNKED + chunk(b"one"), chunk(b"two") + b"0\r\n\r\n")
    async with talking_to(script, most_idle=4) as (transport, backend):
        for _ in range(3):
            assert await fetch(transport, post()) == (200, [b"one", b"two"])
            assert (transport.open_connections, transport.idle_connections) == (0, 1)
            await trio.sleep(SETTLE_SECONDS)

        assert len(backend.peers) == 1
        assert b"connection:" not in backend.peers[0].heard.lower()


async def test_the_one_used_last_is_taken_and_the_others_go(autojump_clock: MockClock) -> None:
    """Connections are kept up to the bound; one that is unused for five seconds is closed."""
    async with talking_to(serves(HI), most_idle=3) as (transport, backend):
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(fetch, transport, post())
        assert (len(backend.peers), transport.idle_connections) == (5, 3)
        await trio.sleep(KEEP_SECONDS - 0.5)
        await fetch(transport, post())
        await trio.sleep(0.75)
        await fetch(transport, post())
        assert (len(backend.peers), transport.idle_connections) == (5, 1)
        await trio.sleep(KEEP_SECONDS + 1)
        await fetch(transport, post())
        assert (len(backend.peers), transport.idle_connections) == (6, 1)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(OK + b"Connection: close\r\nContent-Length: 2\r\n\r\nhi", id="it says so"),
        pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", id="HTTP/1.0"),
        pytest.param(HI + b"HTTP/1.1 200 OK\r\n", id="it says more than was asked"),
    ],
)
async def test_what_is_not_good_for_more_is_closed(
    autojump_clock: MockClock, answer: bytes
) -> None:
    """Its answer counts, and the next request gets a new connection."""
    async with talking_to(serves(answer), most_idle=4) as (transport, backend):
        for _ in range(2):
            assert await fetch(transport, post()) == (200, [b"hi"])
            assert transport.idle_connections == 0
        assert len(backend.peers) == 2


async def answers_the_first_byte(peer: Peer) -> None:
    """Answer while the request is still being sent."""
    await peer.hear()
    await peer.say(HI)
    await peer.hear_to_the_end()


async def test_after_an_answer_that_came_too_early_nothing_is_kept(
    autojump_clock: MockClock,
) -> None:
    """The backend would take the rest of the upload for a next request."""
    async with talking_to(answers_the_first_byte, most_idle=4) as (transport, _):
        assert await fetch(transport, post(b"x" * 4 * ONE_WRITE)) == (200, [b"hi"])
        assert transport.idle_connections == 0


async def test_who_does_not_read_to_the_end_leaves_no_connection(
    autojump_clock: MockClock,
) -> None:
    """A cancelled or closed answer may have more bytes to come, so its connection is closed."""
    script = serves(CHUNKED + chunk(b"one"), chunk(b"two"))
    async with talking_to(script, most_idle=4) as (transport, backend):
        response = await transport.handle_async_request(post())
        async with aclosing(cast("AsyncGenerator[bytes, None]", response.aiter_raw())) as body:
            assert await anext(body) == b"one"
        await response.aclose()
        with trio.move_on_after(1):
            await fetch(transport, post())

        assert transport.idle_connections == 0
        assert all(peer.gone.is_set() for peer in backend.peers)


async def test_cancelled_at_every_step_on_a_kept_one(autojump_clock: MockClock) -> None:
    """It is closed, or kept with nothing left on it: the next request gets its own answer."""
    script = serves(CHUNKED + chunk(b"one"), chunk(b"two") + b"0\r\n\r\n")
    for step in itertools.count(1):
        async with talking_to(script, most_idle=4) as (transport, backend):
            await fetch(transport, post())
            await trio.sleep(SETTLE_SECONDS)
            is_cancelled = await is_cancelled_at(step, transport, post())
            living = [peer for peer in backend.peers if not peer.gone.is_set()]
            assert transport.open_connections == 0
            assert len(living) == transport.idle_connections
            assert await fetch(transport, post()) == (200, [b"one", b"two"])
        if not is_cancelled:
            break

    assert step > 4


async def test_a_kept_connection_that_has_ended_costs_nothing(autojump_clock: MockClock) -> None:
    """If the backend closed it between two requests, the second request uses a new connection."""
    async with talking_to(serves(HI, times=1), most_idle=4) as (transport, backend):
        for _ in range(3):
            assert await fetch(transport, post()) == (200, [b"hi"])
            await trio.sleep(SETTLE_SECONDS)
        assert len(backend.peers) == 3


def breaks_second(*parts: bytes) -> Script:
    """Answer once on each connection, and send only these parts to a second request."""

    async def script(peer: Peer) -> None:
        await serves(HI, times=1)(peer)
        peer.heard.clear()
        await peer.hear_request()
        await peer.say(*parts)

    return script


async def test_one_that_breaks_while_it_is_used_is_replaced(autojump_clock: MockClock) -> None:
    """If no byte has arrived, a new connection is used, whose failure is the request's."""
    async with talking_to(breaks_second(), most_idle=4) as (transport, backend):
        for _ in range(4):
            assert await fetch(transport, post()) == (200, [b"hi"])
            await trio.sleep(SETTLE_SECONDS)
        assert len(backend.peers) == 4


async def test_a_request_that_was_answered_in_part_is_not_repeated(
    autojump_clock: MockClock,
) -> None:
    """The backend had the request, so the caller gets an error."""
    async with talking_to(breaks_second(b"HTTP/1.1 2"), most_idle=4) as (transport, backend):
        await fetch(transport, post())
        await trio.sleep(SETTLE_SECONDS)
        with pytest.raises(httpx.TransportError):
            await fetch(transport, post())
        assert (len(backend.peers), transport.idle_connections) == (1, 0)


async def test_what_must_not_go_out_twice_has_its_own_connection(
    autojump_clock: MockClock,
) -> None:
    """It uses no idle connection, and leaves none."""
    async with talking_to(serves(HI), most_idle=4) as (transport, backend):
        await fetch(transport, post())
        await trio.sleep(SETTLE_SECONDS)
        request = post()
        request.extensions[ONCE] = True
        await fetch(transport, request)
        assert (len(backend.peers), transport.idle_connections) == (2, 1)
        assert [peer.gone.is_set() for peer in backend.peers] == [False, True]


async def echoes(peer: Peer) -> None:
    """Answer each request with its own body, in parts and not at once."""
    while True:
        peer.heard.clear()
        await peer.hear_request()
        if not peer.heard:
            return
        body = bytes(peer.heard).partition(b"\r\n\r\n")[2]
        await trio.sleep(0.25)
        await peer.say(CHUNKED + chunk(body), chunk(body))
        await trio.sleep(0.25)
        await peer.say(b"0\r\n\r\n")


@pytest.mark.parametrize("seed", range(3))
async def test_many_at_once_with_random_deadlines(autojump_clock: MockClock, seed: int) -> None:
    """No request gets another's answer, whichever are cancelled, and nothing is left open."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    done: list[int] = []

    async def ask(transport: Transport, number: int) -> None:
        body = b"%d" % number
        await trio.sleep(dice.uniform(0, 5))
        with trio.move_on_after(dice.choice([0.1, 0.3, 0.55, 9])):
            _, parts = await fetch(transport, post(body))
            assert b"".join(parts) == body * 2
            done.append(number)

    async with talking_to(echoes, most_idle=8) as (transport, backend):
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(ask, transport, number)
        assert transport.open_connections == 0
        assert transport.idle_connections <= 8
        assert len(done) > 60
        assert len(backend.peers) < 290


@pytest.mark.parametrize(
    ("size", "reads", "pace"),
    [(13, 1, 0), (8 * ONE_WRITE, 4, 0), (8 * ONE_WRITE, 4, 2)],
    ids=["one write", "an upload", "a slow upload"],
)
@pytest.mark.parametrize(("worked", "connections"), [(0.75, 2), (1.25, 1)])
async def test_what_a_backend_may_have_worked_on_is_not_repeated(
    autojump_clock: MockClock, size: int, reads: int, pace: float, worked: float, connections: int
) -> None:
    """Only a connection that breaks within a second of the last write counts as closed before."""

    async def script(peer: Peer) -> None:
        await serves(HI, times=1)(peer)
        for _ in range(reads):
            await trio.sleep(pace)
            await peer.hear()
        await trio.sleep(worked)

    async with talking_to(script, most_idle=4) as (transport, backend):
        await fetch(transport, post())
        await trio.sleep(SETTLE_SECONDS)
        with nullcontext() if connections > 1 else pytest.raises(httpx.TransportError):
            assert await fetch(transport, post(b"x" * size)) == (200, [b"hi"])
        assert len(backend.peers) == connections


async def test_on_a_socket_a_living_one_is_used_again(mock_clock: MockClock) -> None:
    """A connection with nothing to read is used again after the pause."""
    async with listening(serves(HI)) as port:
        transport = Transport(tcp("127.0.0.1", port, connect_timeout=60), most_idle=4)
        ports = []
        for wait in (0, 0.5 * SETTLE_SECONDS, 0.75 * SETTLE_SECONDS):
            mock_clock.jump(wait)
            await fetch(transport, post())
            _, _, stream = transport._idle._streams[-1]
            assert is_quiet(stream)
            ports.append(stream.extra(SocketAttribute.local_port))  # noqa: S610 - no Django
        first, second, third = ports
        assert first != second
        assert third == first
        await transport.aclose()
