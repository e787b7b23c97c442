"""Clients can list the union of the models that their key may use."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from ollama_gateway.simulator import Model, Simulator
from tests.support.scenario import Scenario, open_scenario

pytestmark = pytest.mark.virtual_time


@pytest.fixture
async def scenario() -> AsyncIterator[Scenario]:
    """Two backends that share a model and have one more each."""
    simulators = {
        "a": Simulator([Model("shared:1"), Model("llama3:8b")]),
        "b": Simulator([Model("shared:1"), Model("qwen:7b")]),
    }
    async with open_scenario(simulators) as opened:
        yield opened


async def names(scenario: Scenario, key: str = "") -> list[str]:
    """Return the names in `/api/tags`, sorted."""
    reply = await scenario.ask("/api/tags", method="GET", key=key)
    return sorted(entry["name"] for entry in reply.document["models"])


async def test_the_union_is_listed_once(scenario: Scenario) -> None:
    """A model on two backends is listed once; `/v1/models` shows the same models."""
    listed = await names(scenario)
    cards = (await scenario.ask("/v1/models", method="GET")).document

    assert listed == ["llama3:8b", "qwen:7b", "shared:1"]
    assert sorted(card["id"] for card in cards["data"]) == listed
    assert {card["owned_by"] for card in cards["data"]} == {"library"}
    assert all(card["created"] > 0 for card in cards["data"])


async def test_a_key_sees_what_it_may_use(scenario: Scenario) -> None:
    """A key sees only the models that it may use."""
    _, key = scenario.store.create("narrow", ("llama*",))

    assert await names(scenario, key) == ["llama3:8b"]
    assert (await scenario.ask("/v1/models/qwen:7b", method="GET", key=key)).status == 403
    assert (await scenario.ask("/v1/models/llama3:8b", method="GET", key=key)).status == 200


async def test_an_empty_v1_list_is_null() -> None:
    """An empty list is `"data":null` in `/v1/models` and `[]` in tags, as in Ollama."""
    async with open_scenario({"a": Simulator([])}) as scenario:
        tags = await scenario.ask("/api/tags", method="GET")
        cards = await scenario.ask("/v1/models", method="GET")

    assert (tags.body, cards.body) == (b'{"models":[]}', b'{"object":"list","data":null}\n')


async def test_models_leave_the_lists_and_return(scenario: Scenario) -> None:
    """After three failed polls models leave the lists but stay known; they return with a poll."""
    scenario.simulators["b"].go_down()
    for _ in range(3):
        assert "qwen:7b" in await names(scenario)
        await scenario.poll()
    assert await names(scenario) == ["llama3:8b", "shared:1"]
    down = await scenario.ask(body={"model": "qwen:7b", "messages": []})

    scenario.simulators["b"].come_back()
    await scenario.poll()
    up = await scenario.ask(body={"model": "qwen:7b", "messages": []})

    assert (down.status, up.status) == (503, 200)
    assert int(down.headers["retry-after"]) > 0
    assert scenario.records[0].reason == "backends_down"


async def test_version_and_root() -> None:
    """The lowest version is reported, and the root needs no key."""
    old, new = Simulator([], version="0.9.1"), Simulator([], version="0.33.0")
    async with open_scenario({"a": new, "b": old}) as scenario:
        version = await scenario.ask("/api/version", method="GET")
        root = await scenario.ask("/", method="GET", key=None)

    assert version.document == {"version": "0.9.1"}
    assert (root.status, root.body) == (200, b"Ollama is running")


async def test_loaded_models(scenario: Scenario) -> None:
    """`/api/ps` shows the models that are loaded on any backend."""
    await scenario.ask(body={"model": "qwen:7b", "messages": [{"role": "user", "content": "x"}]})
    await scenario.poll()
    running = (await scenario.ask("/api/ps", method="GET")).document["models"]

    assert [entry["name"] for entry in running] == ["qwen:7b"]


async def test_show_comes_from_a_backend_and_leaves_no_record(scenario: Scenario) -> None:
    """`/api/show` accepts the legacy `name`, which the CLI sends, and is not audited."""
    reply = await scenario.ask("/api/show", {"model": "", "name": "qwen:7b"})

    assert reply.status == 200
    assert "model_info" in reply.document
    assert scenario.records == []


@pytest.mark.parametrize(
    ("method", "path", "status", "allow"),
    [
        ("GET", "/api/chat", 405, "POST"),
        ("POST", "/api/tags", 405, "HEAD, GET"),
        ("HEAD", "/api/ps", 405, "GET"),
        ("GET", "/nope", 404, None),
        ("GET", "/API/tags", 404, None),
        ("GET", "/v1/models/library/m1", 404, None),
        ("GET", "/healthz", 404, None),
        ("GET", "/metrics", 404, None),
        ("GET", "/k/some-key", 200, None),
    ],
)
async def test_routes_answer_as_ollamas_router(
    scenario: Scenario, method: str, path: str, status: int, allow: str | None
) -> None:
    """Unknown paths and wrong methods get plain text; admin routes are unknown here."""
    reply = await scenario.ask(path, method=method)

    assert (reply.status, reply.headers.get("allow")) == (status, allow)
    assert status == 200 or reply.headers["content-type"] == "text/plain"


async def test_a_list_is_made_once_for_equal_rights() -> None:
    """Keys with the same patterns share a list until a model changes; polls change nothing."""
    gone = Simulator([Model("shared:1"), Model("llama3:8b")])
    async with open_scenario({"a": gone}) as scenario:
        _, narrow = scenario.store.create("narrow", ("llama*",))
        _, alike = scenario.store.create("alike", ("llama*",))
        before = await scenario.ask("/api/tags", method="GET", key=narrow)
        first = scenario.gateway.backends.catalog.models
        gone.load("llama3:8b")
        await scenario.poll()
        again = await scenario.ask("/api/tags", method="GET", key=alike)
        assert scenario.gateway.backends.catalog.models is first
        assert "llama3:8b" in (await scenario.ask("/api/ps", method="GET")).body.decode()

        gone.remove_model("llama3:8b")
        await scenario.poll()
        after = await scenario.ask("/api/tags", method="GET", key=alike)

    assert before.body == again.body
    assert after.body == b'{"models":[]}'
