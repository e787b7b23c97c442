"""Hostile bytes disturb no stream of a running process, and nothing leaks."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor

from tests.http.test_crashers import ANSWERED_IN_HTTP_1, REFUSED
from tests.smoke.asking import ask
from tests.smoke.fleet import Fleet
from tests.smoke.test_clients import native_chat
from tests.support.patience import PATIENCE, wait_until

STREAMS = 8
ROUNDS = 5


def attack(fleet: Fleet, data: bytes) -> bytes:
    """Send a hostile request and return the answer, or nothing."""
    with socket.create_connection(("127.0.0.1", fleet.port), timeout=PATIENCE) as client:
        client.sendall(data)
        client.shutdown(socket.SHUT_WR)
        try:
            return client.recv(65536)
        except ConnectionResetError:
            return b""


def open_files(fleet: Fleet) -> int:
    """Return the number of file descriptors of the gateway."""
    return len(os.listdir(f"/proc/{fleet.gateway.popen.pid}/fd"))  # noqa: PTH208 - /proc


def quiet(fleet: Fleet) -> bool:
    """Return whether no client is connected and no request is running."""
    figures = fleet.gateways[0].status()
    return (figures["connections"], figures["requests"]) == (0, 0)


def test_requests_that_crash_stock_hypercorn_disturb_no_stream(own_fleet: Fleet) -> None:
    """Requests that crash hypercorn leave streams intact, and all resources are released."""
    expected = native_chat(own_fleet)
    files = open_files(own_fleet)
    with ThreadPoolExecutor(STREAMS) as pool:
        chats = [pool.submit(native_chat, own_fleet) for _ in range(STREAMS)]
        for _ in range(ROUNDS):
            for data in [*ANSWERED_IN_HTTP_1.values(), *REFUSED.values()]:
                attack(own_fleet, data)

        assert [chat.result() for chat in chats] == [expected] * STREAMS
    assert own_fleet.gateway.popen.poll() is None
    wait_until(
        lambda: quiet(own_fleet) and open_files(own_fleet) <= files,
        lambda: (own_fleet.gateways[0].status(), open_files(own_fleet), files),
    )
    assert not any("Traceback" in line for line in own_fleet.gateway.lines)


def test_the_admin_routes_are_not_public(shared_fleet: Fleet) -> None:
    """Only the admin address serves health and metrics."""
    for path in ("/healthz", "/readyz", "/metrics", "/status.json"):
        public = attack(shared_fleet, f"GET {path} HTTP/1.1\r\nhost: h\r\n\r\n".encode())
        assert public.startswith(b"HTTP/1.1 404 ")
        assert ask(shared_fleet.gateways[0].admin_port, path).status == 200
