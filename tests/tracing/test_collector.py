"""Posts to collectors on real sockets, of which none can hold up or fill the gateway."""

from __future__ import annotations

import socket
import time

import pytest
import trio

from ollama_gateway.build_tracing import Collector
from ollama_gateway.tracing.environment import TracingSettings
from ollama_gateway.tracing.exporter import Delivery
from tests.support.patience import PATIENCE
from tests.support.ports import free_port
from tests.tracing.collectors import collecting, misbehaving

SMALL = b'{"resourceSpans":[]}'
SOON = 0.3
"""Seconds for a post in these tests."""


def of(url: str, timeout: float = PATIENCE) -> Collector:
    """Return the client's side of a collector."""
    return Collector.of(TracingSettings(f"{url}/v1/traces", (("x-org", "a"),), timeout))


async def post(url: str) -> Delivery:
    """Post a small batch on a connection of its own."""
    collector = of(url)
    try:
        return await collector.post(SMALL)
    finally:
        await collector.transport.aclose()


async def test_a_batch_is_posted_as_otlp_wants_it() -> None:
    """The path, the type and the given headers arrive, twice on one connection."""
    with collecting() as collector:
        posted = of(collector.url)
        found = [await posted.post(SMALL), await posted.post(SMALL)]
        assert posted.transport.idle_connections == 1
        await posted.transport.aclose()

    assert [one.status for one in found] == [200, 200]
    assert collector.faults == []
    assert collector.headers[0]["path"] == "/v1/traces"
    assert collector.headers[0]["content-type"] == "application/json"
    assert collector.headers[0]["x-org"] == "a"
    assert collector.headers[0]["user-agent"].startswith("ollama-gateway/")


def redirects(client: socket.socket) -> None:
    """Send the batch elsewhere."""
    client.recv(65536)
    client.sendall(b"HTTP/1.1 307 Go\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")


def is_busy(client: socket.socket) -> None:
    """Ask for some time."""
    client.recv(65536)
    client.sendall(b"HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")


async def test_a_redirect_is_not_followed() -> None:
    """Spans, and the credentials of the collector, go to the configured address alone."""
    with misbehaving(redirects) as url:
        found = await post(url)

    assert (found.status, found.is_done, found.may_retry) == (307, False, False)


async def test_the_time_that_a_collector_asks_for_is_read() -> None:
    """Seconds count; a date does not."""
    with misbehaving(is_busy) as url:
        found = await post(url)

    assert (found.status, found.may_retry, found.retry_after) == (503, True, 7)


async def test_a_collector_that_is_not_there_is_named_so() -> None:
    """The cause is in the gateway's own words."""
    found = await post(f"http://127.0.0.1:{free_port()}")

    assert (found.status, found.cause, found.may_retry) == (None, "refused", True)


def is_silent(client: socket.socket) -> None:
    """Read, and never answer."""
    while client.recv(65536):
        pass


def sends_a_slow_head(client: socket.socket) -> None:
    """Send a byte now and then."""
    for byte in b"HTTP/1.1 200 OK\r\n" * 10_000:
        client.sendall(bytes([byte]))
        time.sleep(0.02)


def does_not_read(client: socket.socket) -> None:
    """Leave the batch where it is, until the client goes."""
    client.settimeout(PATIENCE)
    time.sleep(4 * SOON)


def sends_garbage(client: socket.socket) -> None:
    """Speak another protocol."""
    client.recv(65536)
    client.sendall(b"SSH-2.0-x\r\n\r\n")


@pytest.mark.parametrize("behave", [is_silent, sends_a_slow_head, does_not_read])
async def test_a_slow_collector_ends_with_the_deadline(behave: object) -> None:
    """A post takes no longer than its time, and leaves no connection open."""
    with misbehaving(behave) as url:  # type: ignore[arg-type]  # the parameters are all such
        posted = of(url, SOON)
        with trio.fail_after(PATIENCE):
            found = await posted.post(SMALL * 500_000)
        assert posted.transport.open_connections == 0

    assert (found.status, found.cause, found.may_retry) == (None, "no answer in time", True)


async def test_a_collector_that_speaks_no_http_fails() -> None:
    """Nothing of what it says is repeated."""
    with misbehaving(sends_garbage) as url:
        found = await post(url)

    assert (found.status, found.cause) == (None, "the connection broke")


def answers_without_end(client: socket.socket) -> None:
    """Send a body that never ends."""
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        client.sendall(b"10000\r\n" + b"x" * 65536 + b"\r\n")


def drips_its_answer(client: socket.socket) -> None:
    """Announce a body that does not come."""
    client.recv(65536)
    client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{")
    client.recv(1)


@pytest.mark.parametrize("behave", [answers_without_end, drips_its_answer])
async def test_only_the_status_of_an_answer_counts(behave: object) -> None:
    """An endless body or one that does not come is cut, and the batch was delivered."""
    with misbehaving(behave) as url:  # type: ignore[arg-type]  # the parameters are all such
        posted = of(url)
        found = await posted.post(SMALL)
        assert (posted.transport.open_connections, posted.transport.idle_connections) == (0, 0)

    assert found.status == 200
