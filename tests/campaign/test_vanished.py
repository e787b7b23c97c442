"""Peers that vanish without closing: packets are lost on a network of the test's own.

Only in full size: it takes root, iproute2 and a minute each (`wire.py`).
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs
import pytest
import trio

from ollama_gateway import keepalive
from tests.backends.misbehaving import Peer
from tests.campaign.conftest import Note
from tests.campaign.racing import wait_until
from tests.campaign.scripted import MODEL, Before, gateway_before, next_prompt
from tests.campaign.visit import Visit, body_of
from tests.campaign.wire import FAR, NEAR, Wire, wire

AT_MOST: Final = keepalive.WRITE_TIMEOUT + keepalive.INTERVAL + 10
"""Seconds until a peer counts as gone; TCP alone waits a quarter of an hour, or for ever."""
PATIENT: Final = {
    "GATEWAY_RACE_FIRST_CHUNK_TIMEOUT": "1h",
    "GATEWAY_RACE_IDLE_TIMEOUT": "1h",
    "GATEWAY_RACE_TOTAL_TIMEOUT": "1h",
}
"""Deadlines of the gateway, out of the way of this test."""
HEAD: Final = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n"
)


def token() -> bytes:
    """Make a chunk with a line of a chat."""
    message = {"role": "assistant", "content": "x"}
    line = json.dumps({"model": MODEL, "message": message, "done": False}).encode() + b"\n"
    return b"%x\r\n%b\r\n" % (len(line), line)


@attrs.frozen
class Speaker:
    """A backend that may begin an answer, and may go on with it."""

    begins: bool
    goes_on: bool

    async def __call__(self, stream: trio.SocketStream) -> None:
        """Serve one connection."""
        peer = Peer(stream)
        try:
            if await next_prompt(peer) is None:
                return
            if self.begins:
                await peer.say(HEAD + token())
            while self.goes_on:
                await trio.sleep(0.5)
                await peer.say(token())
            await peer.hear_to_the_end()
        except trio.BrokenResourceError:
            pass
        finally:
            stream.socket.close()


STREAMS: Final = Speaker(begins=True, goes_on=True)
STALLS: Final = Speaker(begins=True, goes_on=False)
THINKS: Final = Speaker(begins=False, goes_on=False)


@pytest.fixture
def cable() -> Iterator[Wire]:
    """A network; the test is at its near end."""
    with wire() as made, made.at(made.near):
        yield made


def bound(host: str) -> tuple[trio.SocketListener, str]:
    """Return a listening socket and its address."""
    sock = socket.create_server((host, 0))
    sock.setblocking(False)  # noqa: FBT003 - the standard library's signature
    return trio.SocketListener(
        trio.socket.from_stdlib_socket(sock)
    ), f"{host}:{sock.getsockname()[1]}"


def request(before: Before) -> bytes:
    """Make a chat that streams."""
    body = body_of(MODEL, "hi", streams=True)
    head = "POST /api/chat HTTP/1.1\r\nhost: gateway\r\n"
    head += f"authorization: Bearer {before.keys['bob']}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


async def seconds_until_free(before: Before) -> float:
    """Return how long a request still holds its slot and its connections."""
    began = trio.current_time()
    (backend,) = before.gateway.backends.all
    await wait_until(lambda: not (backend.in_flight or before.gateway.app.requests_running), 120)
    return trio.current_time() - began


@pytest.mark.parametrize("speaker", [STREAMS, THINKS], ids=["stream", "silence"])
async def test_a_client_that_vanishes_frees_its_slot(
    tmp_path: Path, cable: Wire, note: Note, speaker: Speaker
) -> None:
    """The slot is freed while tokens are sent, and while the first one is awaited."""
    listener, address = bound("127.0.0.1")
    async with trio.open_nursery() as serving:
        serving.start_soon(trio.serve_listeners, speaker, [listener])
        async with gateway_before(address, tmp_path, "bob", host=NEAR, **PATIENT) as before:
            with cable.at(cable.far):
                client = socket.create_connection((NEAR, before.port))
            client.sendall(request(before))
            (backend,) = before.gateway.backends.all
            await wait_until(lambda: backend.in_flight == 1)
            if speaker.begins:
                assert await trio.to_thread.run_sync(client.recv, 65536)
            cable.lose()
            seconds = await seconds_until_free(before)
            client.close()
        serving.cancel_scope.cancel()
    note(f"{seconds:.1f} s")
    assert seconds < AT_MOST


async def test_a_backend_that_vanishes_in_its_answer_is_noticed(
    tmp_path: Path, cable: Wire, note: Note
) -> None:
    """The client gets an error that the answer broke off, and does not wait for the backend."""
    with cable.at(cable.far):
        listener, address = bound(FAR)
    async with trio.open_nursery() as serving:
        serving.start_soon(trio.serve_listeners, STALLS, [listener])
        async with gateway_before(address, tmp_path, "bob", **PATIENT) as before:
            visit = Visit(before.port, before.keys["bob"], MODEL, "hi")
            async with trio.open_nursery() as asking:
                asking.start_soon(visit.run)
                await wait_until(lambda: visit.data != b"")
                cable.lose()
                seconds = await seconds_until_free(before)
            assert b"error" in visit.data.splitlines()[-1]
        serving.cancel_scope.cancel()
    note(f"{seconds:.1f} s")
    assert seconds < AT_MOST
