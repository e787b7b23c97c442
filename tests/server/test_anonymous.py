"""Requests without a key from networks that need none: which are served, and which never."""

from __future__ import annotations

import attrs
import pytest
import structlog
import trio.testing

from ollama_gateway.keys.store import ImportedKey
from ollama_gateway.server.anonymous import Anonymous
from ollama_gateway.wire.networks import network_of
from tests.support.scenario import Reply, open_scenario

Clock = trio.testing.MockClock
KEY = "imported-key-of-the-editors"
PAGE = "https://chat.example.com"
ON = {
    "GATEWAY_AUTH_ANONYMOUS_NETWORKS": "192.0.2.0/24",
    "GATEWAY_AUTH_ANONYMOUS_KEY": KEY,
    "GATEWAY_SERVER_ALLOWED_ORIGINS": f"{PAGE},http://gateway.example.com:11435",
}
"""Settings with the network of the scenario's client."""


@attrs.frozen
class Outcome:
    """How one request ended."""

    reply: Reply
    keys: list[str]
    """The names of the keys in the audit records."""
    reasons: list[str]
    """The logged reasons for refusals before a key was known."""


async def ask(
    headers: dict[str, str] | None = None,
    *,
    path: str = "/api/chat",
    settings: dict[str, str] | None = None,
) -> Outcome:
    """Send one request without a key to a gateway with an anonymous key."""
    async with open_scenario(settings={**ON, **(settings or {})}) as scenario:
        scenario.store.add_imported([ImportedKey("editors", KEY, 1)])
        method = "GET" if path.endswith("tags") else "POST"
        with structlog.testing.capture_logs() as lines:
            reply = await scenario.ask(path, key=None, headers=headers or {}, method=method)
    reasons = [line["reason"] for line in lines if line["event"] == "refused"]
    return Outcome(reply, [record.key_name for record in scenario.records], reasons)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"x-api-key": ""},
        {"origin": PAGE},
        {"origin": "http://h"},
        {"host": "127.0.0.1:11435", "origin": "http://127.0.0.1:11435"},
        {"host": "[::1]:11435"},
        {"host": "localhost"},
        {"host": "ollama.internal"},
        {"host": "gateway.example.com:11435"},
    ],
)
async def test_no_key_is_the_anonymous_key(autojump_clock: Clock, headers: dict[str, str]) -> None:
    """A request without a key, from an allowed page or none, is served as the anonymous key."""
    outcome = await ask(headers)

    assert outcome.reply.status == 200
    assert outcome.keys == ["editors"]


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer no-key-at-all-but-long-enough"},
        {"authorization": "Bearer x"},
        {"authorization": "Basic dXNlcjpwYXNz"},
        {"authorization": KEY},
        {"x-api-key": "x"},
        {"api-key": "x"},
    ],
)
async def test_a_wrong_key_is_never_anonymous(
    autojump_clock: Clock, headers: dict[str, str]
) -> None:
    """A wrong credential is refused, also from such a network."""
    outcome = await ask(headers)

    assert (outcome.reply.status, outcome.reasons, outcome.keys) == (401, ["invalid_key"], [])


@pytest.mark.parametrize("path", ["/k/wrong-key-wrong-key-wrong/api/chat", "/k//api/chat"])
async def test_a_wrong_key_in_the_path_is_never_anonymous(autojump_clock: Clock, path: str) -> None:
    """A wrong or empty key in the path is refused."""
    outcome = await ask(path=path)

    assert (outcome.reply.status, outcome.reasons) == (401, ["invalid_key"])


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"origin": "https://evil.test"}, "foreign_origin"),
        ({"origin": "null"}, "foreign_origin"),
        ({"origin": "http://h:81"}, "foreign_origin"),
        ({"host": "evil.test:11435"}, "foreign_host"),
        ({"host": "evil.test:11435", "origin": "http://evil.test:11435"}, "foreign_host"),
        ({"host": "192.0.2.1.evil.test"}, "foreign_host"),
        ({"host": "localhost.evil.test"}, "foreign_host"),
        ({"host": "gateway.example.com"}, "foreign_host"),
    ],
)
async def test_a_page_of_elsewhere_is_not_anonymous(
    autojump_clock: Clock, headers: dict[str, str], reason: str
) -> None:
    """A request that a foreign page makes a browser send is refused, by origin or by host."""
    outcome = await ask(headers)

    assert (outcome.reply.status, outcome.reasons, outcome.keys) == (401, [reason], [])
    assert "access-control-allow-origin" not in outcome.reply.headers


async def test_a_hostile_page_can_read_nothing(autojump_clock: Clock) -> None:
    """An answer to a page without `Origin` has no CORS headers, so the page cannot read it."""
    outcome = await ask({"sec-fetch-site": "cross-site"}, path="/api/tags")

    assert not [name for name in outcome.reply.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    "settings",
    [
        {"GATEWAY_AUTH_ANONYMOUS_NETWORKS": "198.51.100.0/24"},
        {"GATEWAY_SERVER_TRUSTED_PROXIES": "192.0.2.7"},
        {"GATEWAY_AUTH_ANONYMOUS_NETWORKS": "", "GATEWAY_AUTH_ANONYMOUS_KEY": ""},
    ],
    ids=["elsewhere", "a proxy that says nothing", "off"],
)
async def test_from_elsewhere_a_key_is_needed(
    autojump_clock: Clock, settings: dict[str, str]
) -> None:
    """Another network, or a trusted proxy without X-Forwarded-For, gets the usual 401."""
    outcome = await ask(settings=settings)

    assert (outcome.reply.status, outcome.reasons) == (401, ["invalid_key"])


@pytest.mark.parametrize(
    ("forwarded", "status"), [("198.51.100.9", 200), ("203.0.113.9", 401), ("nonsense", 401)]
)
async def test_behind_a_proxy_the_client_counts(
    autojump_clock: Clock, forwarded: str, status: int
) -> None:
    """Behind a proxy the client's network counts, not the proxy's."""
    settings = {
        "GATEWAY_SERVER_TRUSTED_PROXIES": "192.0.2.7",
        "GATEWAY_AUTH_ANONYMOUS_NETWORKS": "192.0.2.0/24,198.51.100.0/24",
    }
    outcome = await ask({"x-forwarded-for": forwarded}, settings=settings)

    assert outcome.reply.status == status


async def test_an_anonymous_key_that_does_not_exist(autojump_clock: Clock) -> None:
    """An anonymous key that does not exist admits no request."""
    outcome = await ask(settings={"GATEWAY_AUTH_ANONYMOUS_KEY": "another-imported-key-text"})

    assert outcome.reply.status == 401


async def test_a_key_of_ones_own_stays_ones_own(autojump_clock: Clock) -> None:
    """A request with a key of its own is served as that key."""
    async with open_scenario(settings=ON) as scenario:
        await scenario.ask()

    assert [record.key_name for record in scenario.records] == ["tester"]


@pytest.mark.parametrize("client", ["", "unix", "/run/gateway.sock", "10.0.0", "::ffff:11.0.0.1"])
def test_no_address_is_in_no_network(client: str) -> None:
    """A client without an IP address is in no network."""
    everyone = Anonymous(KEY, (network_of("10.0.0.0/8"), network_of("::/0")))

    assert everyone.credential(client, [(b"host", b"h")], is_tls=False) is None


def test_with_tls_the_certificate_keeps_strangers_out() -> None:
    """With TLS any host is accepted, and its own origin, but no other origin."""
    anonymous = Anonymous(KEY, (network_of("10.0.0.1"),))
    host = (b"host", b"gateway.example.com")
    own, other = (b"origin", b"https://gateway.example.com"), (b"origin", b"https://evil.test")
    given = {
        headers: anonymous.credential("::ffff:10.0.0.1", list(headers), is_tls=True)
        for headers in ((host,), (host, own), (host, other))
    }

    assert list(given.values()) == [KEY, KEY, None]


def test_the_key_does_not_show() -> None:
    """The key is not in the repr."""
    assert KEY not in repr(Anonymous(KEY))
