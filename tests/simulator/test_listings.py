"""Tags, ps and show: the fields of their entries, their order, and changes at run time."""

from __future__ import annotations

import datetime as dt
import math

import anyio
import trio.testing

from ollama_gateway.simulator import Model, Simulator, memory_server
from tests.simulator.client import ask, request

Clock = trio.testing.MockClock
OLD = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
CHAT = {"model": "m1", "messages": [{"role": "user", "content": "hi"}]}


async def test_a_tags_entry_has_the_recorded_fields() -> None:
    """The keys stand in the recorded order, the digest is 64 bare hex digits."""
    async with memory_server(Simulator([Model("m1")])) as connect:
        entry = (await ask(await connect(), "GET", "/api/tags")).document["models"][0]

    assert list(entry) == [
        *("name", "model", "modified_at", "size", "digest", "details", "capabilities"),
    ]
    assert entry["name"] == entry["model"] == "m1:latest"
    assert len(bytes.fromhex(entry["digest"])) == 32
    assert entry["modified_at"] == "2026-01-02T03:04:05Z"
    assert list(entry["details"]) == [
        *("parent_model", "format", "family", "families", "parameter_size"),
        *("quantization_level", "context_length", "embedding_length"),
    ]
    assert entry["capabilities"] == ["completion"]


async def test_listings_are_sorted_newest_first() -> None:
    """Tags and `/v1/models` have one order, by date; `owned_by` is the namespace."""
    simulator = Simulator([Model("old", modified_at=OLD), Model("me/new:v1")])
    async with memory_server(simulator) as connect:
        stream = await connect()
        tags = (await ask(stream, "GET", "/api/tags")).document["models"]
        models = (await ask(stream, "GET", "/v1/models")).document["data"]

    assert [entry["name"] for entry in tags] == ["me/new:v1", "old:latest"]
    assert [(entry["id"], entry["owned_by"]) for entry in models] == [
        ("me/new:v1", "me"),
        ("old:latest", "library"),
    ]
    assert models[1]["created"] == int(OLD.timestamp())


async def test_ps_tells_what_is_loaded_until_it_expires(
    autojump_clock: Clock,
) -> None:
    """A chat keeps its model loaded for five minutes after its end."""
    simulator = Simulator([Model("m1", between_tokens=10)])
    async with memory_server(simulator) as connect:
        stream = await connect()
        await ask(stream, "POST", "/api/chat", CHAT)
        loaded = (await ask(stream, "GET", "/api/ps")).document["models"]
        await anyio.sleep(299)
        still = (await ask(stream, "GET", "/api/ps")).document["models"]
        await anyio.sleep(1)
        gone = (await ask(stream, "GET", "/api/ps")).document["models"]

    assert list(loaded[0]) == [
        *("name", "model", "size", "digest", "details", "expires_at", "size_vram"),
        "context_length",
    ]
    assert [entry["name"] for entry in still] == ["m1:latest"]
    assert gone == []


async def test_a_model_in_use_is_not_unloaded(
    autojump_clock: Clock,
) -> None:
    """A model stays listed while an answer takes longer than its residency."""
    async with memory_server(Simulator([Model("m1", between_tokens=1000)])) as connect:
        stream = await connect()
        await stream.send(request("POST", "/api/chat", CHAT))
        await anyio.sleep(900)
        ps = await ask(await connect(), "GET", "/api/ps")

    assert [entry["name"] for entry in ps.document["models"]] == ["m1:latest"]


async def test_keep_alive_changes_the_residency(
    autojump_clock: Clock,
) -> None:
    """A duration keeps the model that long, a negative number for ever, and zero not at all."""
    simulator = Simulator([Model("m1")])
    async with memory_server(simulator) as connect:
        stream = await connect()
        left = []
        for keep in ("1h30m", -1, 0):
            await ask(stream, "POST", "/api/chat", CHAT | {"keep_alive": keep})
            left.append(simulator.loaded.get("m1:latest", 0) - anyio.current_time())

    assert left[:2] == [5400, math.inf]
    assert simulator.loaded == {}


async def test_load_and_unload_are_seen_by_ps(
    autojump_clock: Clock,
) -> None:
    """Models that a test loads are listed, the one that stays longest first."""
    simulator = Simulator([Model("a"), Model("b"), Model("c")])
    async with memory_server(simulator) as connect:
        simulator.load("a", 10)
        simulator.load("B", 20)
        simulator.load("c")
        simulator.unload("c:latest")
        ps = (await ask(await connect(), "GET", "/api/ps")).document["models"]

    assert [entry["name"] for entry in ps] == ["b:latest", "a:latest"]


async def test_show_has_what_clients_need() -> None:
    """`model_info` and capabilities are there, by `model` or by the older `name`."""
    async with memory_server(Simulator([Model("m1", capabilities=("embedding",))])) as connect:
        stream = await connect()
        one = await ask(stream, "POST", "/api/show", {"model": "m1"})
        other = await ask(stream, "POST", "/api/show", {"model": "", "name": "M1"})

    assert one.body == other.body
    assert list(one.document) == [
        *("modelfile", "template", "details", "model_info", "tensors", "capabilities"),
        "modified_at",
    ]
    assert one.document["model_info"]["llama.context_length"] == 8192
    assert one.document["capabilities"] == ["embedding"]


async def test_models_come_and_go() -> None:
    """An added model is served, a removed one is neither listed nor served, a ghost is listed."""
    simulator = Simulator([Model("m1"), Model("m2")])
    async with memory_server(simulator) as connect:
        stream = await connect()
        simulator.add_model(Model("m3"))
        simulator.remove_model("M2")
        simulator.ghost("m1")
        tags = (await ask(stream, "GET", "/api/tags")).document["models"]
        statuses = [
            (await ask(stream, "POST", "/api/chat", CHAT | {"model": name})).status
            for name in ("m1", "m2", "m3")
        ]

    assert sorted(entry["name"] for entry in tags) == ["m1:latest", "m3:latest"]
    assert statuses == [404, 404, 200]
