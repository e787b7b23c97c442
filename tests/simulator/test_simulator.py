"""The server itself: times, records of requests, clients that leave, being down, HTTP's corners."""

from __future__ import annotations

import math

import anyio
import pytest
import trio.testing

from ollama_gateway.simulator import MemoryByteStream, Model, Simulator, memory_server
from tests.simulator.client import answer, ask, request

Clock = trio.testing.MockClock
CHAT = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}
SLOW = Model("m1", load_time=5, first_token=2, between_tokens=1)


async def test_a_cold_answer_comes_at_exact_times(
    autojump_clock: Clock,
) -> None:
    """Load, first token and the gap between tokens add up; a warm answer needs no load."""
    times = []
    async with memory_server(Simulator([SLOW])) as connect:
        for _ in range(2):
            stream = await connect()
            start = anyio.current_time()
            reply = await ask(stream, "POST", "/api/chat", CHAT)
            times.append([at - start for at, _ in reply.chunks])

    assert times == [[7, 8, 8], [2, 3, 3]]
    assert reply.lines[-1]["eval_duration"] == 1_000_000_000


async def test_a_load_is_waited_for_once(
    autojump_clock: Clock,
) -> None:
    """A request during the load waits for the rest of it; requests at once are counted."""
    simulator = Simulator([SLOW])
    ends: list[float] = []

    async def one() -> None:
        await ask(await connect(), "POST", "/api/chat", CHAT)
        ends.append(anyio.current_time() - start)

    async with memory_server(simulator) as connect:
        start = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(one)

    assert ends == [8, 8, 8]
    assert (simulator.in_flight, simulator.most_in_flight) == (0, 3)


async def test_what_was_seen_is_noted(autojump_clock: Clock) -> None:
    """Method, path, headers, body and the times of arrival and end are kept."""
    simulator = Simulator([Model("m1", first_token=2)])
    async with memory_server(simulator) as connect:
        stream = await connect()
        await anyio.sleep(1)
        start = anyio.current_time()
        await ask(stream, "POST", "/api/chat?x=1", b'{"model":"m1"}', {"X-Mine": "yes"})
        await ask(stream, "POST", "/api/chat", CHAT)
        first, second = simulator.seen

    assert (first.method, first.path, first.body) == ("POST", "/api/chat?x=1", b'{"model":"m1"}')
    assert (first.header("X-MINE"), first.header("origin")) == ("yes", None)
    assert (first.at, first.finished_at) == (start, start)
    assert (second.at, second.finished_at, second.gone_at) == (start, start + 2, None)


@pytest.mark.parametrize("leave_after", [1.0, 6.0, 7.5])
async def test_a_client_that_leaves_stops_the_work(
    autojump_clock: Clock,
    leave_after: float,
) -> None:
    """The close is noticed at once during the load, before the first token, and after it."""
    simulator = Simulator([SLOW])
    async with memory_server(simulator) as connect:
        stream = await connect()
        start = anyio.current_time()
        await stream.send(request("POST", "/api/chat", CHAT))
        await anyio.sleep(leave_after)
        busy = simulator.in_flight
        await stream.aclose()
        await anyio.sleep(0.01)
        seen = simulator.seen[0]

    assert busy == 1
    assert (seen.gone_at, seen.finished_at) == (start + leave_after, None)
    assert simulator.in_flight == 0
    assert ("m1:latest" in simulator.loaded) is (leave_after > 5)


async def test_a_half_close_is_a_close(autojump_clock: Clock) -> None:
    """As in Go, the end of the client's sending cancels its request."""
    simulator = Simulator([SLOW])
    async with memory_server(simulator) as connect:
        stream = await connect()
        await stream.send(request("POST", "/api/chat", CHAT))
        await anyio.sleep(1)
        await stream.send_eof()
        with pytest.raises(anyio.EndOfStream):
            await stream.receive()

    assert simulator.seen[0].gone_at == simulator.seen[0].at + 1


async def test_a_client_that_leaves_in_its_body_is_gone() -> None:
    """A body that never arrives completely is recorded as a client that left."""
    simulator = Simulator([Model("m1")])
    async with memory_server(simulator) as connect:
        stream = await connect()
        await stream.send(request("POST", "/api/chat", CHAT)[:-5])
        await stream.aclose()
        await anyio.wait_all_tasks_blocked()

    assert simulator.seen[0].gone_at is not None


async def test_pipelined_requests_are_answered_in_turn(
    autojump_clock: Clock,
) -> None:
    """A request during another's answer waits; a close after it is still noticed."""
    simulator = Simulator([Model("m1", first_token=1)])
    async with memory_server(simulator) as connect:
        stream = await connect()
        await stream.send(request("POST", "/api/chat", CHAT) + request("GET", "/api/ps"))
        first = await answer(stream, "POST")
        second = await ask(stream, "GET", "/api/version")
        await stream.send(request("POST", "/api/chat", CHAT))
        await anyio.sleep(0.5)
        await stream.send(request("GET", "/api/ps"))
        await stream.aclose()
        await anyio.sleep(0.01)

    assert first.lines[-1]["done"] is True
    assert second.status == 200
    assert simulator.seen[-1].gone_at == simulator.seen[-1].at + 0.5


async def test_a_slow_reader_holds_the_writer_up(
    autojump_clock: Clock,
) -> None:
    """The server produces no more than the stream's bound for a client that does not read."""
    tokens = ("x" * 4000,) * 100
    simulator = Simulator([Model("m1", tokens)])
    async with memory_server(simulator) as connect:
        stream = await connect()
        await stream.send(request("POST", "/api/chat", CHAT))
        await anyio.sleep(60)
        busy = simulator.in_flight
        reply = await answer(stream, "POST")

    assert busy == 1
    assert reply.is_complete
    assert len(reply.lines) == 101


async def test_down_cuts_and_refuses_until_it_comes_back(
    autojump_clock: Clock,
) -> None:
    """Open streams end without a terminator, and new connections are refused."""
    simulator = Simulator([SLOW])
    async with memory_server(simulator) as connect:
        stream = await connect()
        await stream.send(request("POST", "/api/chat", CHAT))
        await anyio.sleep(7.5)
        simulator.down = True
        cut = await answer(stream, "POST")
        with pytest.raises(ConnectionRefusedError):
            await connect()
        simulator.down = False
        after = await ask(await connect(), "GET", "/api/version")

    assert (len(cut.lines), cut.is_complete) == (1, False)
    assert simulator.seen[0].gone_at is None
    assert after.status == 200
    assert simulator.loaded == {}


async def test_a_limit_ends_the_answer_early() -> None:
    """`num_predict` and `max_tokens` bound the tokens, and the reason is `length`."""
    async with memory_server(Simulator([Model("m1")])) as connect:
        stream = await connect()
        body = CHAT | {"stream": False, "options": {"num_predict": 1}}
        native = (await ask(stream, "POST", "/api/chat", body)).document
        openai = (
            await ask(stream, "POST", "/v1/chat/completions", CHAT | {"max_tokens": 1})
        ).document

    assert (native["message"]["content"], native["done_reason"]) == ("Hel", "length")
    assert native["eval_count"] == openai["usage"]["completion_tokens"] == 1
    assert openai["choices"][0]["finish_reason"] == "length"


async def test_an_old_client_gets_a_stream_ended_by_the_close() -> None:
    """An answer to HTTP/1.0 says so in its status line and is not chunked."""
    async with memory_server(Simulator([Model("m1")])) as connect:
        stream = await connect()
        await stream.send(request("POST", "/api/chat", CHAT).replace(b"HTTP/1.1", b"HTTP/1.0"))
        reply = await answer(stream, "POST")

    assert (reply.version, reply.framing) == (b"1.0", "close")
    assert reply.lines[-1]["done"] is True


async def test_a_client_may_wait_before_its_body() -> None:
    """`Expect: 100-continue` is answered with 100."""
    async with memory_server(Simulator([Model("m1")])) as connect:
        stream = await connect()
        whole = request("POST", "/api/chat", CHAT, {"Expect": "100-continue"})
        head, _, body = whole.partition(b"\r\n\r\n")
        await stream.send(head + b"\r\n\r\n")
        leave = await stream.receive()
        await stream.send(body)
        reply = await answer(stream, "POST")

    assert leave == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert reply.status == 200


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 2\r\n\r\n",
    ],
)
async def test_what_is_no_request_gets_a_400_and_a_close(data: bytes) -> None:
    """The connection ends, and the server goes on."""
    async with memory_server(Simulator([Model("m1")])) as connect:
        stream = await connect()
        await stream.send(data)
        reply = await answer(stream)
        after = await ask(await connect(), "GET", "/api/version")

    assert (reply.status, reply.headers["connection"]) == (400, "close")
    assert after.status == 200


async def test_odd_paths_and_origins_do_no_harm() -> None:
    """Line ends and foreign letters in echoed texts stay encoded."""
    async with memory_server(Simulator([Model("m1")])) as connect:
        stream = await connect()
        moved = await ask(stream, "GET", "//api/%0d%0aX:%20y/%E2%82%AC")
        odd = await ask(stream, "GET", "/api/version", headers={"Origin": "app://\u00e4"})

    assert moved.headers["location"] == "/api/%0D%0AX:%20y/%E2%82%AC"
    assert odd.status == 200


async def test_a_reset_end_is_met_by_the_reader() -> None:
    """A client's reset counts as leaving."""
    simulator = Simulator([Model("m1", first_token=math.inf)])
    async with memory_server(simulator) as connect:
        stream = await connect()
        assert isinstance(stream, MemoryByteStream)
        await stream.send(request("POST", "/api/chat", CHAT))
        await anyio.wait_all_tasks_blocked()
        await stream.abort()
        await anyio.wait_all_tasks_blocked()

    assert simulator.seen[0].gone_at is not None
