"""Bad keys, bodies and names get a definite one-line answer, generic where it must be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ollama_gateway.errors import Unauthorized
from ollama_gateway.simulator import Model, Simulator
from tests.support.scenario import CHAT, Reply, Scenario, open_scenario

pytestmark = pytest.mark.virtual_time

DUPLICATE = b'{"model":"m1","MODEL":"other","messages":[]}'


def same(one: Reply, other: Reply) -> bool:
    """Return True if a client cannot tell two answers apart, request ids aside."""
    strip = [{k: v for k, v in r.headers.items() if k != "x-request-id"} for r in (one, other)]
    return (one.status, one.body, strip[0]) == (other.status, other.body, strip[1])


def same_but_for_the_name(one: Reply, other: Reply) -> bool:
    """Compare two answers that name the model that each asked for."""
    for reply in (one, other):
        for name in (b"secret:1", b"no-such-model", b"zzz"):
            reply.body = reply.body.replace(name, b"NAME")
        reply.headers.pop("content-length", None)
    return b"NAME" in one.body and same(one, other)


async def test_the_generic_403() -> None:
    """Unknown and forbidden models get the same 403; only the audit record differs."""
    async with open_scenario({"a": Simulator([Model("m1:latest"), Model("secret:1")])}) as scenario:
        _, key = scenario.store.create("narrow", ("m1", "no-such-model"))
        hosted = await scenario.ask(body={**CHAT, "model": "secret:1"}, key=key)
        unknown = await scenario.ask(body={**CHAT, "model": "no-such-model"}, key=key)
        neither = await scenario.ask(body={**CHAT, "model": "zzz"}, key=key)
        retrieved = [
            await scenario.ask(f"/v1/models/{name}", method="GET", key=key)
            for name in ("secret:1", "no-such-model")
        ]

    assert hosted.status == 403
    assert same_but_for_the_name(hosted, unknown)
    assert same_but_for_the_name(hosted, neither)
    assert same_but_for_the_name(*retrieved)
    reasons = [record.reason for record in scenario.records]
    assert reasons == ["model_not_allowed", "unknown_model", "model_not_allowed"]


async def test_endpoint_groups(scenario: Scenario) -> None:
    """A key without the right to an endpoint group gets a 403 before its body is read."""
    _, key = scenario.store.create("embedder", endpoints=frozenset({"embeddings"}))
    chat = await scenario.ask(key=key)
    tags = await scenario.ask("/api/tags", method="GET", key=key)

    assert (chat.status, tags.status) == (403, 403)
    assert scenario.records[0].reason == "endpoint_not_allowed"
    assert scenario.records[0].bytes_in == 0


@pytest.mark.parametrize(
    "key",
    [
        "x",
        "ogw_",
        "ogw_aaaaaaaa_" + "b" * 49,
        "' OR '1'='1 AND more than twenty",
        "%" * 30,
        "*" * 30,
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "k" * 100_000,
        "clé-clé-clé-clé-clé-clé",
    ],
)
async def test_all_bad_keys_get_one_answer(scenario: Scenario, key: str) -> None:
    """Malformed and unknown keys get the same 401 and leave no record."""
    reply = await scenario.ask(key=key)

    assert (reply.status, reply.document) == (401, {"error": Unauthorized.default_message})
    assert scenario.records == []


async def test_a_typing_error_in_a_key_gets_the_same_answer(scenario: Scenario) -> None:
    """A right id with a wrong secret gets the same answer as any other text."""
    wrong = scenario.key[:-8] + ("a" if scenario.key[-8] != "a" else "b") + scenario.key[-7:]

    assert same(await scenario.ask(key=wrong), await scenario.ask(key="x"))


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"", "missing request body"),
        (b"{bad", None),
        (b'{"model":"m1"', None),
        (b"null", None),
        (b"[]", None),
        (b'"x"', None),
        (b"{}", "model is required"),
        (b'{"model":""}', "model is required"),
        (b'{"model":5}', None),
        (b'{"model":null}', "model is required"),
        (b'{"model":"m1","x":NaN}', None),
        (b'{"model":"m1","x":' + b"9" * 5000 + b"}", None),
        (b'{"model":"m1","x":"\xff"}', None),
        (b'\xef\xbb\xbf{"model":"m1"}', None),
        (b'{"model":"m1"}{"model":"m2"}', None),
        (b'{"model":"m1"} x', None),
        (DUPLICATE, None),
        (b'{"model":"m1","model":"m1"}', None),
        (b'{"model":"m1","stream":true,"Stream":false}', None),
        ('{"model":"m1","\u017ftream":true,"stream":false}'.encode(), None),
        (b'{"model":"m1","x":' + b"[" * 5000 + b"]" * 5000 + b"}", None),
        (b'{"model":"m1","stream":"true"}', None),
        (b'{"model":"m1","stream":1}', None),
        (b"\x1f\x8b\x08\x00", None),
    ],
)
async def test_bodies_that_could_be_read_in_two_ways_or_none_are_400(
    scenario: Scenario, body: bytes, text: str | None
) -> None:
    """A body that the backend could read otherwise, or not at all, is a 400 on one line."""
    reply = await scenario.ask(body=body)

    assert reply.status == 400
    assert reply.body.count(b"\n") == 0
    assert text in {None, reply.document["error"]}
    assert scenario.simulators["a"].seen[3:] == []
    assert [record.outcome for record in scenario.records] == ["refused"]


@pytest.mark.parametrize(
    "model",
    ["x" * 10_000, " \t", "a\x00b", "a\nb", "bad name", "a/b/c/d", "x:", "m\u0456", "m1@sha256:ab"],
)
async def test_names_that_break_the_grammar_are_400_for_everyone(
    scenario: Scenario, model: str
) -> None:
    """An invalid model name is a 400, as in Ollama, so nothing is disclosed."""
    reply = await scenario.ask(body={**CHAT, "model": model})

    assert reply.status == 400
    assert reply.document["error"] in {"invalid model name", "model is required"}


@pytest.mark.parametrize(
    "model",
    ["m1", "M1", "m1:latest", "library/m1", " m1 ", "registry.ollama.ai/library/m1", "m1:local"],
)
async def test_equal_names_are_one_model(scenario: Scenario, model: str) -> None:
    """Names that are equal to Ollama are authorised and served as one model."""
    _, key = scenario.store.create("narrow", ("m1",))
    reply = await scenario.ask(body={**CHAT, "model": model}, key=key)

    assert reply.status == 200
    assert reply.lines[0]["model"] == model
    assert scenario.records[0].model == "m1:latest"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        *(({"options": {"num_predict": n}}, 200) for n in (-1, -2, 0, 2**31, 1.5, None)),
        ({"options": {"num_predict": "10"}}, 500),
        ({"messages": []}, 200),
        ({"messages": None}, 200),
        ({"messages": {}}, 400),
        ({"tools": [{"type": "function"}] * 10_000}, 400),
        ({"messages": [{"role": "user", "content": "x"}] * 90_000}, 200),
    ],
)
async def test_fields_that_only_the_backend_checks_reach_it_unchanged(
    scenario: Scenario, changes: dict[str, Any], status: int
) -> None:
    """Odd options, messages and tools reach the backend byte for byte."""
    raw = json.dumps({**CHAT, **changes}).encode()
    reply = await scenario.ask(body=raw)
    seen = scenario.simulators["a"].seen[-1]

    assert seen.body == raw
    assert reply.status == status


@pytest.mark.parametrize("encoding", ["gzip", "zstd", "br"])
async def test_an_encoded_body_is_415(scenario: Scenario, encoding: str) -> None:
    """A body in an encoding that the gateway cannot read is a 415."""
    reply = await scenario.ask(body=b"\x1f\x8b", headers={"content-encoding": encoding})

    assert reply.status == 415


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_errors_are_in_the_dialect_of_the_path(scenario: Scenario, path: str) -> None:
    """Errors are a string for Ollama's clients and an object for OpenAI's, with a request id."""
    reply = await scenario.ask(path, b"{}")

    error = reply.document["error"]
    assert error == "model is required" if path == "/api/chat" else error["type"]
    assert len(reply.headers["x-request-id"]) == 32


async def test_secrets_and_text_stay_out_of_records(scenario: Scenario) -> None:
    """An audit record holds neither the key, nor the prompt, nor the answer."""
    await scenario.ask(body={**CHAT, "messages": [{"role": "user", "content": "my secret"}]})

    record = repr(scenario.records[0])
    assert scenario.key not in record
    assert "my secret" not in record
    assert "Hel" not in record
