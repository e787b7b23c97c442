"""A key that may manage can name one backend, by header or path; only that one is asked."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ollama_gateway.simulator import Model, Script, Simulator
from tests.server.managing import ManagingClient, managed

pytestmark = pytest.mark.virtual_time

SAY = [{"role": "user", "content": "hi"}]


@pytest.fixture
async def client() -> AsyncIterator[ManagingClient]:
    """A client that may manage two backends, which share a model and have one more each."""
    simulators = {
        "a": Simulator([Model("shared:1"), Model("only-a:1")], version="0.33.0"),
        "b": Simulator([Model("shared:1"), Model("only-b:1")], version="0.32.0"),
    }
    async with managed(simulators) as opened:
        yield opened


def cli(client: ManagingClient, backend: str, path: str, key: str | None = None) -> str:
    """Return the CLI's path with `OLLAMA_HOST=http://gateway/k/KEY/b/BACKEND`."""
    return f"/k/{key or client.key}/b/{backend}{path}"


async def test_lists_are_those_of_one_backend(client: ManagingClient) -> None:
    """Tags, `/v1/models`, ps and the version are those of the named backend."""
    client.scenario.simulators["b"].load("only-b:1")
    await client.scenario.poll()
    root = await client.ask(cli(client, "b", "/"), method="HEAD", key="-")
    tags = await client.ask(cli(client, "b", "/api/tags"), method="GET", key="-")
    cards = await client.ask(cli(client, "b", "/v1/models"), method="GET", key="-")
    running = await client.ask("/api/ps", method="GET", to="b")
    elsewhere = await client.ask("/api/ps", method="GET", to="a")
    versions = [(await client.ask("/api/version", method="GET", to=b)).document for b in "ab"]

    names = {"only-b:1", "shared:1"}
    assert root.status == 200
    assert {entry["name"] for entry in tags.document["models"]} == names
    assert {card["id"] for card in cards.document["data"]} == names
    assert [entry["name"] for entry in running.document["models"]] == ["only-b:1"]
    assert elsewhere.document == {"models": []}
    assert versions == [{"version": "0.33.0"}, {"version": "0.32.0"}]


async def test_inference_goes_there_and_nowhere_else(client: ManagingClient) -> None:
    """Inference goes to the named backend only: no preference and no failover."""
    body = {"model": "shared:1", "messages": SAY}
    good = await client.ask(cli(client, "b", "/api/chat"), body, key="-")
    show = await client.ask(cli(client, "b", "/api/show"), {"model": "only-b:1"}, key="-")
    elsewhere = await client.ask("/api/chat", {"model": "only-a:1", "messages": SAY}, to="b")
    client.scenario.simulators["b"].script(Script(status=500, error="broken"))
    failed = await client.ask("/api/chat", body, to="b")
    client.scenario.simulators["b"].go_down()
    for _ in range(3):
        await client.scenario.poll()
    down = await client.ask("/api/chat", body, to="b")
    listed = await client.ask("/api/tags", method="GET", to="b")

    statuses = [reply.status for reply in (good, show, elsewhere, failed, down, listed)]
    assert statuses == [200, 200, 403, 500, 503, 503]
    assert good.headers["x-gateway-backend"] == show.headers["x-gateway-backend"] == "b"
    assert client.paths("a") == []


async def test_a_stalled_one_gets_no_hedge(client: ManagingClient) -> None:
    """A stalled named backend gets no hedge."""
    for simulator in client.scenario.simulators.values():
        simulator.load("shared:1")
    await client.scenario.poll()
    client.scenario.simulators["b"].script(Script(before=10))
    reply = await client.ask("/api/chat", {"model": "shared:1", "messages": SAY}, to="b")

    assert (reply.status, reply.is_complete) == (200, True)
    assert client.paths("a") == []


@pytest.mark.parametrize("backend", ["a", "nobody", ""])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/api/tags"),
        ("GET", "/v1/models"),
        ("GET", "/v1/models/shared:1"),
        ("GET", "/api/version"),
        ("POST", "/api/chat"),
        ("POST", "/api/show"),
        ("POST", "/v1/chat/completions"),
    ],
)
async def test_without_the_right_every_name_is_the_same(
    client: ManagingClient, method: str, path: str, backend: str
) -> None:
    """A key that may not manage gets the same 403 for known and unknown backends."""
    body = {"model": "shared:1", "messages": SAY}
    plain = client.scenario.key
    by_path = await client.ask(cli(client, backend, path, plain), body, method=method, key="-")
    by_header = await client.ask(path, body, method=method, key=plain, to=backend)

    assert (by_path.status, by_header.status) == (403, 403)
    assert by_path.body == by_header.body
    assert client.paths("a") == client.paths("b") == []


@pytest.mark.parametrize("backend", ["a", "nobody", ""])
@pytest.mark.parametrize("key", ["wrong", ""])
async def test_the_first_question_of_the_cli_is_never_refused(
    client: ManagingClient, backend: str, key: str
) -> None:
    """`HEAD /` has no room for a reason, so the CLI shows that of its next request."""
    client.scenario.simulators["a"].go_down()
    for _ in range(3):
        await client.scenario.poll()
    name = key or client.scenario.key
    first = await client.ask(cli(client, backend, "/", name), method="HEAD", key="-")
    second = await client.ask(cli(client, backend, "/api/tags", name), method="GET", key="-")

    assert first.status == 200
    assert second.status in {401, 403}
    assert second.document["error"]


async def test_the_right_to_manage_is_no_right_to_the_rest(client: ManagingClient) -> None:
    """A key with `manage` alone can neither list nor chat."""
    _, key = client.scenario.store.create("puller", ("*",), frozenset({"manage"}))
    tags = await client.ask("/api/tags", method="GET", key=key, to="a")
    chat = await client.ask("/api/chat", {"model": "shared:1"}, key=key, to="a")
    root = await client.ask("/", method="GET", key=key, to="a")

    assert (tags.status, chat.status, root.status) == (403, 403, 403)


async def test_a_name_is_said_once(client: ManagingClient) -> None:
    """Path and header together are two names, even if equal; a bad key is a 401 first."""
    both = await client.ask(cli(client, "a", "/api/tags"), method="GET", key="-", to="a")
    unknown = await client.ask(cli(client, "c", "/api/tags"), method="GET", key="-")
    nobody = await client.ask("/k/nobody/b/a/api/tags", method="GET", key="-")
    root = await client.ask("/b/a/", method="GET", key="wrong")

    assert (both.status, unknown.status, nobody.status, root.status) == (400, 400, 401, 401)
    assert unknown.document == {"error": "no such backend; there are a, b"}


async def test_errors_behind_the_prefix_speak_the_routes_dialect(client: ManagingClient) -> None:
    """Errors behind the prefix use the dialect of the route after it."""
    missing = await client.ask(cli(client, "a", "/nope"), method="GET", key="-")
    v1 = await client.ask(cli(client, "c", "/v1/models"), method="GET", key="-")

    assert (missing.status, missing.body) == (404, b"404 page not found")
    assert v1.document["error"]["type"] == "invalid_request_error"


async def test_a_paused_backend_can_be_managed_and_gets_no_chat() -> None:
    """A paused backend can be managed but gets no chat."""
    async with managed() as client:
        client.scenario.gateway.backends.pause(["b"])
        pull = await client.ask("/api/pull", {"model": "new:1"}, to="b")
        chat = await client.ask("/api/chat", {"model": "new:1", "messages": SAY}, to="b")

    assert (pull.status, chat.status) == (200, 503)


async def test_an_account_is_that_of_a_named_backend(client: ManagingClient) -> None:
    """`/api/me` goes to the backend that the request names; else a 403 says how to name one."""
    named = await client.ask("/api/me", to="b")
    unnamed = await client.ask("/api/me")
    other = await client.ask("/api/me", key=client.scenario.key)
    asked = [client.paths(name) for name in "ab"]

    assert named.status == 401
    assert "signin_url" in named.document
    assert (unnamed.status, other.status) == (403, 403)
    assert "/k/KEY/b/NAME" in unnamed.document["error"]
    assert asked == [[], ["/api/me"]]
