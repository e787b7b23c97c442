"""The documented configurations of proxies pass on what the gateway sends, as it is made."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.flow.dialects import SSE
from tests.proxies.examples import PROXIES, examples
from tests.smoke.fleet import Fleet
from tests.support.patience import PATIENCE

NATIVE = ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]})
STREAMS = [NATIVE, *((speech.path, {**speech.body, "stream": True}) for speech in SSE)]


@contextmanager
def asked(
    port: int, path: str, body: dict[str, Any], key: str
) -> Iterator[http.client.HTTPResponse]:
    """Ask through a proxy; the client leaves at the end of the block."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        connection.request("POST", path, json.dumps(body).encode(), headers)
        yield connection.getresponse()
    finally:
        connection.close()


def test_every_proxy_has_an_example() -> None:
    """The docs have one for each proxy that is tested, and one for Traefik, which Debian lacks."""
    assert set(examples()) == {*PROXIES, "yaml"}


@pytest.mark.parametrize(("path", "body"), STREAMS)
def test_a_stream_arrives_as_it_is_made(
    behind: Fleet, port: int, path: str, body: dict[str, Any]
) -> None:
    """The first token arrives although the answer is never finished."""
    with asked(port, path, {**body, "model": "stuck:1"}, behind.key) as answer:
        received = b""
        while b"Hello" not in received:
            chunk = answer.read1()
            assert chunk, received
            received += chunk

    assert answer.status == 200


def test_a_large_body_passes(behind: Fleet, port: int) -> None:
    """No proxy refuses a body that the gateway takes."""
    body = {"model": "quick:1", "messages": [{"role": "user", "content": "hi" * 2**20}]}
    with asked(port, "/api/chat", {**body, "stream": False}, behind.key) as answer:
        document = json.load(answer)

    assert (answer.status, document["done"]) == (200, True)


def test_an_error_keeps_its_text(behind: Fleet, port: int) -> None:
    """A refusal arrives with the gateway's own words and headers."""
    with asked(port, "/v1/messages", {"model": "quick:1"}, "wrong") as answer:
        document = json.load(answer)

    assert (answer.status, answer.headers["x-should-retry"]) == (401, "false")
    assert document["error"]["message"] == "invalid API key"


def test_a_client_that_leaves_frees_its_machine(behind: Fleet, port: int) -> None:
    """A proxy tells the gateway that its client has left, and the gateway tells the backend."""
    with asked(port, "/api/chat", {**NATIVE[1], "model": "slow:1"}, behind.key) as answer:
        answer.read1()

    deadline = time.monotonic() + PATIENCE
    while behind.figures("slow").in_flight:
        assert time.monotonic() < deadline, "the backend still computes"
        time.sleep(0.1)
