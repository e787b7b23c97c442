"""At the end of a process streams finish, and clients that do not read delay nothing."""

from __future__ import annotations

import json
import signal
import socket
from pathlib import Path

from ollama_gateway.keys.key import KeyLimits
from tests.smoke.fleet import Fleet, Gateway, addresses, running
from tests.support.patience import PATIENCE

CHAT = json.dumps({"model": "shared:1", "messages": [{"role": "user", "content": "hi"}]}).encode()


def asked_chat(fleet: Fleet, key: str) -> socket.socket:
    """Open a connection and send a chat request."""
    client = socket.create_connection(("127.0.0.1", fleet.port), timeout=PATIENCE)
    head = f"host: h\r\nauthorization: Bearer {key}\r\ncontent-length: {len(CHAT)}\r\n\r\n"
    client.sendall(b"POST /api/chat HTTP/1.1\r\n" + head.encode() + CHAT)
    return client


def begun_chat(fleet: Fleet) -> socket.socket:
    """Open a connection and read until the first chunk of a chat has arrived."""
    client = asked_chat(fleet, fleet.key)
    received = b""
    while b'"done":false' not in received:
        received += client.recv(65536)
    return client


def remainder_of(client: socket.socket) -> bytes:
    """Return the rest of the answer."""
    received = b""
    while data := client.recv(65536):
        received += data
    return received


def test_a_stream_finishes_before_the_process_ends(own_fleet: Fleet) -> None:
    """After SIGTERM a client reads its stream to the end, and the exit code is 0."""
    with begun_chat(own_fleet) as client:
        own_fleet.gateway.popen.send_signal(signal.SIGTERM)
        remainder = remainder_of(client)

    assert b'"done":true' in remainder
    assert remainder.endswith(b"0\r\n\r\n")
    assert own_fleet.gateway.popen.wait(PATIENCE) == 0


def test_a_second_signal_ends_it_at_once(own_fleet: Fleet) -> None:
    """A second signal ends the process without waiting for the drain."""
    own_fleet.simulators["a"].popen.send_signal(signal.SIGSTOP)
    try:
        with asked_chat(own_fleet, own_fleet.key):
            own_fleet.gateway.popen.send_signal(signal.SIGTERM)
            own_fleet.gateway.wait_for("draining")
            own_fleet.gateway.popen.send_signal(signal.SIGTERM)

            assert own_fleet.gateway.popen.wait(PATIENCE) == 1
    finally:
        own_fleet.simulators["a"].popen.send_signal(signal.SIGCONT)


def test_a_hanging_stream_gets_an_error_at_the_end_of_the_drain(own_fleet: Fleet) -> None:
    """At `drain_timeout` a running stream gets an error event, and the exit code is 0."""
    with begun_chat(own_fleet) as client:
        own_fleet.simulators["a"].popen.send_signal(signal.SIGSTOP)
        own_fleet.gateway.popen.send_signal(signal.SIGTERM)
        remainder = remainder_of(client)
        own_fleet.simulators["a"].popen.send_signal(signal.SIGCONT)

    assert b'{"error":"the gateway is shutting down"}' in remainder
    assert not remainder.endswith(b"0\r\n\r\n")
    assert own_fleet.gateway.popen.wait(PATIENCE) == 0


def test_a_client_that_stopped_reading_holds_up_nothing(own_fleet: Fleet) -> None:
    """A full socket does not keep the process running after `drain_timeout`."""
    with begun_chat(own_fleet):
        own_fleet.gateway.popen.send_signal(signal.SIGTERM)

        assert own_fleet.gateway.popen.wait(PATIENCE) == 0


def test_a_disk_that_hangs_does_not_hold_up_the_end(own_fleet: Fleet) -> None:
    """The process ends although journals, budgets and keys cannot be closed."""
    budget = {"GATEWAY_LIMITS_TOKENS_PER_DAY": "100000"}
    environment = {**own_fleet.environment, **addresses(), **budget}
    _, unseen = own_fleet.create_key("unseen", KeyLimits())
    with running("tests.smoke.hanging", "serve", environment=environment) as gateway:
        gateway.wait_for("serving")
        own_fleet.gateways[0] = Gateway(gateway, environment)
        with begun_chat(own_fleet):
            (Path(environment["GATEWAY_STORAGE_DATA_DIR"]) / "hang").touch()
            with asked_chat(own_fleet, unseen):
                gateway.popen.send_signal(signal.SIGTERM)

                assert gateway.popen.wait(2 * PATIENCE) == 0
        gateway.wait_for("audit rows not written")
        gateway.wait_for("spending not written")
