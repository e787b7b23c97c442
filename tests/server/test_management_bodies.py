"""Management requests with large or late bodies take their places before the body is read."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.server import management
from ollama_gateway.simulator import Model, Simulator
from tests.server.managing import ManagingClient, managed
from tests.support.scenario import Reply, TimedBody

pytestmark = pytest.mark.virtual_time

CREATE = json.dumps({"model": "mine", "from": "shared:1"}).encode()
SLOW = TimedBody([(1.0, b" " * 1024)] * 40 + [(1.0, CREATE)])
LARGE = CREATE + b" " * 70_000
BLOB = "/api/blobs/sha256:" + "0" * 64


def unwanted(*_: object) -> None:
    """Stand in for the function that reads a command."""
    pytest.fail("a body was read")


async def sent(client: ManagingClient, replies: list[Reply], path: str) -> None:
    """Send a slow request and note its reply."""
    replies.append(await client.ask(path, SLOW, to="a"))


@pytest.mark.parametrize("path", ["/api/create", BLOB])
async def test_a_slow_body_holds_its_place(path: str) -> None:
    """A slow body holds its place from the start, read here or passed on."""
    replies: list[Reply] = []
    async with (
        managed(limits=KeyLimits(concurrent_requests=1)) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(sent, client, replies, path)
        await trio.sleep(30)
        refused = await client.ask("/api/copy", {"source": "shared:1", "destination": "x"}, to="a")
        await trio.sleep(15)
        after = await client.ask("/api/copy", {"source": "shared:1", "destination": "x"}, to="a")

    assert (refused.status, after.status) == (429, 200)
    assert replies[0].status == (200 if path == "/api/create" else 400)  # the digest is wrong


@pytest.mark.parametrize("is_chunked", [False, True])
async def test_a_refused_body_is_not_read(
    monkeypatch: pytest.MonkeyPatch, *, is_chunked: bool
) -> None:
    """Over its rate a key is refused before a large body is parsed."""
    async with managed(limits=KeyLimits(requests_per_minute=1)) as client:
        await client.ask("/api/copy", {"source": "shared:1", "destination": "x"}, to="a")
        monkeypatch.setattr(management, "read_command", unwanted)
        body = TimedBody([(0, LARGE)], is_announced=not is_chunked)
        reply = await client.ask("/api/create", body, to="a")

    assert (reply.status, client.scenario.records[-1].reason) == (429, "rate")


async def test_what_ends_after_its_first_step_keeps_its_admission() -> None:
    """A large invalid body counts against the rate, and holds no place afterwards."""
    limits = KeyLimits(requests_per_minute=1, concurrent_requests=1)
    async with managed(limits=limits) as client:
        wrong = await client.ask("/api/create", b"[" + b" " * 70_000, to="a")
        second = await client.ask("/api/create", json.loads(CREATE), to="a")
        key_id = client.scenario.records[0].key_id
        usage = await client.scenario.gateway.admin.limits.store.usage(key_id)

    assert (wrong.status, second.status) == (400, 429)
    assert client.scenario.records[-1].reason == "rate"
    assert (usage.admissions, usage.open) == (1, 0)


async def test_a_key_revoked_meanwhile_changes_nothing() -> None:
    """If the key is revoked during a slow body, the request is a 401 and reaches no backend."""
    replies: list[Reply] = []
    async with (
        managed({"a": Simulator([Model("shared:1")])}) as client,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(sent, client, replies, "/api/create")
        await trio.sleep(20)
        client.scenario.store.revoke("ops")
        await trio.sleep(30)
        asked = client.paths("a")

    assert (replies[0].status, asked) == (401, [])
