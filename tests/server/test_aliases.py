"""Aliases in lists and descriptions, in management, and where operators look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio.testing

from ollama_gateway.keys.key import ENDPOINT_GROUPS
from ollama_gateway.models.aliases import Aliases, alias_of
from ollama_gateway.simulator import Model, Simulator
from tests.flow.test_aliases import aliases
from tests.support.scenario import Reply, Scenario, open_scenario

Clock = trio.testing.MockClock
TABLE = {
    "gpt-4o": ["gone:1", "big:70b"],
    "claude-sonnet-4-5": "small:8b",
    "claude-*": "big:70b",
    "old:1": "big:70b",
    "big:70b": ["big:70b", "small:8b"],
    "nowhere": "gone:1",
    "far": "cloudy:1",
}
CLOUDY = Model("cloudy:1", remote="cloudy:cloud")


def simulators() -> dict[str, Simulator]:
    """Return two backends with three models."""
    return {
        "a": Simulator(
            [Model("big:70b", digest="b" * 64), Model("small:8b", digest="5" * 64), Model("old:1")]
        ),
        "b": Simulator([CLOUDY]),
    }


async def listed(scenario: Scenario, key: str = "") -> dict[str, dict[str, Any]]:
    """Return the entries of `/api/tags` by name; `/v1/models` has the same names."""
    tags = await scenario.ask("/api/tags", method="GET", key=key)
    cards = await scenario.ask("/v1/models", method="GET", key=key)
    entries = tags.document["models"]
    assert [e["name"] for e in entries] == [c["id"] for c in cards.document["data"] or ()]
    assert len({e["name"] for e in entries}) == len(entries)
    return {entry["name"]: entry for entry in entries}


@pytest.mark.parametrize(
    ("patterns", "names"),
    [
        (("*",), ["small:8b", "gpt-4o", "claude-sonnet-4-5", "old:1", "big:70b"]),
        (
            ("*", "*cloud"),
            ["small:8b", "cloudy:1", "gpt-4o", "claude-sonnet-4-5", "old:1", "big:70b", "far"],
        ),
        (("big:70b",), ["gpt-4o", "old:1", "big:70b"]),
        (("small:8b",), ["small:8b", "claude-sonnet-4-5", "big:70b"]),
        (("alias:gpt-*",), ["gpt-4o"]),
        (("alias:claude-*", "alias:far"), ["claude-sonnet-4-5"]),
        (("gpt-4o",), []),
    ],
)
async def test_exact_aliases_are_listed_behind_the_models(
    autojump_clock: Clock, patterns: tuple[str, ...], names: list[str]
) -> None:
    """A key sees those that it may use, and no model that one of them hides."""
    async with open_scenario(simulators(), settings=aliases(TABLE)) as scenario:
        _, key = scenario.store.create("narrow", patterns)
        assert list(await listed(scenario, key)) == names
        everything = await listed(scenario)
        assert list(await listed(scenario, key)) == names

    assert everything["gpt-4o"]["digest"] == everything["old:1"]["digest"] == "b" * 64
    assert everything["claude-sonnet-4-5"]["digest"] == "5" * 64
    assert everything["gpt-4o"] == {
        **everything["big:70b"],
        "name": "gpt-4o",
        "model": "gpt-4o",
    }


async def test_a_listed_name_can_be_used(autojump_clock: Clock) -> None:
    """Every name in a list is answered in a chat, with a description, and as a card."""
    async with open_scenario(simulators(), settings=aliases(TABLE)) as scenario:
        _, key = scenario.store.create("all", ("*", "alias:*"))
        for name in await listed(scenario, key):
            chat = {"model": name, "messages": [{"role": "user", "content": "hi"}]}
            replies = [
                await scenario.ask(body={**chat, "stream": False}, key=key),
                await scenario.ask("/api/show", {"model": name}, key=key),
                await scenario.ask(f"/v1/models/{name}", method="GET", key=key),
                await scenario.ask("/v1/messages/count_tokens", chat, key=key),
            ]
            assert [reply.status for reply in replies] == [200] * 4
            assert replies[0].document["model"] == replies[2].document["id"] == name


async def test_an_alias_leaves_the_lists_with_its_models(autojump_clock: Clock) -> None:
    """When the backend is down, its aliases are listed no more, and they return with it."""
    async with open_scenario(simulators(), settings=aliases(TABLE)) as scenario:
        before = list(await listed(scenario))
        scenario.simulators["a"].go_down()
        for _ in range(3):
            await scenario.poll()
        assert await listed(scenario) == {}
        scenario.simulators["a"].come_back()
        await scenario.poll()
        assert list(await listed(scenario)) == before


async def test_own_aliases_are_listed_for_their_key(autojump_clock: Clock) -> None:
    """Keys of equal rights see different lists if their aliases differ."""
    async with open_scenario(simulators(), settings=aliases({"gpt-4o": "big:70b"})) as scenario:
        own = Aliases((alias_of("mine", ["small:8b"]), alias_of("gpt-4o", ["small:8b"])))
        _, key = scenario.store.create("own", aliases=own)
        mine, all_others = await listed(scenario, key), await listed(scenario)

    assert list(mine) == ["big:70b", "small:8b", "old:1", "gpt-4o", "mine"]
    assert mine["gpt-4o"]["digest"] == "5" * 64
    assert list(all_others) == ["big:70b", "small:8b", "old:1", "gpt-4o"]


@pytest.mark.parametrize("name", ["gpt-4o", "claude-haiku-4-5-20251001"])
async def test_an_alias_is_described_as_its_model(autojump_clock: Clock, name: str) -> None:
    """A description is its model's, from the cache too, and names the alias alone."""
    async with open_scenario(simulators(), settings=aliases(TABLE)) as scenario:
        _, key = scenario.store.create("narrow", ("alias:*",))
        shows = [await scenario.ask("/api/show", {"name": name}, key=key) for _ in range(2)]
        cards = [await scenario.ask(f"/v1/models/{name}", method="GET", key=key) for _ in range(2)]
        real = await scenario.ask("/v1/models/big:70b", method="GET")
        asked = [seen.path for seen in scenario.simulators["a"].seen]

    assert {reply.document["id"] for reply in cards} == {name}
    assert {reply.headers["x-gateway-model"] for reply in (*shows, *cards)} == {"big:70b"}
    assert all(b"big:70b" not in reply.body for reply in (*shows, *cards))
    assert f"# FROM {name}\n" in shows[1].document["modelfile"]
    assert real.document["id"] == "big:70b"
    assert (asked.count("/api/show"), asked.count("/v1/models/big:70b")) == (1, 1)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/show", {"model": "gpt-4o"}),
        ("/v1/models/gpt-4o", None),
        ("/v1/messages/count_tokens", {"model": "gpt-4o", "messages": []}),
    ],
)
@pytest.mark.parametrize("patterns", [("small:8b", "gpt-4o"), ("alias:claude*",)])
async def test_without_a_right_there_is_no_description(
    autojump_clock: Clock, path: str, body: object, patterns: Sequence[str]
) -> None:
    """The answer is that for a name that does not exist."""
    method = "POST" if body else "GET"
    async with open_scenario(simulators(), settings=aliases(TABLE)) as scenario:
        _, key = scenario.store.create("narrow", tuple(patterns))
        reply = await scenario.ask(path, body, method=method, key=key)

    assert reply.status == 403
    assert b"model gpt-4o is not available to this key" in reply.body


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/pull", {"model": "gpt-4o"}),
        ("/api/push", {"name": "GPT-4o:latest"}),
        ("/api/create", {"model": "new", "from": "gpt-4o"}),
        ("/api/create", {"model": "gpt-4o", "from": "big:70b"}),
        ("/api/copy", {"source": "big:70b", "destination": "gpt-4o"}),
        ("/api/copy", {"source": "gpt-4o", "destination": "new"}),
        ("/api/delete", {"model": "old:1"}),
        ("/api/delete", {"model": "mine"}),
    ],
)
async def test_management_refuses_aliases(
    autojump_clock: Clock, path: str, body: dict[str, str]
) -> None:
    """A name that an alias hides cannot be made, changed or removed; nothing goes upstream."""
    async with open_scenario(simulators(), settings=aliases(TABLE)) as scenario:
        reply = await manage(scenario, path, body)
        asked = {seen.path for seen in scenario.simulators["a"].seen}

    assert reply.status == 400
    assert "is an alias here: name its model" in reply.document["error"]
    assert path not in asked


@pytest.mark.parametrize("name", ["claude-x:1", "big:70b"])
async def test_management_goes_by_what_is_not_hidden(autojump_clock: Clock, name: str) -> None:
    """Patterns hide no model, nor does an alias that names itself."""
    async with open_scenario(simulators(), settings=aliases(TABLE)) as scenario:
        reply = await manage(scenario, "/api/copy", {"source": "big:70b", "destination": name})
        listed_now = await listed(scenario)

    assert reply.status == 200
    assert name in listed_now


async def manage(scenario: Scenario, path: str, body: dict[str, str]) -> Reply:
    """Send a management request to a backend, with a key that has an alias of its own."""
    own = Aliases((alias_of("mine", ["small:8b"]),))
    _, key = scenario.store.create("ops", ("*",), frozenset(ENDPOINT_GROUPS), aliases=own)
    method = "DELETE" if path == "/api/delete" else "POST"
    return await scenario.ask(
        path, body, method=method, key=key, headers={"x-gateway-backend": "a"}
    )


async def test_a_model_that_is_hidden_is_logged(
    autojump_clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is logged once, when a backend begins to list it."""
    async with open_scenario(simulators(), settings=aliases(TABLE)) as scenario:
        for _ in range(3):
            await scenario.poll()
    lines = [line for line in capsys.readouterr().out.splitlines() if "hides" in line]

    assert len(lines) == 1
    assert "old:1" in lines[0]


@pytest.mark.parametrize(
    ("name", "key", "model", "alias", "candidates", "may_use"),
    [
        ("gpt-4o", "", "gone:1", "gpt-4o", [("big:70b", "a")], None),
        ("gpt-4o", "narrow", "big:70b", "gpt-4o", [("big:70b", "a")], True),
        ("claude-x", "", "big:70b", "claude-*", [("big:70b", "a")], None),
        (
            "claude-sonnet-4-5",
            "narrow",
            "small:8b",
            "claude-sonnet-4-5",
            [("small:8b", "a")],
            False,
        ),
        ("big:70b", "", "big:70b", "big:70b", [("big:70b", "a"), ("small:8b", "a")], None),
        ("cloudy:1", "narrow", "cloudy:1", None, [("cloudy:1", "b")], False),
        ("mine", "narrow", "big:70b", "mine", [("big:70b", "a")], True),
    ],
)
async def test_explain_tells_what_a_name_stands_for(
    autojump_clock: Clock,
    name: str,
    key: str,
    model: str,
    alias: str | None,
    candidates: list[tuple[str, str]],
    may_use: bool | None,  # noqa: FBT001 - of a table
) -> None:
    """It names the alias, its models, and the candidates for each of them in their order."""
    async with open_scenario(simulators(), settings=aliases(TABLE)) as scenario:
        own = Aliases((alias_of("mine", ["big:70b"]),))
        scenario.store.create("narrow", ("big:70b",), aliases=own)
        query = f"?key={key}" if key else ""
        reply = await scenario.ask(f"/explain/{name}{query}", method="GET", is_admin=True)
        found = reply.document

    assert (found["model"], found["alias"] and found["alias"]["name"]) == (model, alias)
    assert [(one["model"], one["backend"]) for one in found["candidates"]] == candidates
    assert [one["order"] for one in found["candidates"]] == list(range(1, len(candidates) + 1))
    assert (found["key"] and found["key"]["may_use"]) is may_use
