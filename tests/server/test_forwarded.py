"""The client's address behind proxies, and its use in audit records and logs."""

from __future__ import annotations

import pytest
import structlog

from ollama_gateway.server.forwarded import client_of
from ollama_gateway.wire.networks import network_of
from tests.support.scenario import open_scenario

pytestmark = pytest.mark.virtual_time

PROXIES = tuple(map(network_of, ("10.0.0.0/8", "fd00::/8")))


def seen(peer: str, *lists: str) -> str:
    """Return the client of a request with these X-Forwarded-For lists."""
    return client_of(peer, [(b"x-forwarded-for", text.encode()) for text in lists], PROXIES)


@pytest.mark.parametrize(
    ("lists", "client"),
    [
        (["203.0.113.5"], "203.0.113.5"),
        (["203.0.113.5, 10.0.0.2"], "203.0.113.5"),
        (["198.51.100.1, 203.0.113.5"], "203.0.113.5"),
        (["198.51.100.1", "203.0.113.5, 10.0.0.2"], "203.0.113.5"),
        (["garbage, 203.0.113.5,10.0.0.2"], "203.0.113.5"),
        (["10.9.9.9, 10.0.0.2"], "10.9.9.9"),
        (["2001:db8::1"], "2001:db8::1"),
        (["[2001:db8::1]:4711"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["203.0.113.5:4711"], "203.0.113.5"),
        (["::ffff:203.0.113.5"], "203.0.113.5"),
        (["203.0.113.5, ::ffff:10.0.0.2"], "203.0.113.5"),
    ],
)
def test_the_last_address_that_is_no_proxys(lists: list[str], client: str) -> None:
    """The lists are read from the end, as one, up to the first address that is not trusted."""
    assert seen("10.0.0.1", *lists) == client


@pytest.mark.parametrize(
    "text",
    ["", " ", "unknown", "_hidden", "203.0.113.5,", "203.0.113.5 10.0.0.2", "évil", "1.2.3.4:x"],
)
def test_what_makes_no_sense_leaves_the_peer(text: str) -> None:
    """A list with a malformed entry is not believed."""
    assert seen("10.0.0.1", text) == "10.0.0.1"


def test_an_endless_list_leaves_the_peer() -> None:
    """A list with too many proxies is not believed."""
    assert seen("10.0.0.1", "203.0.113.5, " + ", ".join(["10.0.0.2"] * 1000)) == "10.0.0.1"


@pytest.mark.parametrize("peer", ["203.0.113.9", "11.0.0.1", "fe80::1", "", "unix"])
def test_nobody_else_is_believed(peer: str) -> None:
    """The header of an untrusted address is ignored."""
    assert seen(peer, "10.0.0.7") == peer


def test_an_ipv4_mapped_peer_is_known() -> None:
    """An IPv4-mapped address, as dual-stack sockets report it, counts as IPv4."""
    assert seen("::ffff:10.0.0.1", "203.0.113.5") == "203.0.113.5"
    assert seen("::ffff:11.0.0.1", "203.0.113.5") == "11.0.0.1"


@pytest.mark.parametrize(
    ("proxies", "client"), [("192.0.2.0/24", "203.0.113.5"), ("198.51.100.0/24", "192.0.2.7")]
)
async def test_records_and_refusals_name_the_client(proxies: str, client: str) -> None:
    """Audit records and refusals name the forwarded address, if the proxy is trusted."""
    forwarded = {"x-forwarded-for": "198.51.100.9, 203.0.113.5"}
    async with open_scenario(settings={"GATEWAY_SERVER_TRUSTED_PROXIES": proxies}) as scenario:
        with structlog.testing.capture_logs() as lines:
            await scenario.ask(headers=forwarded)
            await scenario.ask(headers=forwarded, key="no-key-at-all-but-long-enough")

    assert [record.client for record in scenario.records] == [client]
    assert [line["client"] for line in lines if line["event"] == "refused"] == [client]


async def test_the_admin_listener_believes_nobody() -> None:
    """The admin listener logs the address of the connection."""
    async with open_scenario(
        settings={"GATEWAY_SERVER_TRUSTED_PROXIES": "192.0.2.0/24"}
    ) as scenario:
        with structlog.testing.capture_logs() as lines:
            forwarded = {"x-forwarded-for": "203.0.113.5"}
            await scenario.ask("/no/such", method="GET", headers=forwarded, is_admin=True)

    assert [line["client"] for line in lines if line["event"] == "refused"] == ["192.0.2.7"]
