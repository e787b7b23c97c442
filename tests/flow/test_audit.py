"""Audit records of requests, from the client to the journal's file, in virtual time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from ollama_gateway.ledger.chain import verify
from ollama_gateway.ledger.journal import checkpoint_of, links_of, reading
from ollama_gateway.ledger.ownership import has_intents
from ollama_gateway.simulator import Script
from tests.flow.test_scenarios import OPENAI, SLOW
from tests.support.scenario import CHAT, Scenario, open_scenario

Clock = trio.testing.MockClock
STRICT: Mapping[str, str] = {
    "GATEWAY_AUDIT_MODE": "strict",
    "GATEWAY_AUDIT_CHAIN_KEY": "a key of the chain",
}


def journaled(scenario: Scenario, *, is_strict: bool = False) -> list[dict[str, Any]]:
    """Return the finished records of the journal, whose chain is intact."""
    key = STRICT["GATEWAY_AUDIT_CHAIN_KEY"].encode() if is_strict else b""
    with reading(scenario.gateway.admin.audit.writer.journal.path) as connection:
        links = list(links_of(connection))
        assert verify(checkpoint_of(connection), links, key)[1] is None
    return [json.loads(link.document) for link in links]


async def test_a_request_leaves_one_complete_record(autojump_clock: Clock) -> None:
    """It says who asked which backend for what, the outcome and the cost, but never a text."""
    async with open_scenario(models=(SLOW,)) as scenario:
        scenario.simulators["a"].script(Script(status=500, error="boom"))
        reply = await scenario.ask()
        await trio.sleep(0.2)
        [record] = journaled(scenario)

    assert {name: record[name] for name in record if name not in {"started_at", "key_id"}} == {
        "request_id": reply.headers["x-request-id"],
        "key_name": "tester",
        "end_user": None,
        "client": "192.0.2.7",
        "endpoint": "/api/chat",
        "dialect": "ollama",
        "model": "m1:latest",
        "alias": None,
        "backend": "b",
        "outcome": "completed",
        "reason": None,
        "status": 200,
        "prompt_tokens": 11,
        "cached_tokens": None,
        "completion_tokens": 3,
        "tokens_source": "reported",
        "spender": None,
        "affinity": "new",
        "ttft_ms": 1000,
        "duration_ms": 3000,
        "bytes_in": 64,
        "bytes_out": len(reply.body),
        "changed": None,
        "client_request_id": None,
        "trace_id": None,
        "attempts": [
            {
                "backend": "a",
                "started_ms": 0,
                "hedge": False,
                "first_chunk_ms": None,
                "reason": "status_500",
                "model": None,
                "ended_ms": 0,
            },
            {
                "backend": "b",
                "started_ms": 0,
                "hedge": False,
                "first_chunk_ms": 1000,
                "reason": None,
                "model": None,
                "ended_ms": None,
            },
        ],
    }


@pytest.mark.parametrize("is_strict", [False, True])
async def test_every_way_out_leaves_exactly_one_record(
    autojump_clock: Clock, *, is_strict: bool
) -> None:
    """Each request has one record with its final state, and no intent stays open."""
    settings = STRICT if is_strict else {}
    async with open_scenario(models=(SLOW,), settings=settings) as scenario:
        await scenario.ask()
        await scenario.ask(body={**CHAT, "stream": False})
        await scenario.ask("/v1/chat/completions", OPENAI)
        await scenario.ask("/api/embed", {"model": "m1", "input": "a"})
        await scenario.ask(body={**CHAT, "model": "nope"})
        await scenario.ask(body=b"{")
        await scenario.ask(leave_at=0.5)
        await scenario.ask(leave_at=1.5)
        scenario.simulators["a"].script(Script(cut_after=1))
        await scenario.ask()
        for simulator in scenario.simulators.values():
            simulator.script(Script(status=500, error="boom"))
        await scenario.ask()
        await trio.sleep(0.2)
        records = journaled(scenario, is_strict=is_strict)
        assert not has_intents(scenario.gateway.admin.audit.writer.journal.path)

    assert [(record["outcome"], record["reason"], record["status"]) for record in records] == [
        ("completed", None, 200),
        ("completed", None, 200),
        ("completed", None, 200),
        ("completed", None, 200),
        ("refused", "unknown_model", 403),
        ("refused", "invalid_body", 400),
        ("client_gone", "client_gone", 0),
        ("client_gone", "client_gone", 200),
        ("upstream_failed", "connection_broken", 200),
        ("upstream_failed", "status_500", 500),
    ]


async def test_what_is_neither_audited_nor_metered(autojump_clock: Clock) -> None:
    """Listings and `show`, and requests without a key."""
    async with open_scenario() as scenario:
        await scenario.ask("/api/tags", method="GET")
        await scenario.ask("/api/show", {"model": "m1"})
        await scenario.ask(key="wrong")
        await trio.sleep(0.2)

        assert journaled(scenario) == []


async def test_strict_the_intent_is_on_the_disk_before_anything_goes_upstream(
    autojump_clock: Clock,
) -> None:
    """While the backend works, the journal shows that the request was admitted."""
    async with (
        open_scenario(models=(SLOW,), settings=STRICT) as scenario,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(scenario.ask)
        await trio.sleep(0.5)
        path = scenario.gateway.admin.audit.writer.journal.path
        assert has_intents(path)
        assert journaled(scenario, is_strict=True) == []
        await trio.sleep(5)
        assert len(journaled(scenario, is_strict=True)) == 1


def lose(scenario: Scenario) -> None:
    """Make every write to the journal fail."""
    path = scenario.gateway.admin.audit.writer.journal.path
    path.rename(path.with_suffix(".lost"))


def find(scenario: Scenario) -> None:
    """Put the journal back."""
    path = scenario.gateway.admin.audit.writer.journal.path
    path.with_suffix(".lost").rename(path)


async def test_strict_nothing_is_served_that_cannot_be_recorded(autojump_clock: Clock) -> None:
    """All requests get 503 and no backend is asked, until the journal works again."""
    async with open_scenario(settings=STRICT) as scenario:
        lose(scenario)
        replies = [await scenario.ask() for _ in range(3)]
        ready = await scenario.ask("/readyz", method="GET", is_admin=True)
        find(scenario)
        await trio.sleep(1)
        again = await scenario.ask()
        records = journaled(scenario, is_strict=True)

    assert [reply.status for reply in replies] == [503] * 3
    assert all("retry-after" in reply.headers for reply in replies)
    assert ready.document["reasons"] == ["the audit journal cannot be written"]
    assert again.status == 200
    assert [len(s.seen) - 3 for s in scenario.simulators.values()] == [1, 0]
    # One was admitted, two were refused before; each gets its record a moment later.
    assert [record["reason"] for record in records] == ["audit_unavailable"] * 3 + [None]
    assert [record.reason for record in scenario.records] == ["audit_unavailable"] * 3 + [None]


@pytest.mark.parametrize("path", ["/api/chat", "/v1/chat/completions"])
async def test_strict_a_stream_that_cannot_be_recorded_does_not_end_well(
    autojump_clock: Clock, path: str
) -> None:
    """An error event replaces the terminal marker, and the connection closes abnormally."""
    async with (
        open_scenario(models=(SLOW,), settings=STRICT) as scenario,
        trio.open_nursery() as nursery,
    ):

        async def fail() -> None:
            await trio.sleep(1.5)
            lose(scenario)

        nursery.start_soon(fail)
        reply = await scenario.ask(path, OPENAI)
        find(scenario)
        await trio.sleep(2)
        [record] = journaled(scenario, is_strict=True)

    assert (reply.status, reply.is_complete) == (200, False)
    assert b'"done":true' not in reply.body
    assert b"[DONE]" not in reply.body
    assert b"cannot be recorded" in reply.body
    assert (record["outcome"], record["reason"]) == ("refused", "audit_unavailable")


async def test_strict_a_whole_answer_that_cannot_be_recorded_is_not_given(
    autojump_clock: Clock,
) -> None:
    """The client gets a 503 in place of the answer."""
    async with (
        open_scenario(models=(SLOW,), settings=STRICT) as scenario,
        trio.open_nursery() as nursery,
    ):

        async def fail() -> None:
            await trio.sleep(0.5)
            lose(scenario)

        nursery.start_soon(fail)
        reply = await scenario.ask(body={**CHAT, "stream": False})
        find(scenario)
        await trio.sleep(2)

    assert (reply.status, reply.document) == (
        503,
        {"error": "this request cannot be recorded now, try again"},
    )


async def test_buffered_a_failing_journal_stops_nobody(autojump_clock: Clock) -> None:
    """Requests go on, and their records are all written once the journal works again."""
    async with open_scenario() as scenario:
        lose(scenario)
        replies = [await scenario.ask() for _ in range(20)]
        status = await scenario.ask("/status.json", method="GET", is_admin=True)
        find(scenario)
        await trio.sleep(2)

        assert {reply.status for reply in replies} == {200}
        assert status.document["audit"]["rows_waiting"] == 20
        assert len(journaled(scenario)) == 20


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        ("ada@example.org", "ada@example.org"),
        ("  Ada \t", "Ada"),
        ("a\u202eb\u200bc", "abc"),
        ("x" * 1000, "x" * 256),
        ("", None),
        (None, None),
    ],
)
async def test_for_whom_a_front_end_asks(
    autojump_clock: Clock, value: str | None, stored: str | None
) -> None:
    """It says so in the header that its key names; the value is bounded and on one line."""
    async with open_scenario() as scenario:
        _, webui = scenario.store.create("webui", user_header="x-user")
        headers = {"x-user": value} if value is not None else {}
        await scenario.ask(key=webui, headers=headers)
        await scenario.ask(headers=headers)
        await trio.sleep(0.2)

        assert [record["end_user"] for record in journaled(scenario)] == [stored, None]


async def test_what_was_said_is_never_stored(autojump_clock: Clock) -> None:
    """Neither a prompt, an answer nor a key is in any file of the data directory."""
    body = {"model": "m1", "messages": [{"role": "user", "content": "the-secret-prompt"}]}
    async with open_scenario(models=(SLOW,), settings=STRICT) as scenario:
        reply = await scenario.ask(body=body)
        await scenario.ask(f"/k/{scenario.key}/api/chat", body, key=None)
        assert reply.text == "abc"
        directory = scenario.gateway.admin.audit.writer.journal.path.parent
        everything = b"".join(path.read_bytes() for path in directory.iterdir())

    assert b"m1:latest" in everything
    for secret in (b"the-secret-prompt", scenario.key.encode(), b'"abc"', b'content":"a"'):
        assert secret not in everything
