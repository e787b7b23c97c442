"""Requests that crash stock hypercorn, and clients that never read, over TLS."""

from __future__ import annotations

import pytest
import structlog
import trio

from ollama_gateway.http.connection import ConnectionLimits
from tests.http.serving import gateway
from tests.http.test_crashers import ANSWERED_IN_HTTP_1, REFUSED
from tests.http.test_stuck_client import PLAIN, large
from tests.http.test_write_timeout import ENDLESS, flood
from tests.http.tls_serving import read_to_end, serving_tls
from tests.support.certificates import ServerFiles


@pytest.fixture(scope="module")
def server_files(tmp_path_factory: pytest.TempPathFactory) -> ServerFiles:
    """Write one certificate for all tests."""
    return ServerFiles.into(tmp_path_factory.mktemp("certificate"))


async def test_crashers_end_only_their_connection(server_files: ServerFiles) -> None:
    """Every request of the corpus is answered or refused as it is without TLS."""
    async with serving_tls(gateway(), server_files) as peer:
        for name, request in ANSWERED_IN_HTTP_1.items():
            answer = await peer.exchange(request + b"\r\nconnection: close\r\n\r\n")
            assert answer.startswith(b"HTTP/1."), name
        for name, request in REFUSED.items():
            answer = await peer.exchange(request)
            assert answer.startswith(b"HTTP/1.1 4"), name
            assert answer.endswith(b"<close_notify>"), name
        assert await peer.is_serving()
        await peer.plain.wait_until_quiet()
    assert peer.refused.count("tls_handshake") == 0


async def test_a_client_that_does_not_read_is_cut(server_files: ServerFiles) -> None:
    """A client that does not read is reset after the write timeout; others are served."""
    async with serving_tls(flood, server_files, ConnectionLimits(write_timeout=0.2)) as peer:
        stuck = await peer.connect()
        await stuck.send_all(ENDLESS)
        await stuck.receive_some(1)
        assert await peer.is_serving()
        await peer.plain.wait_until_quiet()
        assert (await read_to_end(stuck)).endswith(b"<cut>")


async def test_a_client_that_reads_slowly_lives(server_files: ServerFiles) -> None:
    """The write timeout is for one write, so a slow reader keeps its connection."""
    async with serving_tls(flood, server_files, ConnectionLimits(write_timeout=5)) as peer:
        slow = await peer.connect()
        await slow.send_all(ENDLESS)
        for _ in range(20):
            assert await slow.receive_some(65536)
            await trio.testing.wait_all_tasks_blocked(0.005)
        assert len(peer.plain.listener.connections) == 1
        await trio.aclose_forcefully(slow)
        await peer.plain.wait_until_quiet()


async def test_a_write_timeout_leaves_no_trace_in_the_log(server_files: ServerFiles) -> None:
    """A client that pipelines and never reads causes one close and no error inside TLS."""
    with structlog.testing.capture_logs() as lines:
        async with serving_tls(large, server_files, ConnectionLimits(write_timeout=0.2)) as peer:
            streams = [await peer.connect() for _ in range(5)]
            for stream in streams:
                await stream.send_all(PLAIN * 3)
            await peer.plain.wait_until_quiet()
            for stream in streams:
                await trio.aclose_forcefully(stream)

    assert [line for line in lines if line["log_level"] in {"error", "warning"}] == []


async def test_a_drain_with_a_stuck_client_ends_by_its_deadline(server_files: ServerFiles) -> None:
    """A stuck write ends with the drain, even if its own timeout is longer."""
    async with serving_tls(flood, server_files, ConnectionLimits(write_timeout=1000)) as peer:
        stuck = await peer.connect()
        await stuck.send_all(ENDLESS)
        await stuck.receive_some(1)
        peer.plain.listener.drain(0.2)
        await peer.plain.has_ended.wait()
        assert (await read_to_end(stuck)).endswith(b"<cut>")
