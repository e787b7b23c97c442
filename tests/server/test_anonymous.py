"""Requests without a key from networks that need none: which are served, and which never."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import structlog

from ollama_gateway.keys.store import ImportedKey
from ollama_gateway.server.anonymous import Anonymous
from ollama_gateway.wire.networks import network_of
from tests.support.scenario import Reply, open_scenario

pytestmark = pytest.mark.virtual_time

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
async def test_no_key_is_the_anonymous_key(headers: dict[str, str]) -> None:
    """A request without a key, from an allowed page or none, is served as the anonymous key."""
    outcome = await ask(headers)

    assert outcome.reply.status == 200
    assert outcome.keys == ["editors"]


PROXY = {"GATEWAY_SERVER_TRUSTED_PROXIES": "192.0.2.7"}
BEHIND_IT = {**PROXY, "GATEWAY_AUTH_ANONYMOUS_NETWORKS": "192.0.2.0/24,198.51.100.0/24"}
"""The client's network counts behind a proxy, not the proxy's."""
OFF = {"GATEWAY_AUTH_ANONYMOUS_NETWORKS": "", "GATEWAY_AUTH_ANONYMOUS_KEY": ""}
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "a wrong key": ({"headers": {"authorization": "Bearer x"}}, "invalid_key"),
    "a wrong long key": (
        {"headers": {"authorization": "Bearer no-key-at-all-but-long-enough"}},
        "invalid_key",
    ),
    "another scheme": ({"headers": {"authorization": "Basic dXNlcjpwYXNz"}}, "invalid_key"),
    "no scheme": ({"headers": {"authorization": KEY}}, "invalid_key"),
    "a wrong x-api-key": ({"headers": {"x-api-key": "x"}}, "invalid_key"),
    "a wrong api-key": ({"headers": {"api-key": "x"}}, "invalid_key"),
    "a wrong key in the path": ({"path": "/k/wrong-key-wrong-key-wrong/api/chat"}, "invalid_key"),
    "an empty key in the path": ({"path": "/k//api/chat"}, "invalid_key"),
    "another origin": ({"headers": {"origin": "https://evil.test"}}, "foreign_origin"),
    "origin null": ({"headers": {"origin": "null"}}, "foreign_origin"),
    "another port": ({"headers": {"origin": "http://h:81"}}, "foreign_origin"),
    "another host": ({"headers": {"host": "evil.test:11435"}}, "foreign_host"),
    "another host and its page": (
        {"headers": {"host": "evil.test:11435", "origin": "http://evil.test:11435"}},
        "foreign_host",
    ),
    "a host that begins like ours": ({"headers": {"host": "192.0.2.1.evil.test"}}, "foreign_host"),
    "a host named localhost": ({"headers": {"host": "localhost.evil.test"}}, "foreign_host"),
    "our host at another port": ({"headers": {"host": "gateway.example.com"}}, "foreign_host"),
    "elsewhere": (
        {"settings": {"GATEWAY_AUTH_ANONYMOUS_NETWORKS": "198.51.100.0/24"}},
        "invalid_key",
    ),
    "a proxy that says nothing": ({"settings": PROXY}, "invalid_key"),
    "off": ({"settings": OFF}, "invalid_key"),
    "a key that does not exist": (
        {"settings": {"GATEWAY_AUTH_ANONYMOUS_KEY": "another-imported-key-text"}},
        "invalid_key",
    ),
    "elsewhere behind a proxy": (
        {"headers": {"x-forwarded-for": "203.0.113.9"}, "settings": BEHIND_IT},
        "invalid_key",
    ),
    "nonsense behind a proxy": (
        {"headers": {"x-forwarded-for": "nonsense"}, "settings": BEHIND_IT},
        "invalid_key",
    ),
}


@pytest.mark.parametrize(("asked", "reason"), REFUSED.values(), ids=REFUSED)
async def test_all_others_need_a_key(asked: dict[str, Any], reason: str) -> None:
    """A wrong key, a page of elsewhere, another network or a wrong setting get the usual 401."""
    outcome = await ask(**asked)
    assert (outcome.reply.status, outcome.reasons, outcome.keys) == (401, [reason], [])
    assert "access-control-allow-origin" not in outcome.reply.headers


async def test_behind_a_proxy_the_client_counts() -> None:
    """A client of such a network is served through a proxy that is in another."""
    outcome = await ask({"x-forwarded-for": "198.51.100.9"}, settings=BEHIND_IT)
    assert outcome.reply.status == 200


async def test_a_hostile_page_can_read_nothing() -> None:
    """An answer to a page without `Origin` has no CORS headers, so the page cannot read it."""
    outcome = await ask({"sec-fetch-site": "cross-site"}, path="/api/tags")

    assert not [name for name in outcome.reply.headers if name.startswith("access-control")]


async def test_a_key_of_ones_own_stays_ones_own() -> None:
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
