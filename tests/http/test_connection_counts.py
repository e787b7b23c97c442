"""One client may have a share of a listener's connections, whatever addresses it uses."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import structlog.testing
import trio

from ollama_gateway.errors import TooManyConnections
from ollama_gateway.http.connection_counts import ConnectionCounts
from ollama_gateway.http.listener import ACCEPTS_PER_TURN, Listener
from ollama_gateway.metrics import Metrics
from ollama_gateway.server.app import App, AppConfig
from ollama_gateway.server.bodies import BodyBudget
from ollama_gateway.server.refusals import LINES_A_SECOND
from ollama_gateway.server.routes import Routes
from ollama_gateway.wire.networks import network_of
from tests.http.serving import PLAIN_REQUEST, Peer, gateway, read_to_end, serving
from tests.support.patience import until
from tests.support.scenario import open_scenario


@pytest.mark.parametrize(("total", "limit"), [(4096, 1024), (64, 16), (4, 1), (3, 1), (1, 1)])
def test_an_address_has_a_quarter(total: int, limit: int) -> None:
    """An address may have a quarter of the connections, and at least one."""
    assert ConnectionCounts.of(total).limit == limit


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::2"),
        ("2001:db8::1", "2001:db8:0:0:ffff:ffff:ffff:ffff"),
        ("fe80::1%lo", "fe80::2%lo"),
    ],
)
def test_these_are_one_client(one: str, other: str) -> None:
    """A /64 of IPv6 is one client, and an IPv4-mapped address is the IPv4 address."""
    connection_counts = ConnectionCounts(1)
    client_id = connection_counts.enter(one)

    assert connection_counts.is_full(other)
    connection_counts.leave(client_id)
    assert not connection_counts.is_full(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("192.0.2.1", "192.0.2.2"),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2"),
        ("2001:db8::1", "2001:db8:0:1::1"),
    ],
)
def test_these_are_two(one: str, other: str) -> None:
    """Neighbours are counted apart, also as IPv4-mapped addresses, which share one /64."""
    connection_counts = ConnectionCounts(1)
    connection_counts.enter(one)

    assert not connection_counts.is_full(other)


@pytest.mark.parametrize(
    "peer", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "10.0.0.7", "fd00:7::9", ""]
)
def test_these_are_not_counted(peer: str) -> None:
    """Loopback, Unix sockets and trusted proxies are not counted."""
    usual = ConnectionCounts(1)
    connection_counts = ConnectionCounts(
        1, (*usual.exempt, network_of("10.0.0.7"), network_of("fd00:7::/64"))
    )
    clients = [connection_counts.enter(peer) for _ in range(3)]

    assert not connection_counts.is_full(peer)
    for client_id in clients:
        connection_counts.leave(client_id)
    assert not connection_counts.is_full(peer)


@contextlib.asynccontextmanager
async def serving_loopback(limit: int, cap: int = 100) -> AsyncIterator[Peer]:
    """Serve with loopback counted like any other network."""
    async with serving(gateway(), max_connections=cap) as peer:
        peer.listener.connection_counts = ConnectionCounts(limit, exempt=())
        yield peer


async def connect(peer: Peer, address: str) -> trio.SocketStream:
    """Connect from this address of the loopback network."""
    sock = trio.socket.socket()
    await sock.bind((address, 0))
    await sock.connect(("127.0.0.1", peer.port))
    return trio.SocketStream(sock)


async def ask(peer: Peer, address: str) -> bytes:
    """Return the answer to a plain request from this address."""
    async with await connect(peer, address) as stream:
        with contextlib.suppress(trio.BrokenResourceError):  # it may be turned away first
            await stream.send_all(PLAIN_REQUEST)
        return await read_to_end(stream)


async def test_over_its_share_an_address_is_turned_away() -> None:
    """An address over its share gets 503 until one of its connections ends; others are served."""
    async with serving_loopback(2) as peer:
        first, second = await connect(peer, "127.0.0.2"), await connect(peer, "127.0.0.2")
        await until(lambda: len(peer.listener.connections) == 2)
        async with second:
            async with first:
                answer = await ask(peer, "127.0.0.2")
                assert answer.startswith(b"HTTP/1.1 503 ")
                assert answer.lower().count(b"connection: close") == 1
                assert (await ask(peer, "127.0.0.3")).startswith(b"HTTP/1.1 200 ")
            await until(lambda: len(peer.listener.connections) == 1)
            assert (await ask(peer, "127.0.0.2")).startswith(b"HTTP/1.1 200 ")
        await peer.wait_until_quiet()
        assert not peer.listener.connection_counts.is_full("127.0.0.2")

    (error,) = peer.refused
    assert isinstance(error, TooManyConnections)
    assert (error.reason, error.client) == ("address_cap", "127.0.0.2")
    assert error.setting == "server.max_connections_per_address"


async def test_a_burst_of_one_address_does_not_pass_its_share() -> None:
    """Of a burst in the backlog an address gets its share, and the next client is served."""
    async with serving_loopback(3) as peer:
        streams = [await connect(peer, "127.0.0.2") for _ in range(20)]
        assert (await ask(peer, "127.0.0.3")).startswith(b"HTTP/1.1 200 ")
        await until(lambda: len(peer.refused) == 17 and len(peer.listener.connections) == 3)
        for stream in streams:
            await stream.aclose()
        await peer.wait_until_quiet()


async def test_all_together_are_named_by_their_own_setting() -> None:
    """If the listener is full, the log names that setting and no address."""
    async with serving_loopback(2, cap=1) as peer, await connect(peer, "127.0.0.2"):
        await until(lambda: len(peer.listener.connections) == 1)
        assert (await ask(peer, "127.0.0.3")).startswith(b"HTTP/1.1 503 ")

    (error,) = peer.refused
    assert isinstance(error, TooManyConnections)
    assert (error.reason, error.client) == ("connection_cap", "")
    assert error.setting == "server.max_connections"


@pytest.mark.parametrize(
    ("client", "setting"),
    [("192.0.2.1", "server.max_connections_per_address"), ("", "server.max_connections")],
)
async def test_the_log_names_the_setting_at_a_bounded_rate(
    autojump_clock: trio.testing.MockClock, client: str, setting: str
) -> None:
    """The log names the setting, and the address if it has too many connections."""
    app = App(AppConfig(Routes({}, {})), BodyBudget(1, 1), Metrics())
    with structlog.testing.capture_logs() as lines:
        for _ in range(1000):
            app.render_early_error(TooManyConnections(setting, client))

    assert [(line["setting"], line["client"]) for line in lines] == [
        (setting, client)
    ] * LINES_A_SECOND


async def test_a_flood_of_clients_is_accepted_a_few_at_a_time(peer: Peer) -> None:
    """A flood is accepted over several turns of the event loop, so that other clients go on."""
    # The listener does not run while they connect: they wait in the kernel's backlog.
    waiting = [socket.create_connection(("127.0.0.1", peer.port)) for _ in range(100)]
    before = most = 0
    while before < len(waiting):
        await trio.lowlevel.checkpoint()
        most, before = (
            max(most, len(peer.listener.connections) - before),
            len(peer.listener.connections),
        )
    assert most <= 2 * ACCEPTS_PER_TURN
    for sock in waiting:
        sock.close()
    await peer.wait_until_quiet()


def test_a_listener_counts_by_default() -> None:
    """Without a setting, as on the admin listener, an address may have a quarter."""
    assert Listener(gateway(), gateway().render_early_error, 64).connection_counts.limit == 16


@pytest.mark.parametrize(("setting", "limit"), [("0", 25), ("7", 7)])
async def test_the_clients_listener_has_what_is_set(setting: str, limit: int) -> None:
    """The setting bounds an address; trusted proxies and loopback are exempt."""
    settings = {
        "GATEWAY_SERVER_MAX_CONNECTIONS": "100",
        "GATEWAY_SERVER_MAX_CONNECTIONS_PER_ADDRESS": setting,
        "GATEWAY_SERVER_TRUSTED_PROXIES": "10.0.0.0/8",
    }
    async with open_scenario(settings=settings) as scenario:
        connection_counts = scenario.gateway.listener.connection_counts
        admin = scenario.gateway.admin_listener.connection_counts

    assert (connection_counts.limit, admin.limit) == (limit, 16)
    assert [str(network) for network in connection_counts.exempt] == [
        "127.0.0.0/8",
        "::1/128",
        "10.0.0.0/8",
    ]
