"""Descriptions of a model: the backend's own bytes, cached by digest, without paths."""

from __future__ import annotations

import json

import pytest
import trio.testing

from ollama_gateway.flow.showing import Shown, ShownCache
from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.wire.names import ModelName
from tests.server.managing import managed

Clock = trio.testing.MockClock
SHOW = {"model": "shared:1"}
MODEL = ModelName.parse("shared:1")
COPILOT = [("user-agent", "GitHubCopilotChat/0.24")]
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=utf-8\r\ncontent-length: "


def saying(body: bytes) -> Script:
    """Return a backend's answer with exactly this body."""
    return Script(raw=HEAD + b"%d\r\n\r\n%b" % (len(body), body))


async def test_who_may_manage_gets_every_byte(autojump_clock: Clock) -> None:
    """Odd spaces, unknown fields and numbers of any length pass unchanged."""
    body = b'{ "modelfile":"FROM /m/blobs/sha256-ab",\n "new":1.10e+2, "model_info":{} }'
    async with managed() as client:
        client.scenario.simulators["a"].script(saying(body), path="/api/show")
        reply = await client.ask("/api/show", SHOW)

    assert (reply.status, reply.body) == (200, body)
    assert reply.headers["content-type"] == "application/json; charset=utf-8"


async def test_others_get_no_paths(autojump_clock: Clock) -> None:
    """The paths of layers are hidden; all other bytes stay, in the same cached answer."""
    async with managed() as client:
        full = await client.ask("/api/show", SHOW)
        less = await client.ask("/api/show", SHOW, key=client.scenario.key)
        asked = client.paths("a")

    assert b"FROM /models/blobs/sha256-" in full.body
    assert less.body == full.body.replace(b"FROM /models/blobs/", b"FROM ")
    assert asked == ["/api/show"]


async def test_answers_are_kept_by_all_they_depend_on(autojump_clock: Clock) -> None:
    """The same request is asked once; another model, body or client is a new request."""
    async with managed({"a": Simulator([Model("shared:1"), Model("other:1")])}) as client:
        for _ in range(3):
            await client.ask("/api/show", SHOW)
        once = len(client.paths("a"))
        verbose = await client.ask("/api/show", {**SHOW, "verbose": True})
        other = await client.ask("/api/show", {"model": "other:1"})
        client.scenario.simulators["a"].script(
            saying(b'{"basename":1,"model_info":{}}'), path="/api/show"
        )
        copilot = [await client.ask("/api/show", SHOW, headers=COPILOT) for _ in range(2)]
        agent = client.scenario.simulators["a"].seen[-1].header("user-agent")
        plain = await client.ask("/api/show", SHOW)

        assert once == 1
        assert len(client.paths("a")) == 4
    assert agent == COPILOT[0][1]
    assert b"other:1" in other.body
    assert verbose.status == 200
    assert ["basename" in reply.document for reply in (*copilot, plain)] == [True, True, False]


async def test_a_new_digest_is_asked_anew(autojump_clock: Clock) -> None:
    """A model that was pulled again under its name gets a new description."""
    async with managed({"a": Simulator([Model("shared:1", digest="a" * 64)])}) as client:
        old = await client.ask("/api/show", SHOW)
        client.scenario.simulators["a"].add_model(Model("shared:1", digest="b" * 64))
        await client.scenario.poll()
        new = await client.ask("/api/show", SHOW)

    assert (b"a" * 64 in old.body, b"b" * 64 in new.body) == (True, True)


async def test_what_fails_is_not_kept(autojump_clock: Clock) -> None:
    """The next backend makes up for a failure, and an error is asked again."""
    async with managed({"a": Simulator([Model("shared:1")])}) as client:
        client.scenario.simulators["a"].script(Script(status=500, error="oops"), path="/api/show")
        failed = await client.ask("/api/show", SHOW)
        good = await client.ask("/api/show", SHOW)

    assert (failed.status, good.status) == (500, 200)


async def test_one_card(autojump_clock: Clock) -> None:
    """`/v1/models/{id}` has the id as written, and the time and owner as listed."""
    async with managed({"a": Simulator([Model("shared:1"), Model("me/m:v1")])}) as client:
        cards = (await client.ask("/v1/models", method="GET")).document["data"]
        card = await client.ask("/v1/models/SHARED:1", method="GET")
        again = await client.ask("/v1/models/SHARED:1", method="GET")
        encoded = await client.ask("/v1/models/shared%3A1", method="GET")
        slash = await client.ask("/v1/models/me%2Fm:v1", method="GET")
        asked = client.paths("a")

    listed = next(card for card in cards if card["id"] == "shared:1")
    assert card.document == {**listed, "id": "SHARED:1"}
    assert card.body == again.body
    assert card.body.endswith(b"\n")
    assert card.headers["content-type"] == "application/json"
    assert (encoded.document, slash.status) == (listed, 404)
    assert asked == ["/v1/models/SHARED:1", "/v1/models/shared:1"]


async def test_a_model_that_is_down(autojump_clock: Clock) -> None:
    """A known model that is down is a 503, an unknown one the 403, on both routes."""
    async with managed({"a": Simulator([Model("shared:1")])}) as client:
        client.scenario.simulators["a"].go_down()
        for _ in range(3):
            await client.scenario.poll()
        down = [
            await client.ask("/api/show", SHOW),
            await client.ask("/v1/models/shared:1", method="GET"),
        ]
        unknown = [
            await client.ask("/api/show", {"model": "none"}),
            await client.ask("/v1/models/none", method="GET"),
        ]

    assert [reply.status for reply in down] == [503, 503]
    assert [reply.status for reply in unknown] == [403, 403]
    assert unknown[1].document["error"]["type"] == "api_error"


async def test_a_cloud_model_is_asked_for_each_time(autojump_clock: Clock) -> None:
    """It is in no list, so a change would go unnoticed; only a cloud pattern allows it."""
    async with managed(models=("*", "gpt*cloud")) as client:
        client.scenario.simulators["a"].script(
            saying(b'{"owned_by":"x"}'), path="/v1/models/gpt-oss:20b-cloud", times=None
        )
        for _ in range(2):
            reply = await client.ask("/v1/models/gpt-oss:20b-cloud", method="GET")
            assert (reply.status, reply.document) == (200, {"owned_by": "x"})
        refused = await client.ask(
            "/v1/models/gpt-oss:cloud", method="GET", key=client.scenario.key
        )

        assert len(client.paths("a")) == 2
    assert refused.status == 403


@pytest.mark.parametrize("size", [10, 1000])
def test_the_cache_is_bounded(size: int) -> None:
    """The least recently used answers are dropped, and a very large one is not cached."""
    cache = ShownCache(limit=20_000)
    shown = Shown(MODEL, "a", [], b"x" * size)
    keys = [(f"{number}", "0.33", "/api/show", b"{}", False) for number in range(30)]
    cache.put(keys[0], shown)
    for key in keys[1:]:
        assert cache.get(keys[0]) is shown
        cache.put(key, shown)
    kept = [key for key in keys if cache.get(key)]

    assert keys[0] in kept
    assert keys[-1] in kept
    assert len(kept) == 20_000 // (size + 2 + 1024)
    large = ("large", "0.33", "/api/show", b"{}", False)
    cache.put(large, Shown(MODEL, "a", [], b"x" * 3000))
    assert cache.get(large) is None


def test_nothing_is_kept_twice() -> None:
    """An answer that replaces another counts once."""
    cache = ShownCache(limit=10_000)
    key = ("d", "0.33", "/api/show", json.dumps(SHOW).encode(), False)
    for _ in range(100):
        cache.put(key, Shown(MODEL, "a", [], b"x" * 100))

    assert cache.get(key) is not None
