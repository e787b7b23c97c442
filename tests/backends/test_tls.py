"""Backends behind TLS, from the settings to the wire: simulators on sockets, and trust."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import attrs
import pytest
import trio
import trio.testing
import trustme
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSListener

from ollama_gateway.backends.connecting import tcp
from ollama_gateway.backends.discovery import PollFailed, poll
from ollama_gateway.backends.transport import Transport
from ollama_gateway.build import build
from ollama_gateway.build_backends import build_backends
from ollama_gateway.keys.location import KEYS_FILE
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.ledger.record import AuditRecord
from ollama_gateway.settings import Settings, load
from ollama_gateway.simulator import Model, Simulator
from ollama_gateway.storage.batcher import in_place
from tests.backends.asking import MIB, post
from tests.backends.misbehaving import Peer, listening
from tests.support.certificates import HOST, client_context, server_context, write_certificate
from tests.support.scenario import Scenario


@attrs.frozen
class Files:
    """The certificate files of an operator."""

    directory: Path
    authority: trustme.CA

    def context(self, *, is_mutual: bool = False) -> ssl.SSLContext:
        """Make the backend's context; if mutual, it wants a certificate of its authority."""
        return server_context(self.authority, is_mutual=is_mutual)

    def path(self, name: str) -> str:
        """Return a file: `ca`, `stranger`, `client`, `client.key`, `foreign` or `foreign.key`."""
        return str(self.directory / name)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Write the files of an authority, of a stranger, and of a client certificate by each."""
    directory = tmp_path_factory.mktemp("certificates")
    authority, stranger = trustme.CA(), trustme.CA()
    for name, owner in {"client": authority, "foreign": stranger}.items():
        write_certificate(owner, directory / name, directory / f"{name}.key", "gateway.example")
    authority.cert_pem.write_to_path(directory / "ca")
    stranger.cert_pem.write_to_path(directory / "stranger")
    return Files(directory, authority)


@asynccontextmanager
async def simulated(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Run a simulator behind TLS on a real socket; yield the port."""
    simulator = Simulator([Model("m1:latest")])
    below = await anyio.create_tcp_listener(local_host=HOST)
    listener = TLSListener(below, context, standard_compatible=False)
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(listener.serve, simulator.serve_stream)
        yield below.extra(SocketAttribute.local_port)  # noqa: S610 - no Django
        nursery.cancel_scope.cancel()


def settings_of(directory: Path, *backends: dict[str, object]) -> Settings:
    """Make settings with these backends."""
    environment = {
        "OLLAMA_BACKENDS": json.dumps(backends),
        "GATEWAY_STORAGE_DATA_DIR": str(directory),
    }
    return load(environ=environment, cwd=directory).settings


async def polled(directory: Path, url: str, **given: object) -> str:
    """Poll a backend; return its listing, or the reason of the failure."""
    settings = settings_of(directory, {"name": "a", "url": url, **given})
    (backend,) = build_backends(settings).all
    try:
        listing = await poll(backend, 10)
    except PollFailed as failure:
        return str(failure)
    return listing.version


@pytest.mark.parametrize("given", [{"ca_file": "ca"}, {"verify": False}])
async def test_a_trusted_backend_is_polled(
    tmp_path: Path, files: Files, given: dict[str, object]
) -> None:
    """A backend is polled with its authority's file, or without any check."""
    if "ca_file" in given:
        given = {"ca_file": files.path("ca")}
    async with simulated(files.context()) as port:
        assert await polled(tmp_path, f"https://{HOST}:{port}", **given) == "0.33.0"


async def test_a_client_certificate_is_shown(tmp_path: Path, files: Files) -> None:
    """A backend that asks for a client certificate gets it."""
    given = {
        "ca_file": files.path("ca"),
        "client_cert": files.path("client"),
        "client_key": files.path("client.key"),
    }
    async with simulated(files.context(is_mutual=True)) as port:
        assert await polled(tmp_path, f"https://{HOST}:{port}", **given) == "0.33.0"


async def test_renewed_files_are_used(tmp_path: Path, files: Files) -> None:
    """The next connection to a backend trusts what its `ca_file` says by then."""
    mine = tmp_path / "ca"
    put(files.path("stranger"), mine)
    async with simulated(files.context()) as port:
        url = f"https://{HOST}:{port}"
        settings = settings_of(tmp_path, {"name": "a", "url": url, "ca_file": str(mine)})
        (backend,) = build_backends(settings).all
        with pytest.raises(PollFailed, match="not trusted"):
            await poll(backend, 10)
        for name, version in {"ca": "0.33.0", "client.key": "0.33.0"}.items():
            put(files.path(name), mine)
            assert (await poll(backend, 10)).version == version


def put(source: str, target: Path) -> None:
    """Put a copy in place of a file, as certificate tools do."""
    new = target.with_suffix(".new")
    new.write_bytes(Path(source).read_bytes())
    new.replace(target)


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({}, "the connection broke: it wants a client certificate"),
        (
            {"client_cert": "foreign", "client_key": "foreign.key"},
            "the connection broke: it does not accept the client certificate",
        ),
    ],
)
async def test_a_client_certificate_that_is_missing_or_wrong(
    tmp_path: Path, files: Files, given: dict[str, str], error: str
) -> None:
    """`probe` tells which of the two it is."""
    paths = {name: files.path(file) for name, file in {"ca_file": "ca", **given}.items()}
    with socket.create_server((HOST, 0)) as listener:
        async with trio.open_nursery() as nursery:
            context = files.context(is_mutual=True)
            nursery.start_soon(trio.to_thread.run_sync, refuse_certificate, listener, context)
            port = listener.getsockname()[1]
            assert await polled(tmp_path, f"https://{HOST}:{port}", **paths) == error


def refuse_certificate(listener: socket.socket, context: ssl.SSLContext) -> None:
    """Handle one client as OpenSSL's servers do, which send their alerts; Trio and AnyIO do not."""
    below, _ = listener.accept()
    with below, context.wrap_socket(below, server_side=True, do_handshake_on_connect=False) as tls:
        with pytest.raises(ssl.SSLError):
            tls.do_handshake()
        with socket.socket(fileno=tls.detach()) as rest, contextlib.suppress(OSError):
            while rest.recv(65536):
                pass  # or a reset might come before its alert


async def test_a_wrong_authority(tmp_path: Path, files: Files) -> None:
    """`probe` reports an untrusted certificate, by another file or by the system's authorities."""
    async with simulated(files.context()) as port:
        for given in ({"ca_file": files.path("stranger")}, {}):
            found = await polled(tmp_path, f"https://{HOST}:{port}", **given)
            assert found == "cannot connect: its certificate is not trusted"


async def test_another_name(tmp_path: Path, files: Files) -> None:
    """A certificate for another name is distinguished from an untrusted one."""
    async with simulated(files.context()) as port:
        found = await polled(tmp_path, f"https://localhost:{port}", ca_file=files.path("ca"))
    assert found == "cannot connect: its certificate is for another name"


async def test_a_plain_backend_behind_https(tmp_path: Path, files: Files) -> None:
    """A plain backend behind `https` does not speak TLS."""

    async def speak_plain(peer: Peer) -> None:
        await peer.hear()
        await peer.say(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with listening(speak_plain) as port:
        found = await polled(tmp_path, f"https://{HOST}:{port}", ca_file=files.path("ca"))
    assert found == "cannot connect: it does not speak TLS as it should"


async def test_a_request_goes_past_what_cannot_be_trusted(tmp_path: Path, files: Files) -> None:
    """An attempt at an untrusted backend is `connect_failed`; the next backend answers."""
    records: list[AuditRecord] = []
    store = SQLiteKeys(tmp_path / KEYS_FILE)
    _, key = store.create("tester")
    async with simulated(files.context()) as one, simulated(files.context()) as two:
        settings = settings_of(
            tmp_path,
            {"name": "a", "url": f"https://{HOST}:{one}", "ca_file": files.path("ca")},
            {"name": "b", "url": f"https://{HOST}:{two}", "ca_file": files.path("ca")},
        )
        async with build(settings, runner=in_place, sinks=(records.append,)) as gateway:
            scenario = Scenario(gateway, {}, store, key, records)
            await scenario.poll()
            stranger = ssl.create_default_context()  # its certificate has changed since the poll
            connect = tcp(HOST, one, connect_timeout=10, ssl_context=lambda: stranger)
            await gateway.backends.all[0].transport.aclose()
            gateway.backends.all[0].transport = Transport(connect)
            reply = await scenario.ask()
    store.close()

    assert reply.status == 200
    assert reply.text
    assert [(a.backend, a.reason) for a in records[0].attempts] == [
        ("a", "connect_failed"),
        ("b", None),
    ]


async def test_an_early_answer_during_a_large_upload(files: Files) -> None:
    """An early answer arrives whole, and its connection is not used again."""
    may_go_on = trio.Event()

    async def refuse(peer: Peer) -> None:
        await peer.hear()
        await trio.testing.wait_all_tasks_blocked(0.01)  # the upload is stuck in the middle
        await peer.say(b"HTTP/1.1 413 Too Large\r\nContent-Length: 200000\r\n\r\n", b"big")
        await may_go_on.wait()
        await peer.say(b"x" * 199_997)
        await trio.sleep_forever()

    client = client_context(files.authority)

    def wrap(stream: trio.SocketStream) -> trio.SSLStream[trio.SocketStream]:
        return trio.SSLStream(stream, files.context(), server_side=True)

    with trio.move_on_after(20) as scope:
        async with listening(refuse, wrap) as port:
            connect = tcp(HOST, port, connect_timeout=10, ssl_context=lambda: client)
            transport = Transport(connect, most_idle=4)
            response = await transport.handle_async_request(post(b"x" * 32 * MIB))
            may_go_on.set()
            body = b"".join([chunk async for chunk in response.aiter_raw()])
            assert (response.status_code, body) == (413, b"big" + b"x" * 199_997)
            assert (transport.open_connections, transport.idle_connections) == (0, 0)
            scope.cancel()
    assert body
