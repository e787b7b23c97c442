"""One backend named by a header or in the path: all is its alone, for those who may manage."""

from __future__ import annotations

import pytest
import trio.testing

from ollama_gateway.simulator import Model, Script, Simulator
from tests.server.managing import Managed, managed

Clock = trio.testing.MockClock
SAY = [{"role": "user", "content": "hi"}]


def two() -> dict[str, Simulator]:
    """Two backends that share a model and have one each."""
    return {
        "a": Simulator([Model("shared:1"), Model("only-a:1")], version="0.33.0"),
        "b": Simulator([Model("shared:1"), Model("only-b:1")], version="0.32.0"),
    }


def cli(told: Managed, backend: str, path: str, key: str | None = None) -> str:
    """The path that the CLI asks for with `OLLAMA_HOST=http://gateway/k/KEY/b/BACKEND`."""
    return f"/k/{key or told.key}/b/{backend}{path}"


async def test_lists_are_those_of_one_backend(autojump_clock: Clock) -> None:
    """Tags, `/v1/models`, ps and the version are what that one says."""
    async with managed(two()) as told:
        told.told.simulators["b"].load("only-b:1")
        await told.told.poll()
        root = await told.ask(cli(told, "b", "/"), method="HEAD", key="-")
        tags = await told.ask(cli(told, "b", "/api/tags"), method="GET", key="-")
        cards = await told.ask(cli(told, "b", "/v1/models"), method="GET", key="-")
        running = await told.ask("/api/ps", method="GET", to="b")
        elsewhere = await told.ask("/api/ps", method="GET", to="a")
        versions = [(await told.ask("/api/version", method="GET", to=b)).document for b in "ab"]

    names = {"only-b:1", "shared:1"}
    assert root.status == 200
    assert {entry["name"] for entry in tags.document["models"]} == names
    assert {card["id"] for card in cards.document["data"]} == names
    assert [entry["name"] for entry in running.document["models"]] == ["only-b:1"]
    assert elsewhere.document == {"models": []}
    assert versions == [{"version": "0.33.0"}, {"version": "0.32.0"}]


async def test_inference_goes_there_and_nowhere_else(autojump_clock: Clock) -> None:
    """The preferred backend is passed by, and a failure is not made good by another one."""
    async with managed(two()) as told:
        body = {"model": "shared:1", "messages": SAY}
        good = await told.ask(cli(told, "b", "/api/chat"), body, key="-")
        show = await told.ask(cli(told, "b", "/api/show"), {"model": "only-b:1"}, key="-")
        elsewhere = await told.ask("/api/chat", {"model": "only-a:1", "messages": SAY}, to="b")
        told.told.simulators["b"].script(Script(status=500, error="broken"))
        failed = await told.ask("/api/chat", body, to="b")
        told.told.simulators["b"].go_down()
        for _ in range(3):
            await told.told.poll()
        down = await told.ask("/api/chat", body, to="b")
        listed = await told.ask("/api/tags", method="GET", to="b")

    statuses = [reply.status for reply in (good, show, elsewhere, failed, down, listed)]
    assert statuses == [200, 200, 403, 500, 503, 503]
    assert good.headers["x-gateway-backend"] == show.headers["x-gateway-backend"] == "b"
    assert told.paths("a") == []


async def test_a_stalled_one_gets_no_hedge(autojump_clock: Clock) -> None:
    """A hedge would be another backend's answer."""
    async with managed(two()) as told:
        for simulator in told.told.simulators.values():
            simulator.load("shared:1")
        await told.told.poll()
        told.told.simulators["b"].script(Script(before=10))
        reply = await told.ask("/api/chat", {"model": "shared:1", "messages": SAY}, to="b")

    assert (reply.status, reply.is_complete) == (200, True)
    assert told.paths("a") == []


@pytest.mark.parametrize("backend", ["a", "nobody", ""])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("HEAD", "/"),
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
    autojump_clock: Clock, method: str, path: str, backend: str
) -> None:
    """A key that may not manage gets the one 403 for a backend that exists and for none."""
    async with managed(two()) as told:
        body = {"model": "shared:1", "messages": SAY}
        plain = told.told.key
        by_path = await told.ask(cli(told, backend, path, plain), body, method=method, key="-")
        by_header = await told.ask(path, body, method=method, key=plain, to=backend)

    assert (by_path.status, by_header.status) == (403, 403)
    assert by_path.body == by_header.body
    assert told.paths("a") == told.paths("b") == []


async def test_the_right_to_manage_is_no_right_to_the_rest(autojump_clock: Clock) -> None:
    """A key for management alone names backends, and still lists and chats nothing."""
    async with managed(two()) as told:
        _, key = told.told.store.create("puller", ("*",), frozenset({"manage"}))
        tags = await told.ask("/api/tags", method="GET", key=key, to="a")
        chat = await told.ask("/api/chat", {"model": "shared:1"}, key=key, to="a")
        root = await told.ask("/", method="HEAD", key=key, to="a")

    assert (tags.status, chat.status, root.status) == (403, 403, 403)


async def test_a_name_is_said_once(autojump_clock: Clock) -> None:
    """Path and header together are two names, even where they agree; no key is a 401 first."""
    async with managed(two()) as told:
        both = await told.ask(cli(told, "a", "/api/tags"), method="GET", key="-", to="a")
        unknown = await told.ask(cli(told, "c", "/api/tags"), method="GET", key="-")
        nobody = await told.ask("/k/nobody/b/a/api/tags", method="GET", key="-")
        root = await told.ask("/b/a/", method="GET", key="wrong")

    assert (both.status, unknown.status, nobody.status, root.status) == (400, 400, 401, 401)
    assert unknown.document == {"error": "no such backend; there are a, b"}


async def test_errors_behind_the_prefix_speak_the_routes_dialect(autojump_clock: Clock) -> None:
    """A 404 is the router's text, and `/v1` errors are OpenAI's, whatever stands before them."""
    async with managed(two()) as told:
        missing = await told.ask(cli(told, "a", "/nope"), method="GET", key="-")
        v1 = await told.ask(cli(told, "c", "/v1/models"), method="GET", key="-")

    assert (missing.status, missing.body) == (404, b"404 page not found")
    assert v1.document["error"]["type"] == "invalid_request_error"


async def test_a_paused_backend_can_be_managed_and_gets_no_chat(autojump_clock: Clock) -> None:
    """A pause keeps requests away from a machine while its operator prepares it."""
    async with managed() as told:
        told.told.gateway.backends.pause(["b"])
        pull = await told.ask("/api/pull", {"model": "new:1"}, to="b")
        chat = await told.ask("/api/chat", {"model": "new:1", "messages": SAY}, to="b")

    assert (pull.status, chat.status) == (200, 503)
