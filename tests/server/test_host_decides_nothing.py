"""CVE-2026-49468: another gateway made a URL of the `Host` header and the path, and parsed it.

A `Host` with `#@` or `?` gave that URL another path than the one that was served, one that needs no
key. Here such a `Host` is a 400 before a route is looked up, and routes know the path alone.
"""

from __future__ import annotations

from typing import Final

import trio.testing

from tests.support.scenario import open_scenario

Clock = trio.testing.MockClock
HOSTS: Final = (
    "h#@localhost",
    "localhost#@h",
    "h/#@",
    "h/healthz?#@",
    "h/healthz#",
    "h?/",
    "h/?x=",
    "@localhost",
    "user:password@localhost:11436",
    "localhost\\@h",
    "127.0.0.1:11436#@h",
    "127.0.0.1/healthz",
    "localhost:1:2",
)
"""Hosts that would move the borders between the parts of a URL."""
ROUTES: Final = (
    ("POST", "/api/chat"),
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/messages"),
    ("DELETE", "/api/delete"),
    ("GET", "/api/tags"),
    ("GET", "/"),
)
ADMIN: Final = ("/healthz", "/readyz", "/metrics", "/status.json", "/limits/nobody")
REFUSED: Final = (400, "the Host header is malformed")


async def test_cve_2026_49468_no_such_host_reaches_a_route(autojump_clock: Clock) -> None:
    """With a key and without, nothing is served and nothing is asked of a backend."""
    async with open_scenario() as scenario:
        for host in HOSTS:
            for method, path in ROUTES:
                for key in ("", None):
                    headers = {"host": host}
                    reply = await scenario.ask(path, method=method, key=key, headers=headers)
                    assert reply.status == REFUSED[0], (host, path)
                    assert REFUSED[1].encode() in reply.body

    assert scenario.records == []


async def test_cve_2026_49468_no_such_host_reaches_the_admin_listener(
    autojump_clock: Clock,
) -> None:
    """A loopback name beside `#@` opens nothing, not even a probe."""
    async with open_scenario() as scenario:
        for host in HOSTS:
            for path in ADMIN:
                reply = await scenario.ask(
                    path, method="GET", key=None, headers={"host": host}, is_admin=True
                )
                assert (reply.status, reply.document["error"]) == REFUSED, (host, path)
