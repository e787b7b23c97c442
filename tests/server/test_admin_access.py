"""The admin listener answers to its own names only, or with a token to any name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio.testing

from ollama_gateway.metrics import Metrics
from ollama_gateway.processes.admin import MergedAdmin
from ollama_gateway.server.admin_access import AdminAccess
from ollama_gateway.server.app import App, AppConfig
from ollama_gateway.server.bodies import BodyBudget
from ollama_gateway.settings import load
from ollama_gateway.wire.hosts import name_in, name_of
from tests.http.serving import serving
from tests.processes.test_admin import READY, TOKEN, Answers, processes
from tests.support.scenario import Scenario, open_scenario

Clock = trio.testing.MockClock
GUARDED = ("/metrics", "/status.json", "/explain/m1", "/limits/nobody")
OWN = [
    *("localhost", "LocalHost:11436", "localhost.", "localhost.:1", "127.0.0.1", "127.0.0.1:9"),
    *(
        "127.255.1.2",
        "127.0.0.1.",
        "[::1]",
        "[::1]:11436",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
    ),
]
FOREIGN = [
    *("evil.example", "evil.example:11436", "localhost.evil.example", "localhost..", "localhost.x"),
    *("127.0.0.1.evil.example", "127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "0.0.0.1"),
    *("10.0.0.1", "[::2]", "[::]", "[::ffff:10.0.0.1]", "process", "h", "xlocalhost"),
]


async def status_of(scenario: Scenario, path: str, host: str, token: str | None = None) -> int:
    """Return the status of an admin route that is asked with this `Host`."""
    headers = {"host": host}
    return (
        await scenario.ask(path, method="GET", key=token, headers=headers, is_admin=True)
    ).status


async def test_without_a_token_by_its_own_names_alone(
    scenario: Scenario, autojump_clock: Clock
) -> None:
    """Without a token only loopback names are accepted, with any port and spelling."""
    for path in GUARDED:
        known = 404 if "nobody" in path else 200
        assert {await status_of(scenario, path, host) for host in OWN} == {known}
        assert {await status_of(scenario, path, host) for host in FOREIGN} == {421}
    reply = await scenario.ask(
        "/metrics", method="GET", key=None, headers={"host": "evil.example"}, is_admin=True
    )
    page = (await scenario.ask("/metrics", method="GET", is_admin=True)).body

    assert reply.document == {
        "error": "unknown host name: add it to server.admin_hosts, or set a token"
    }
    count = len(FOREIGN) * len(GUARDED) + 1
    assert f'ollama_gateway_refused_total{{reason="foreign_host"}} {count}.0' in page.decode()


async def test_probes_ask_by_any_name(scenario: Scenario, autojump_clock: Clock) -> None:
    """Probes may ask by any name."""
    for host in (*OWN, *FOREIGN):
        assert await status_of(scenario, "/healthz", host) == 200
        assert await status_of(scenario, "/readyz", host) == 200


async def test_names_of_the_settings(autojump_clock: Clock) -> None:
    """Names of `server.admin_hosts`, in any spelling, and the bound address are accepted."""
    settings = {
        "GATEWAY_SERVER_ADMIN_HOSTS": "Gateway.Example.,10.0.0.5,fd00:0::5,[fd00::6]",
        "GATEWAY_SERVER_ADMIN_BIND": "127.0.0.9:0",
    }
    async with open_scenario(settings=settings) as scenario:
        for host in ("gateway.example:9090", "10.0.0.5", "[fd00::5]", "[fd00::6]:1", "127.0.0.9"):
            assert await status_of(scenario, "/metrics", host) == 200
        assert await status_of(scenario, "/metrics", "www.gateway.example") == 421


async def test_with_a_token_any_name(autojump_clock: Clock) -> None:
    """With the token any name is accepted, and without it none."""
    async with open_scenario(settings={"GATEWAY_SERVER_ADMIN_TOKEN": TOKEN}) as scenario:
        for path in GUARDED:
            known = 404 if "nobody" in path else 200
            assert await status_of(scenario, path, "prometheus.example", TOKEN) == known
            assert await status_of(scenario, path, "localhost") == 401
            assert await status_of(scenario, path, "evil.example", "wrong") == 401


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GET /metrics HTTP/1.0\r\n", b"421"),
        (b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n", b"200"),
        (b"GET /healthz HTTP/1.0\r\n", b"200"),
        (b"GET /metrics HTTP/1.1\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nhost: evil.example\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nhost: localhost, evil.example\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nhost: localhost@evil.example\r\n", b"400"),
        (b"GET http://localhost/metrics HTTP/1.1\r\nhost: evil.example\r\n", b"400"),
        (b"GET http://evil.example/metrics HTTP/1.1\r\nhost: localhost\r\n", b"400"),
        (b"GET /metrics HTTP/1.1\r\nhost: evil.example\r\nx-forwarded-host: localhost\r\n", b"421"),
        (b"HEAD /metrics HTTP/1.1\r\nhost: evil.example\r\n", b"421"),
        (b"GET /k/key/metrics HTTP/1.1\r\nhost: evil.example\r\n", b"421"),
        (b"GET /none HTTP/1.1\r\nhost: evil.example\r\n", b"404"),
    ],
)
async def test_on_the_wire(tmp_path: Path, head: bytes, status: bytes) -> None:
    """The parent of several processes guards its admin listener as a single process does."""
    said = Answers({"/readyz": READY})
    async with processes(tmp_path, said) as roster:
        routes = MergedAdmin(roster, AdminAccess(), Metrics()).routes()
        async with serving(App(AppConfig(routes), BodyBudget(1, 1), Metrics())) as peer:
            answer = await peer.exchange(head + b"connection: close\r\n\r\n")

    assert answer.split(b" ")[1] == status


@pytest.mark.parametrize("path", ["/metrics", "/status.json", "/explain/m", "/limits/k", "/readyz"])
async def test_the_parent_asks_by_a_name_that_its_processes_know(tmp_path: Path, path: str) -> None:
    """The parent asks its processes by `localhost`, since they guard their listeners too."""
    asked: list[bytes] = []

    class Noting(Answers):
        async def _answer(self, ask: object) -> None:
            asked.extend(v for n, v in ask.headers if n == b"host")  # type: ignore[attr-defined]
            await super()._answer(ask)  # type: ignore[arg-type]

    said = Noting({"/readyz": READY, "/status.json": READY, "/explain/": {}, "/limits/": {}})
    async with processes(tmp_path, said) as roster:
        routes = MergedAdmin(roster, AdminAccess(TOKEN), Metrics()).routes()
        async with serving(App(AppConfig(routes), BodyBudget(1, 1), Metrics())) as peer:
            head = f"GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {TOKEN}\r\n"
            await peer.exchange(head.encode() + b"connection: close\r\n\r\n")

    assert asked == [b"localhost"]


def test_names_have_one_spelling(tmp_path: Path) -> None:
    """Names have one spelling in settings and headers; ports, wildcards and URLs are refused."""
    assert name_of("GPU.Example.") == name_in("gpu.example:80") == "gpu.example"
    assert name_of("fd00:0::1") == name_in("[FD00::1]:1") == "fd00::1"
    for text in ("", "*", "*.example", "a b", "http://a", "a:80", "a/b", "[::1]:1", "a@b", "-a"):
        assert name_of(text) is None
    assert name_in("fd00::1") is None
    loaded = load(environ={"GATEWAY_SERVER_ADMIN_HOSTS": json.dumps(["A.", "[::5]"])}, cwd=tmp_path)
    assert loaded.settings.server.admin_hosts == ("a", "::5")
