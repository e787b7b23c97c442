"""Chunked requests over the wire: what may follow them, their syntax, and that nothing leaks."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from tests.http.serving import Peer, gateway, read_to_end, serving
from tests.support.patience import until

POST: Final = b"POST %s HTTP/1.1\r\nhost: h\r\n%stransfer-encoding: chunked\r\n\r\n"
LAST: Final = b"POST /body HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 2\r\n\r\nhi"
TINY: Final = b"1\r\nx\r\n"
END: Final = b"0\r\n\r\n"


def post(body: bytes, path: bytes = b"/body", headers: bytes = b"") -> bytes:
    """Return a request with this chunked body."""
    return POST % (path, headers) + body


def bodies(answer: bytes) -> list[bytes]:
    """Return the bodies of a connection's answers."""
    return [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200 ")[1:]]


FOLLOWED: Final = (
    post(TINY * 7 + b"5;x=y\r\nhello\r\n" + END)
    + b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
    + post(END)
    + post(b"3\r\nabc\r\n0\r\nA: b\r\n\r\n")
    + b"POST /body HTTP/1.1\r\nhost: h\r\ncontent-length: 4\r\n\r\n1234"
    + post(TINY * 40 + END, path=b"/")
    + LAST
)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 50, 100_000])
async def test_requests_follow_one_another(peer: Peer, step: int) -> None:
    """Requests of any framing, cut anywhere, each keep their own bytes, and all are answered.

    One is answered before its body is read; the body is short enough to be skipped.
    """
    parts = [FOLLOWED[start : start + step] for start in range(0, len(FOLLOWED), step)]
    async with await peer.connect() as stream:
        stream.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
        for part in parts:
            await stream.send_all(part)
            await trio.lowlevel.checkpoint()
        answer = await read_to_end(stream)
    expected = [b"12", b"hello", b"0", b"3", b"4", b"hello", b"2"]
    if step >= len(FOLLOWED):
        assert bodies(answer) == expected
    else:  # if that body is still unfinished when its answer is ready, the connection ends
        assert bodies(answer) in (expected, expected[:-1])


async def test_a_hundred_of_them_at_once(peer: Peer) -> None:
    """A hundred pipelined requests are all answered, though they arrive in the same reads."""
    requests = b"".join(post(TINY * n + END) for n in range(100))
    answer = await peer.exchange(requests + LAST)
    await peer.wait_until_quiet()
    assert bodies(answer) == [b"%d" % n for n in range(100)] + [b"2"]


async def test_a_long_body_is_received_to_its_end(peer: Peer) -> None:
    """A body larger than the buffer, in chunks of one byte, is received; so is the next request."""
    assert bodies(await peer.exchange(post(TINY * 50_000 + END) + LAST)) == [b"50000", b"2"]


async def test_a_refused_one_is_the_last_where_it_is_long(peer: Peer) -> None:
    """The end of a long refused body is not looked for: the connection is closed, and says so."""
    answer = await peer.exchange(post(TINY * 11_000 + END, path=b"/key") + LAST)
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert answer.lower().count(b"connection: close") == 1
    await peer.wait_until_quiet()


async def test_a_refused_one_is_followed_by_others_where_it_is_short(peer: Peer) -> None:
    """A client with a bad key keeps its connection if its body is short."""
    answer = await peer.exchange(post(b"2\r\n{}\r\n" + END, path=b"/key") + LAST)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert bodies(answer) == [b"2"]


async def test_what_is_broken_is_answered_and_is_the_last(peer: Peer) -> None:
    """Nothing after a broken body is read as a request."""
    answer = await peer.exchange(post(b"2\r\nhiXX" + LAST + END + LAST))
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert answer.lower().count(b"connection: close") == 1
    await peer.wait_until_quiet()


@pytest.mark.parametrize("sent", [b"", b"2\r\nhi\r\n" + END], ids=["later", "with the head"])
async def test_100_continue_is_sent_to_whom_it_helps(peer: Peer, sent: bytes) -> None:
    """`100 Continue` goes out once to a client that waits with its chunks, and to no other."""
    async with await peer.connect() as stream:
        expecting = b"connection: close\r\nexpect: 100-continue\r\n"
        await stream.send_all(post(sent, headers=expecting))
        if not sent:
            assert (await stream.receive_some(65536)).startswith(b"HTTP/1.1 100 ")
            await stream.send_all(b"2\r\nhi\r\n" + END)
        answer = await read_to_end(stream)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b"\r\n\r\n2")


@pytest.mark.parametrize("sent", [b"", b"1", TINY * 3, TINY * 30_000, b"0\r\nA: b\r\n"])
async def test_a_client_that_leaves_in_the_middle_is_noticed(sent: bytes) -> None:
    """A client that leaves in the middle of its body is noticed, however much was not read."""
    app = gateway()
    async with serving(app) as peer:
        async with await peer.connect() as stream:
            await stream.send_all(post(sent))
            await until(lambda: app.requests_running == 1)
        await peer.wait_until_quiet()
        assert (app.requests_running, app.bodies.held) == (0, 0)


async def test_many_clients_are_served_beside_one_another() -> None:
    """Sixty-four bodies of tiny chunks at once are all answered, and nothing is left."""
    app = gateway()
    async with serving(app) as peer:
        answers: list[bytes] = []
        async with trio.open_nursery() as clients:
            for number in range(64):
                path = (b"/body", b"/key")[number % 2]
                clients.start_soon(_ask, peer, post(TINY * 11_000 + END, path), answers)
        await peer.wait_until_quiet()
        assert (app.requests_running, app.bodies.held) == (0, 0)
    assert sorted(answer[9:12] for answer in answers) == [b"200"] * 32 + [b"401"] * 32
    served = [answer for answer in answers if answer.startswith(b"HTTP/1.1 200")]
    assert all(answer.endswith(b"\r\n\r\n11000") for answer in served)


async def _ask(peer: Peer, request: bytes, answers: list[bytes]) -> None:
    async with await peer.connect() as stream:
        await stream.send_all(request)
        answer = b""
        while not answer or len(answer.partition(b"\r\n\r\n")[2]) < 5:
            answer += await stream.receive_some(65536)
        answers.append(answer)


SMUGGLED: Final = b"GET / HTTP/1.1\r\nhost: h\r\n\r\n"
SIZE: Final = b"%x" % len(SMUGGLED)
SIZES: Final = [
    *(SIZE, SIZE.upper() + b";a", SIZE + b" ", SIZE + b"\t", SIZE + b";\r", b" " + SIZE),
    *(b"0x" + SIZE, b"+" + SIZE, b"0" * 18 + SIZE, b"0" * 19 + SIZE, b"\xb2" + SIZE, b"1_0"),
]
ENDS: Final = [
    *(
        END,
        b"00\r\n\r\n",
        b"0;\n\r\n\r\n",
        b"0\n\r\n",
        b"0\r\n\n",
        b"0\r\nA\r\n\r\n",
        b"0 0\r\n\r\n",
    ),
]


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("size", SIZES)
async def test_what_is_in_a_chunk_is_no_request(peer: Peer, size: bytes, end: bytes) -> None:
    """Bytes inside a chunk are never read as a request, however size and end are written."""
    async with await peer.connect() as stream:
        body = b"%b\r\n%b\r\n%b" % (size, SMUGGLED, end)
        await stream.send_all(post(body, headers=b"connection: close\r\n"))
        await stream.send_all(b"\r\n" * 2)  # some bodies still lack their end
        answer = await read_to_end(stream)
        assert answer.count(b"HTTP/1.1 ") == 1
        assert answer.startswith((b"HTTP/1.1 200 ", b"HTTP/1.1 400 "))
