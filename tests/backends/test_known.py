"""Models that were deleted, share weights, run elsewhere, or are on a silent machine."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import trio
import trio.testing

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.backends import Backends, ModelDown, ModelUnknown
from ollama_gateway.backends.catalog import Listing, ModelEntry
from ollama_gateway.simulator import Model, Script, Simulator
from ollama_gateway.wire.names import ModelName
from tests.backends.asking import UNUSED
from tests.backends.test_catalog import entry, listing
from tests.support.scenario import CHAT, open_scenario

Clock = trio.testing.MockClock
M = ModelName.parse("m:1")
DAY = 24 * 3600.0


def two(**more: Any) -> tuple[Backends, Backend, Backend]:
    """Return two backends that both list `m:1`."""
    known = Backends.of(Backend(name, httpx.URL("http://h"), UNUSED, **more) for name in "ab")
    for backend in known.all:
        known.polled(backend, listing(entry("m:1")), 0)
    a, b = known.all
    return known, a, b


def lose(known: Backends, backend: Backend) -> None:
    """Record three failed polls."""
    for _ in range(3):
        known.failed(backend, "no answer")


def test_a_model_that_was_deleted_is_unknown_at_once() -> None:
    """A model that no backend lists any more is unknown."""
    known, a, b = two()
    known.polled(a, listing(), 1)
    known.check(M, 1)
    known.polled(b, listing(), 2)

    with pytest.raises(ModelUnknown):
        known.check(M, 2)


def test_a_model_of_a_backend_that_is_down_is_down_for_a_day() -> None:
    """A model of a backend that is down may come back with it for a day."""
    known, a, b = two()
    known.polled(a, listing(), 1)
    lose(known, b)

    with pytest.raises(ModelDown):
        known.check(M, DAY - 1)
    with pytest.raises(ModelUnknown):
        known.check(M, DAY + 1)


def test_a_backend_that_lacks_what_it_lists_hosts_it_no_more() -> None:
    """A backend's 404 for a listed model counts until its next poll."""
    known, a, b = two()
    known.lost(a, M)
    known.lost(b, M)

    with pytest.raises(ModelUnknown):
        known.check(M, 0)


async def test_attempts_end_where_another_backend_has_the_model() -> None:
    """The third failed poll ends attempts only if another backend could serve them now."""
    known, a, b = two()
    elsewhere, alone, any_ = trio.CancelScope(), trio.CancelScope(), trio.CancelScope()
    a.unanswered |= {elsewhere: M, alone: ModelName.parse("only-here:1"), any_: None}

    b.is_paused = True
    lose(known, a)
    assert (elsewhere.cancel_called, alone.cancel_called, any_.cancel_called) == (
        False,
        False,
        True,
    )
    b.is_paused = False
    known.failed(a, "no answer")

    assert (elsewhere.cancel_called, alone.cancel_called) == (True, False)


async def test_the_only_machine_is_waited_for_while_it_computes(autojump_clock: Clock) -> None:
    """A silent machine finishes its request if no other has the model; new requests get a 503."""
    simulator = Simulator([Model("m1:latest")])
    async with open_scenario({"a": simulator}) as scenario, trio.open_nursery() as nursery:
        simulator.script(Script(before=9))

        async def be_silent() -> None:
            await trio.sleep(2)
            lose(scenario.gateway.backends, scenario.gateway.backends.all[0])
            later = await scenario.ask()
            assert later.status == 503

        nursery.start_soon(be_silent)
        reply = await scenario.ask(body={**CHAT, "stream": False})

    assert (reply.status, reply.ended_at) == (200, 9)


def test_a_copy_from_redis_is_bound_by_the_settings() -> None:
    """A restored listing is limited to the backend's `models`."""
    known = Backends.of([Backend("a", httpx.URL("http://h"), UNUSED, patterns=("m*",))])
    seen = Listing.read(
        {"version": "1"},
        {"models": [entry("m:1"), entry("secret:1")]},
        {"models": [entry("secret:1"), entry("m:1")]},
        ("*",),
    )
    known.restore(known.all[0], seen, 0)

    assert [e["name"] for e in known.catalog.models.values()] == ["m:1"]
    assert [e["name"] for e in known.catalog.running.values()] == ["m:1"]


def made_from(name: str, parent: str, digest: str) -> ModelEntry:
    """Return the entry of a model that was made from another one."""
    return {**entry(name, digest=digest * 64), "details": {"parent_model": parent}}


@pytest.mark.parametrize("loaded", ["base:1", "copy:1", "persona:1", "persona-of-persona:1"])
def test_names_of_the_same_weights_are_warm_together(loaded: str) -> None:
    """All names of the loaded weights are warm, whichever of them `/api/ps` lists."""
    known, a, _ = two()
    entries = {
        "base:1": entry("base:1", digest="b" * 64),
        "copy:1": entry("copy:1", digest="b" * 64),
        "persona:1": made_from("persona:1", "base:1", "c"),
        "persona-of-persona:1": made_from("persona-of-persona:1", "persona:1", "d"),
        "other:1": made_from("other:1", "gone:1", "e"),
        "loop:1": made_from("loop:1", "loop:1", "f"),
    }
    tags, running = list(entries.values()), [entries[loaded]]
    known.polled(a, Listing.read({}, {"models": tags}, {"models": running}, ("*",)), 1)

    warm = {name for name in entries if a.has_warm(ModelName.parse(name))}
    assert warm == {"base:1", "copy:1", "persona:1", "persona-of-persona:1"}


def test_a_model_that_has_answered_warms_its_copies() -> None:
    """A model that answers warms its copies before the next poll."""
    known, a, _ = two()
    known.polled(a, listing(entry("m:1"), entry("copy:1"), entry("x:1", digest="b" * 64)), 1)
    a.has_answered(M)

    assert a.has_warm(ModelName.parse("copy:1"))
    assert not a.has_warm(ModelName.parse("x:1"))


@pytest.mark.parametrize("hostile", [{"parent_model": 5}, {"parent_model": "/a/b/c/d"}, [], None])
def test_a_parent_that_is_no_name_is_none(hostile: object) -> None:
    """A `parent_model` that is no model name is ignored."""
    known, a, _ = two()
    known.polled(a, listing({**entry("m:1"), "details": hostile}), 1)

    assert not a.has_warm(M)


PATHS = ["/api/chat", "/api/show", "/v1/messages", "/v1/messages/count_tokens"]


@pytest.mark.parametrize("path", PATHS)
async def test_an_alias_of_a_cloud_model_needs_the_right_to_the_cloud(
    autojump_clock: Clock, path: str
) -> None:
    """A local name for a cloud model is hidden and refused without the right to the cloud."""
    models = [Model("m1:latest"), Model("alias:1", remote="gpt-oss:120b")]
    body = {**CHAT, "model": "alias:1", "max_tokens": 5}
    async with open_scenario({"a": Simulator(models)}) as scenario:
        _, outside = scenario.store.create("outside", ("*", "*-cloud"))
        refused = await scenario.ask(path, body)
        listed = (await scenario.ask("/api/tags", method="GET")).document["models"]
        served = await scenario.ask(path, body, key=outside)
        all_of_them = (await scenario.ask("/api/tags", method="GET", key=outside)).document

    assert refused.status == 403
    assert "alias:1 is not available" in refused.body.decode()
    assert [model["name"] for model in listed] == ["m1:latest"]
    assert served.status != 403
    assert len(all_of_them["models"]) == 2
