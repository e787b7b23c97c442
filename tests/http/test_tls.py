"""TLS on the public listener: how connections begin, and how they end."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from ollama_gateway.http.connection import ConnectionLimits
from tests.http.serving import PLAIN_REQUEST, Receive, Send, gateway, hello, read_until
from tests.http.serving import read_to_end as read_plainly
from tests.http.test_pipelining import GET, Pending
from tests.http.test_write_timeout import NEW, OLD, hang
from tests.http.tls_serving import TLSPeer, TLSStream, read_to_end, serving_tls
from tests.support.certificates import ServerFiles, client_context
from tests.support.patience import until

POST = b"POST /key HTTP/1.1\r\nhost: h\r\ncontent-length: 100000\r\n\r\n"


@pytest.fixture
async def peer(server_files: ServerFiles) -> AsyncIterator[TLSPeer]:
    """A listener with TLS."""
    async with serving_tls(hello, server_files) as opened:
        yield opened


def speaking(server_files: ServerFiles, version: ssl.TLSVersion, *alpn: str) -> ssl.SSLContext:
    """Return the context of a client that speaks one version of TLS."""
    context = client_context(server_files.authority)
    context.minimum_version = context.maximum_version = version
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


async def is_answered(stream: TLSStream) -> None:
    """Send a request on a kept-alive connection and check its answer."""
    await stream.send_all(GET)
    answer = await read_until(stream, b"\r\n\r\nok")
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_request_is_answered(
    peer: TLSPeer, server_files: ServerFiles, version: ssl.TLSVersion
) -> None:
    """Requests over TLS 1.2 and 1.3 are answered; ALPN chooses HTTP/1.1."""
    stream = await peer.connect(speaking(server_files, version, "h2", "http/1.1"))
    assert stream.selected_alpn_protocol() == "http/1.1"
    for _ in range(2):
        await is_answered(stream)
    await stream.aclose()
    await peer.wait_until_quiet()
    assert peer.refused == []


async def test_applications_see_the_scheme(server_files: ServerFiles) -> None:
    """Over TLS the application sees the scheme `https`."""
    schemes = []

    async def app(scope: Any, receive: Receive, send: Send) -> None:
        schemes.append(scope["scheme"])
        await hello(scope, receive, send)

    async with serving_tls(app, server_files) as peer:
        assert await peer.is_serving()
    assert schemes == ["https"]


async def test_old_versions_are_refused(peer: TLSPeer, server_files: ServerFiles) -> None:
    """A client that speaks only TLS 1.1 is closed and counted."""
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        old = speaking(server_files, ssl.TLSVersion.TLSv1_1)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")  # or it would not even try
    assert isinstance(await handshake_error(peer.plain.port, old), ssl.SSLError | OSError)
    await peer.wait_until_quiet()
    assert peer.refused == ["tls_handshake"]


async def test_a_client_that_distrusts_us_is_counted(
    peer: TLSPeer, server_files: ServerFiles
) -> None:
    """A client that rejects our certificate is counted as a failed handshake."""
    distrusting = speaking(
        ServerFiles.into(server_files.cert.parent / "other"), ssl.TLSVersion.TLSv1_2
    )
    error = await handshake_error(peer.plain.port, distrusting)
    await peer.wait_until_quiet()
    assert isinstance(error, ssl.SSLCertVerificationError)
    assert peer.refused == ["tls_handshake"]


async def handshake_error(port: int, context: ssl.SSLContext) -> Exception | None:
    """Shake hands with the standard library's client, which sends alerts; return its error."""

    def connect() -> Exception | None:
        with socket.create_connection(("127.0.0.1", port)) as below:
            try:
                context.wrap_socket(below, server_hostname="127.0.0.1").close()
            except OSError as error:
                return error
        return None

    return await trio.to_thread.run_sync(connect)


@pytest.mark.parametrize(
    "data",
    [PLAIN_REQUEST, b"\x16\x03\x01\x00\x05hello", b"\x00" * 5000, b"PROXY TCP4 1.2.3.4 5 6\r\n"],
    ids=["plain HTTP", "no ClientHello", "bytes of no protocol", "PROXY"],
)
async def test_a_bad_handshake_costs_its_connection(server_files: ServerFiles, data: bytes) -> None:
    """A bad handshake is closed without an HTTP answer and counted; others are served."""
    with structlog.testing.capture_logs() as lines:
        async with serving_tls(hello, server_files) as peer:
            neighbour = await peer.connect()
            assert not (await peer.plain.exchange(data)).startswith(b"HTTP")
            await is_answered(neighbour)
            await trio.aclose_forcefully(neighbour)
            await peer.wait_until_quiet()
    assert peer.refused == ["tls_handshake"]
    assert [line for line in lines if line["log_level"] in {"error", "warning"}] == []


@pytest.mark.parametrize("size", [0, 1, 100])
async def test_who_leaves_before_a_handshake_is_nobody(
    peer: TLSPeer, server_files: ServerFiles, size: int
) -> None:
    """A client that leaves before or in its ClientHello, as port checks do, is not counted."""
    hello_of_tls = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = server_files.client.wrap_bio(*hello_of_tls, server_hostname="127.0.0.1")
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    async with await peer.plain.connect() as stream:
        if size:
            await stream.send_all(hello_of_tls[1].read()[:size])
    await until(lambda: not peer.listener.connections)
    await peer.wait_until_quiet()
    assert peer.refused == []


async def test_a_handshake_that_never_ends(server_files: ServerFiles) -> None:
    """A handshake has the head timeout."""
    async with serving_tls(hello, server_files, ConnectionLimits(head_timeout=0.1)) as peer:
        async with await peer.plain.connect() as stream:
            await stream.send_all(b"\x16\x03\x01")
            assert await read_plainly(stream) in (b"", b"<reset>")
        await peer.wait_until_quiet()


async def test_a_whole_answer_ends_with_tlss_word(server_files: ServerFiles) -> None:
    """Every whole answer ends with a close_notify, also while the client still sends."""
    async with serving_tls(gateway(), server_files) as peer:
        assert (await peer.exchange(PLAIN_REQUEST)).endswith(b"hello<close_notify>")
        old = await peer.exchange(b"GET / HTTP/1.0\r\n\r\n")
        assert old.endswith(b"hello<close_notify>")
        early = await peer.exchange(POST + b"x" * 1000)
        assert early.startswith(b"HTTP/1.1 401 ")
        assert early.endswith(b"}<close_notify>")
        await peer.wait_until_quiet()


async def test_an_idle_connection_is_told_its_end(server_files: ServerFiles) -> None:
    """An idle connection ends with a close_notify."""
    async with serving_tls(hello, server_files, ConnectionLimits(idle_timeout=0.05)) as peer:
        answer = await peer.exchange(GET)
        assert answer.endswith(b"ok<close_notify>")


@pytest.mark.parametrize("request_", [NEW, OLD], ids=["HTTP/1.1", "HTTP/1.0"])
async def test_a_cut_answer_ends_without_it(server_files: ServerFiles, request_: bytes) -> None:
    """A cut answer ends without a close_notify, in HTTP/1.0 too."""
    async with serving_tls(gateway(), server_files) as peer:
        answer = await peer.exchange(request_)
        assert b"begun" in answer
        assert b"0\r\n\r\n" not in answer
        assert answer.endswith(b"<cut>")


async def test_a_cancelled_answer_ends_without_it(server_files: ServerFiles) -> None:
    """An answer cancelled by a drain's deadline ends without a close_notify."""
    async with serving_tls(hang, server_files) as peer:
        stream = await peer.connect()
        await stream.send_all(NEW)
        await read_until(stream, b"begun")
        await trio.testing.wait_all_tasks_blocked()
        peer.listener.drain(0)
        assert (await read_to_end(stream)).endswith(b"<cut>")
        await peer.has_ended.wait()


@pytest.mark.parametrize("is_said", [True, False], ids=["close_notify", "without a word"])
async def test_a_client_that_leaves_is_seen_at_once(
    server_files: ServerFiles, *, is_said: bool
) -> None:
    """A client that leaves is noticed behind an early request, with and without close_notify."""
    app = Pending()
    async with serving_tls(app, server_files) as peer:
        stream = await peer.connect()
        await stream.send_all(GET + GET)
        await app.has_begun.wait()
        if is_said:
            await stream.aclose()
        await trio.aclose_forcefully(stream)
        await app.has_lost.wait()
        await peer.wait_until_quiet()


async def test_too_many_connections_are_closed(server_files: ServerFiles) -> None:
    """Over the cap a TLS connection is closed without a handshake and without plain bytes."""
    async with serving_tls(hello, server_files, max_connections=1) as peer:
        first = await peer.connect()
        assert await peer.plain.exchange(b"") in (b"", b"<reset>")
        assert peer.refused == ["connection_cap"]
        await trio.aclose_forcefully(first)


async def test_a_drain_ends_what_is_not_yet_a_connection(peer: TLSPeer) -> None:
    """A client in the middle of its handshake does not delay the end of a drain."""
    async with await peer.plain.connect() as stream:
        await stream.send_all(b"\x16\x03\x01")
        await until(lambda: bool(peer.listener.connections))
        peer.listener.drain(0.05)
        await peer.has_ended.wait()


async def served_name(peer_port: int, server_files: ServerFiles, name: str) -> bool:
    """Return True if the served certificate is for this name."""
    below = await trio.open_tcp_stream("127.0.0.1", peer_port)
    stream = trio.SSLStream(below, server_files.client, server_hostname=name)
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError:
        return False
    finally:
        await trio.aclose_forcefully(below)
    return True


async def test_a_renewed_certificate_is_used(tmp_path: Path) -> None:
    """The next connection uses a new certificate; a broken one leaves the old one in use."""
    server_files = ServerFiles.into(tmp_path)
    with structlog.testing.capture_logs() as lines:
        async with serving_tls(hello, server_files) as peer:
            open_stream = await peer.connect()
            server_files.issue("renewed.example")
            assert await served_name(peer.plain.port, server_files, "renewed.example")
            server_files.cert.write_text("half of a fi")
            assert await served_name(peer.plain.port, server_files, "renewed.example")
            server_files.key.unlink()
            assert await served_name(peer.plain.port, server_files, "renewed.example")
            assert await served_name(peer.plain.port, server_files, "renewed.example")
            server_files.issue("again.example")
            assert await served_name(peer.plain.port, server_files, "again.example")
            await is_answered(open_stream)
            await trio.aclose_forcefully(open_stream)
            await peer.wait_until_quiet()

    logged = [(line["event"], line.get("reason")) for line in lines if line["component"] == "tls"]
    assert [event for event, _ in logged] == [
        "certificate renewed",
        "new certificate not used",
        "new certificate not used",
        "certificate renewed",
    ]
