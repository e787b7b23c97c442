"""Requests by an alias: the backend gets its model's name, the client the name that was asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import attrs
import pytest
import trio.testing

from ollama_gateway.flow.endpoints import INFERENCE
from ollama_gateway.models.aliases import Aliases, alias_of
from ollama_gateway.simulator import Model, Script, Simulator
from tests.support.scenario import Reply, open_scenario

Clock = trio.testing.MockClock
REAL = "real-model:70b"
FULL = f"registry.ollama.ai/library/{REAL}"
ASKED = "gpt-4o"
ALIASES = {
    ASKED: REAL,
    "claude-*": ["real-model:70b"],
    "hosted:1": REAL,
    "ho*": REAL,
    "both": {"models": ["gone:1", REAL], "on_full": True},
    "nowhere": ["gone:1", "gone:2"],
}
SAID = [{"role": "user", "content": 'say "model":"real-model:70b"'}]
BODIES: Mapping[str, Mapping[str, object]] = {
    "/api/chat": {"messages": SAID},
    "/api/generate": {"prompt": "hi"},
    "/api/embed": {"input": ["a", "b"]},
    "/api/embeddings": {"prompt": "hi"},
    "/v1/chat/completions": {"messages": SAID},
    "/v1/completions": {"prompt": "hi"},
    "/v1/embeddings": {"input": ["a", "b"]},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": SAID, "max_tokens": 50},
}
STREAMS = [endpoint.path for endpoint in INFERENCE if endpoint.streams_by_default is not None]
NAMES_ASKED = (b"gpt-4o", b"claude-x", b"xxx-xx")
CASES = [(path, True) for path in STREAMS] + [(path, False) for path in BODIES]


def aliases(table: object = ALIASES) -> dict[str, str]:
    """Return settings with these aliases."""
    return {"GATEWAY_ALIASES": json.dumps(table)}


def simulators() -> dict[str, Simulator]:
    """Return two backends that host the model, in their own spelling, and another one."""
    return {
        "a": Simulator([Model("Real-Model:70b"), Model("hosted:1"), Model("hoped:1")]),
        "b": Simulator([Model("Real-Model:70b")]),
    }


def names_in(reply: Reply) -> set[str]:
    """Return the names of models in an answer, wherever its dialect puts them."""
    texts = reply.body.replace(b"data:", b"\n").replace(b"event:", b"\n").splitlines()
    documents = [json.loads(text) for text in texts if text.strip().startswith(b"{")]
    return {name for document in documents for name in _names(document)}


def _names(document: dict[str, Any]) -> set[str]:
    inner = [document.get("message"), document.get("response")]
    found = [one.get("model") for one in (document, *inner) if isinstance(one, dict)]
    return {name for name in found if name is not None}


@pytest.mark.parametrize(("path", "is_streamed"), CASES)
async def test_every_route_answers_with_the_name_that_was_asked(
    autojump_clock: Clock,
    path: str,
    is_streamed: bool,  # noqa: FBT001 - a case
) -> None:
    """Upstream the body differs in the name alone; the record and a header have the model."""
    body = {"model": ASKED, **BODIES[path], "stream": is_streamed}
    sent = json.dumps(body, indent=1)
    async with open_scenario(simulators(), settings=aliases()) as scenario:
        reply = await scenario.ask(path, sent.encode())
        (seen,) = [one for one in scenario.simulators["a"].seen if one.path == path]
        (record,) = scenario.records

    assert (reply.status, reply.is_complete) == (200, True)
    assert names_in(reply) == (set() if path == "/api/embeddings" else {ASKED})
    assert b"eal-" not in reply.body.replace(b'say \\"model\\":\\"real-model:70b', b"")
    asks_for_usage = json.loads(seen.body).pop("stream_options", None)
    assert asks_for_usage or seen.body.decode() == sent.replace(ASKED, "Real-Model:70b", 1)
    assert (record.model, record.alias, record.outcome) == ("Real-Model:70b", ASKED, "completed")
    assert reply.headers["x-gateway-model"] == REAL


@pytest.mark.parametrize("path", STREAMS)
async def test_a_large_body_is_renamed_too(autojump_clock: Clock, path: str) -> None:
    """A body that is read in steps has its name replaced while it is sent."""
    large = {"model": ASKED, **BODIES[path], "metadata": {"x": "y" * 300_000}}
    async with open_scenario(simulators(), settings=aliases()) as scenario:
        reply = await scenario.ask(path, large)
        (seen,) = [one for one in scenario.simulators["a"].seen if one.path == path]

    assert (reply.status, names_in(reply)) == (200, {ASKED})
    assert json.loads(seen.body)["model"] == "Real-Model:70b"


async def test_a_long_answer_is_renamed_as_it_passes(autojump_clock: Clock) -> None:
    """A name behind vectors of several MiB is replaced, although they are passed on early."""
    many = {"model": ASKED, "input": ["x"] * 20_000}
    async with open_scenario(simulators(), settings=aliases()) as scenario:
        reply = await scenario.ask("/v1/embeddings", many)

    assert len(reply.body) > 2_000_000
    assert (reply.status, reply.document["model"]) == (200, ASKED)
    assert len(reply.document["data"]) == 20_000


@pytest.mark.parametrize(
    ("asked", "model"),
    [
        ("gpt-4o", REAL),
        ("GPT-4O:latest", REAL),
        ("claude-haiku-4-5-20251001", REAL),
        ("hosted:1", REAL),
        ("hoped:1", "hoped:1"),
        ("hope:2", REAL),
        ("both", REAL),
        ("real-model:70b", REAL),
        ("nowhere", None),
        ("gpt-4o:v2", None),
        ("gone:1", None),
    ],
)
async def test_names_are_resolved(autojump_clock: Clock, asked: str, model: str | None) -> None:
    """An exact alias hides a hosted model, a pattern does not; models not hosted are skipped."""
    async with open_scenario(simulators(), settings=aliases()) as scenario:
        reply = await scenario.ask(body={"model": asked, "messages": [], "stream": False})
        (record,) = scenario.records

    if model is None:
        assert (reply.status, record.reason) == (403, "unknown_model")
        assert reply.document == {"error": f"model {asked} is not available to this key"}
    else:
        assert (reply.status, reply.document["model"]) == (200, asked)
        assert (record.model or "").lower() == model


@pytest.mark.parametrize("path", BODIES)
async def test_without_a_right_an_alias_is_unknown(autojump_clock: Clock, path: str) -> None:
    """A key that may not use its models gets the answer for a name that does not exist."""
    async with open_scenario(simulators(), settings=aliases()) as scenario:
        _, key = scenario.store.create("narrow", ("hosted:1", "gpt-4o", "alias:gpt-4*:8b"))
        asked = [
            await scenario.ask(path, {"model": name, **BODIES[path]}, key=key)
            for name in (ASKED, "claude-x", "xxx-xx")
        ]
        reasons = {record.reason for record in scenario.records}

    texts = {reply.body.replace(n, b"N") for reply, n in zip(asked, NAMES_ASKED, strict=True)}
    assert {reply.status for reply in asked} == {403}
    assert len(texts) == 1 or path == "/v1/messages"  # which has ids
    assert reasons == {"model_not_allowed"}


async def test_a_pattern_does_not_tell_whether_a_model_exists(autojump_clock: Clock) -> None:
    """A key that may not use a hosted model gets the alias, as if no backend hosted that name."""
    async with open_scenario(simulators(), settings=aliases()) as scenario:
        _, key = scenario.store.create("narrow", (REAL,))
        hosted, other = [
            await scenario.ask(body={"model": name, "messages": [], "stream": False}, key=key)
            for name in ("hoped:1", "hoped:9")
        ]

    assert (hosted.status, other.status) == (200, 200)
    assert hosted.headers["x-gateway-model"] == other.headers["x-gateway-model"] == REAL


@pytest.mark.parametrize("right", ["alias:gpt-4o", "alias:GPT-*", "alias:*", "real-*", "*"])
async def test_a_key_may_use_an_alias_by_either_right(autojump_clock: Clock, right: str) -> None:
    """The right to the alias or to its model suffices; the former opens no model by its name."""
    async with open_scenario(simulators(), settings=aliases()) as scenario:
        _, key = scenario.store.create("narrow", (right,))
        body = {"messages": [], "stream": False}
        by_alias = await scenario.ask(body={"model": ASKED, **body}, key=key)
        by_name = await scenario.ask(body={"model": REAL, **body}, key=key)

    assert by_alias.status == 200
    assert by_name.status == (403 if right.startswith("alias:") else 200)


async def test_a_keys_own_aliases_come_first(autojump_clock: Clock) -> None:
    """They count for that key alone, before those of the settings, exact ones or not."""
    async with open_scenario(simulators(), settings=aliases()) as scenario:
        own = Aliases((alias_of("gpt-*", ["hosted:1"]), alias_of("mine", ["hoped:1"])))
        _, key = scenario.store.create("own", aliases=own)
        found = {
            (name, is_own): await scenario.ask(
                body={"model": name, "messages": []}, key=key if is_own else ""
            )
            for name in (ASKED, "mine", "claude-x")
            for is_own in (True, False)
        }
        seen = {case: reply.headers.get("x-gateway-model") for case, reply in found.items()}

    assert seen == {
        (ASKED, True): "hosted:1",
        (ASKED, False): REAL,
        ("mine", True): "hoped:1",
        ("mine", False): None,
        ("claude-x", True): REAL,
        ("claude-x", False): REAL,
    }


@pytest.mark.parametrize(
    "script", [Script(status=400, error=f"{REAL} cannot"), Script(error_after=1)]
)
async def test_errors_do_not_name_the_model(autojump_clock: Clock, script: Script) -> None:
    """A backend's error has the name that was asked for, before a stream and in it."""
    error = attrs.evolve(script, error=f"{FULL} (Real-Model:70b, {REAL}) does not support tools")
    async with open_scenario(simulators(), settings=aliases()) as scenario:
        scenario.simulators["a"].script(error)
        reply = await scenario.ask(body={"model": ASKED, "messages": SAID})

    assert json.loads(reply.body.splitlines()[-1])["error"] == (
        "gpt-4o (gpt-4o, gpt-4o) does not support tools"
    )


async def test_a_backend_that_is_named_answers_aliases_too(autojump_clock: Clock) -> None:
    """An alias goes to the backend that the request names, for a key that may do so."""
    async with open_scenario(simulators(), settings=aliases()) as scenario:
        _, key = scenario.store.create("admin", endpoints=frozenset({"inference", "manage"}))
        headers = {"x-gateway-backend": "b"}
        body = {"model": ASKED, "messages": [], "stream": False}
        reply = await scenario.ask(body=body, key=key, headers=headers)

    assert (reply.document["model"], reply.headers["x-gateway-backend"]) == (ASKED, "b")
