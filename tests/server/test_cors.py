"""Web pages of other origins can read answers only if their origin is allowed."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.scenario import CHAT, Reply, Scenario, open_scenario

pytestmark = pytest.mark.virtual_time

PAGE = "https://chat.example.com"
STRANGER = "https://evil.test"
ON = {"GATEWAY_SERVER_ALLOWED_ORIGINS": f"{PAGE},app://*"}
ASKED = (
    "authorization, content-type, x-requested-with, x-stainless-lang, x-stainless-new-one, "
    "openai-beta, openai-organization, openai-project, x-api-key, api-key, anthropic-version, "
    "anthropic-beta, anthropic-dangerous-direct-browser-access, x-gateway-backend"
)


@pytest.fixture
async def scenario() -> AsyncIterator[Scenario]:
    """A gateway that allows pages of two origins."""
    async with open_scenario(settings=ON) as opened:
        yield opened


async def preflight(scenario: Scenario, origin: str, path: str = "/api/chat") -> Reply:
    """Send the preflight of a browser for a page's request."""
    headers = {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": ASKED,
    }
    return await scenario.ask(path, b"", method="OPTIONS", key=None, headers=headers)


def granted(reply: Reply) -> dict[str, str]:
    """Return the CORS headers of an answer."""
    return {n: v for n, v in reply.headers.items() if n.startswith("access-control-")}


@pytest.mark.parametrize("path", ["/api/chat", "/v1/messages", "/k/some-key/api/tags", "/none"])
async def test_a_preflight_needs_no_key(scenario: Scenario, path: str) -> None:
    """A preflight needs no key and allows what Ollama's, OpenAI's and Anthropic's clients send."""
    reply = await preflight(scenario, PAGE, path)

    assert (reply.status, reply.body, reply.is_complete) == (204, b"", True)
    assert "content-length" not in reply.headers
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert reply.headers["vary"] == "Origin"
    assert int(reply.headers["access-control-max-age"]) > 0
    assert {"GET", "POST", "DELETE"} <= set(
        reply.headers["access-control-allow-methods"].split(", ")
    )
    allowed = reply.headers["access-control-allow-headers"].lower().split(", ")
    assert set(ASKED.split(", ")) <= set(allowed)
    assert "access-control-allow-credentials" not in reply.headers


async def test_a_header_that_nobody_sends_is_not_allowed(scenario: Scenario) -> None:
    """Only headers on the gateway's list are allowed, whatever the browser asks for."""
    headers = {
        "origin": PAGE,
        "access-control-request-method": "POST",
        "access-control-request-headers": "x-forwarded-for, cookie, x-stainless-",
    }
    reply = await scenario.ask(method="OPTIONS", key=None, headers=headers)

    allowed = reply.headers["access-control-allow-headers"].lower()
    assert not any(name in allowed for name in ("forwarded", "cookie", "stainless"))


@pytest.mark.parametrize("origin", [STRANGER, "null", f"{PAGE}.evil.test", f"{PAGE} {STRANGER}"])
async def test_foreign_origins_are_granted_nothing(scenario: Scenario, origin: str) -> None:
    """A foreign origin gets no preflight and no CORS headers, even with a valid key."""
    asked = await preflight(scenario, origin)
    served = await scenario.ask(headers={"origin": origin})

    assert asked.status == 405
    assert served.status == 200
    assert granted(asked) == granted(served) == {}
    assert served.headers["vary"] == "Origin"


async def test_off_by_default() -> None:
    """Without the setting no answer has CORS headers."""
    async with open_scenario() as without:
        asked = await preflight(without, PAGE)
        served = await without.ask(headers={"origin": PAGE})

    assert (asked.status, served.status) == (405, 200)
    assert granted(asked) == granted(served) == {}
    assert "vary" not in served.headers


@pytest.mark.parametrize(
    ("path", "body", "key", "extra", "status"),
    [
        ("/api/chat", CHAT, "", {}, 200),
        ("/v1/chat/completions", CHAT, "", {}, 200),
        ("/api/chat", {**CHAT, "model": "none"}, "", {}, 403),
        ("/api/chat", b"{", "", {}, 400),
        ("/api/chat", CHAT, None, {}, 401),
        ("/no/such", CHAT, "", {}, 404),
        ("/api/tags", CHAT, "", {}, 405),
        ("/api/chat", CHAT, "", {"content-length": "999999999999"}, 413),
        ("/api/chat", CHAT, "", {"content-encoding": "gzip"}, 415),
        ("/api/chat", CHAT, "", {"content_length": "1"}, 400),
    ],
)
async def test_every_answer_may_be_read(
    scenario: Scenario, path: str, body: object, key: str | None, extra: dict[str, str], status: int
) -> None:
    """An allowed page may read every answer, errors included."""
    reply = await scenario.ask(path, body, key=key, headers={"origin": PAGE, **extra})

    assert reply.status == status
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert reply.headers["vary"] == "Origin"
    exposed = reply.headers["access-control-expose-headers"].lower().split(", ")
    assert {"x-request-id", "retry-after", "x-gateway-backend"} <= set(exposed)


async def test_a_limits_headers_may_be_read() -> None:
    """All rate-limit headers are exposed, on a 429 too."""
    async with open_scenario(
        settings={**ON, "GATEWAY_LIMITS_REQUESTS_PER_MINUTE": "1"}
    ) as scenario:
        replies = [await scenario.ask(headers={"origin": PAGE}) for _ in range(2)]

    assert [reply.status for reply in replies] == [200, 429]
    for reply in replies:
        exposed = reply.headers["access-control-expose-headers"].lower().split(", ")
        said = {name for name in reply.headers if name.startswith("x-ratelimit-")}
        assert said
        assert said <= set(exposed)


async def test_an_origin_goes_no_further(scenario: Scenario) -> None:
    """The `Origin` is not passed to backends: Ollama refuses origins that it does not know."""
    await scenario.ask(headers={"origin": PAGE, "user-agent": "page"})
    seen = scenario.simulators["a"].seen[-1]

    assert seen.header("user-agent") == "page"
    assert seen.header("origin") is None


async def test_the_admin_listener_has_none(scenario: Scenario) -> None:
    """The admin listener never sends CORS headers."""
    reply = await scenario.ask(
        "/status.json", method="GET", headers={"origin": PAGE}, is_admin=True
    )

    assert reply.status == 200
    assert granted(reply) == {}
