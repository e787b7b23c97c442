"""Requests for a backend, and the refusal of invalid ones."""

from __future__ import annotations

import httpx
import pytest
from trio.testing import MockClock

from ollama_gateway.backends.outgoing import MAX_ROUTES, Message, Outgoing
from ollama_gateway.backends.uploading import OutgoingBody
from tests.backends.asking import OK, UNUSED
from tests.backends.misbehaving import answers, talking_to

JSON = [(b"content-type", b"application/json")]


def message(
    method: str = "POST",
    target: bytes = b"/api/chat",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Message:
    """Make a request without a body."""
    return Message(method, target, headers, OutgoingBody(b"", length=0))


async def test_both_ways_to_ask_send_the_same(autojump_clock: MockClock) -> None:
    """`ask` and httpx's interface send the same path, host and headers."""
    made = Outgoing.of(httpx.URL("http://gpu-1:11434/ollama/"), {"authorization": "Bearer s"})
    script = answers(OK + b"Content-Length: 2\r\n\r\nhi")
    async with talking_to(script) as (transport, backend):
        incoming = await transport.ask(made.message("POST", "/api/ü", JSON, b"{}"))
        assert (incoming.head.status, await incoming.read()) == (200, b"hi")
        response = await transport.handle_async_request(made.request("POST", "/api/ü", JSON, b"{}"))
        assert await response.aread() == b"hi"
        light, other = (bytes(peer.heard) for peer in backend.peers)

    assert light == other
    assert light == (
        b"POST /ollama/api/%C3%BC HTTP/1.1\r\nHost: gpu-1:11434\r\naccept-encoding: identity\r\n"
        b"content-type: application/json\r\nauthorization: Bearer s\r\n"
        b"Content-Length: 2\r\nConnection: close\r\n\r\n{}"
    )


def test_a_host_in_the_settings_is_the_only_one() -> None:
    """A host header of the settings replaces the URL's host."""
    made = Outgoing.of(httpx.URL("http://10.0.0.1"), {"Host": "ollama.lan"})
    head = made.message("GET", "/", [], b"").head(is_last=False)

    assert head == b"GET / HTTP/1.1\r\naccept-encoding: identity\r\nHost: ollama.lan\r\n\r\n"


def test_no_more_routes_are_remembered_than_there_may_be() -> None:
    """Routes beyond the maximum are made anew each time."""
    made = Outgoing.of(httpx.URL("http://h"), {})
    targets = [made.message("GET", f"/{n}", [], b"").target for n in range(2 * MAX_ROUTES)]

    assert targets == [b"/%d" % n for n in range(2 * MAX_ROUTES)]
    assert len(made._routes) == MAX_ROUTES


def test_framing_is_ours() -> None:
    """Framing headers of a request are dropped, in any spelling."""
    said = ((b"CONNECTION", b"x"), (b"Transfer-Encoding", b"gzip"), (b"content-length", b"9"))

    assert message(headers=said).head(is_last=True) == (
        b"POST /api/chat HTTP/1.1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    "spoilt",
    [
        message(method="PO ST"),
        message(method="PÖST"),
        message(method=""),
        message(target=b"/a b"),
        message(target=b"/a\r\nX: y"),
        message(target=b""),
        message(headers=((b"a", b"b\r\nc: d"),)),
        message(headers=((b"a", b"b\n"),)),
        message(headers=((b"a", b"b\x00"),)),
        message(headers=((b"a\r\nb", b"c"),)),
        message(headers=((b"a: b\r\nc", b"d"),)),
        message(headers=((b"", b"a"),)),
        message(headers=((b"a", b"b\r\n\r\nGET / HTTP/1.1"),)),
    ],
)
async def test_what_is_not_http_is_refused_whole(spoilt: Message) -> None:
    """Nothing is connected or sent for an invalid request, and its error quotes nothing."""
    with pytest.raises(httpx.LocalProtocolError, match=r"^the request is not valid HTTP$"):
        await UNUSED.ask(spoilt)

    assert UNUSED.open_connections == 0
