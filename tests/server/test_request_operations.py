"""Requests in flight over the admin API: who may see and cancel them, and the records of that."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from ollama_gateway.ledger.document import CHANGE
from ollama_gateway.ledger.operator_change import ChangeNotRecorded
from ollama_gateway.server.admin_api.request_operations import SHARED_SECONDS, SharedPages
from tests.flow.cancelling import SlowDisk, in_flight, listed
from tests.flow.test_audit import journaled
from tests.flow.test_scenarios import SLOW
from tests.support.scenario import Reply, Scenario, open_scenario

pytestmark = pytest.mark.virtual_time
TOKEN = {"authorization": "Bearer t-operator"}
PATH = "/admin/v1/requests"


@attrs.define
class Operated:
    """A scenario with an admin token, and a disk that can be slow."""

    scenario: Scenario
    disk: SlowDisk

    async def call(self, path: str = PATH, method: str = "GET", **headers: str) -> Reply:
        """Ask the admin API, as the holder of the token unless other headers are given."""
        return await self.scenario.ask(
            path, b"", method=method, key=None, headers=headers or TOKEN, is_admin=True
        )

    def changes(self) -> list[dict[str, Any]]:
        """Return the changes in the audit log."""
        return [one for one in journaled(self.scenario) if one.get("kind") == CHANGE]


@pytest.fixture
async def operated() -> AsyncIterator[Operated]:
    """Open the scenario."""
    disk = SlowDisk()
    settings = {"GATEWAY_SERVER_ADMIN_TOKEN": "t-operator"}
    async with open_scenario(models=(SLOW,), settings=settings, runner=disk) as scenario:
        yield Operated(scenario, disk)


async def test_a_request_is_listed_shown_and_cancelled(operated: Operated) -> None:
    """The client gets its error, and the audit log says twice by whom: in record and change."""
    replies: list[Reply] = []

    async def chat() -> None:
        replies.append(await operated.scenario.ask())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(chat)
        await trio.sleep(1.5)
        page = (await operated.call()).document
        [one] = page["items"]
        shown = await operated.call(f"{PATH}/{one['id']}")
        cancelled = await operated.call(f"{PATH}/{one['id']}", "DELETE")
        after = await operated.call()
    gone = await operated.call(f"{PATH}/{one['id']}", "DELETE")
    await trio.sleep(1)

    assert (page["next"], page["unanswered"], one["stage"]) == (None, [], "streaming")
    assert (shown.status, shown.document["id"]) == (200, one["id"])
    assert (cancelled.status, cancelled.document["cancelled_by"]) == (200, "settings")
    assert after.document["items"] == []
    assert (replies[0].is_complete, replies[0].ended_at) == (False, 1.5)
    assert (gone.status, gone.headers["content-type"]) == (404, "application/problem+json")
    [change] = operated.changes()
    assert (change["by"], change["action"], change["outcome"]) == (
        "settings",
        "requests.cancel",
        "made",
    )
    assert (change["target"], change["before"]["stage"]) == (one["id"], "streaming")
    assert operated.scenario.records[0].cancelled_by == "settings"


async def test_all_of_a_key(operated: Operated) -> None:
    """One change names them all; a key without requests leaves none."""
    async with trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(operated.scenario.ask)
        await trio.sleep(1.5)
        [key_id] = {one["key_id"] for one in listed(operated.scenario)}
        reply = await operated.call(f"{PATH}?key={key_id}", "DELETE")
        again = await operated.call(f"{PATH}?key={key_id}", "DELETE")
    await trio.sleep(1)

    assert (reply.status, len(reply.document["cancelled"])) == (200, 3)
    assert (again.status, again.document["cancelled"]) == (200, [])
    [change] = operated.changes()
    assert (change["target"], change["before"]["count"]) == (key_id, 3)


@pytest.mark.parametrize("path", [PATH, f"{PATH}?key=", f"{PATH}?key", f"{PATH}?model=m1"])
async def test_a_cancel_of_all_needs_a_key(operated: Operated, path: str) -> None:
    """Without one nothing is cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(operated.scenario.ask)
        await trio.sleep(1.5)
        reply = await operated.call(path, "DELETE")

    assert reply.status == 422
    assert operated.scenario.records[0].outcome == "completed"


@pytest.mark.parametrize(
    ("query", "status"),
    [("limit=0", 422), ("limit=1001", 422), ("cursor=x", 422), ("stage=none", 422), ("x=1", 422)],
)
async def test_wrong_queries(operated: Operated, query: str, status: int) -> None:
    """A parameter that is wrong is named."""
    reply = await operated.call(f"{PATH}?{query}")
    assert reply.status == status
    assert query.partition("=")[0] in json.dumps(reply.document["problems"])


async def test_without_a_token(operated: Operated) -> None:
    """Nothing is cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(operated.scenario.ask)
        await trio.sleep(1.5)
        [one] = listed(operated.scenario)
        reply = await operated.call(f"{PATH}/{one['id']}", "DELETE", authorization="Bearer x")

    assert reply.status == 401
    assert operated.scenario.records[0].outcome == "completed"


async def test_a_slow_disk_keeps_no_request_running(operated: Operated) -> None:
    """The cut comes at once; only the operator's answer waits for the record of the change."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(operated.scenario.ask)
        await trio.sleep(1.5)
        [one] = listed(operated.scenario)
        operated.disk.seconds = 3
        reply = await operated.call(f"{PATH}/{one['id']}", "DELETE")
    operated.disk.seconds = 0
    seen = operated.scenario.simulators["a"].seen[-1]

    assert seen.gone_at == 1.5
    assert (reply.status, reply.ended_at) == (200, 1.5 + 3 + 3)


async def test_a_broken_disk(operated: Operated, monkeypatch: pytest.MonkeyPatch) -> None:
    """The request is cut all the same, and the operator learns that the change has no record."""

    def refuse(_change: object) -> None:
        raise ChangeNotRecorded("the disk is full")

    changes = operated.scenario.gateway.parts.audit.changes
    monkeypatch.setattr(type(changes), "making", lambda _self, change: refuse(change))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(operated.scenario.ask)
        await trio.sleep(1.5)
        [one] = listed(operated.scenario)
        reply = await operated.call(f"{PATH}/{one['id']}", "DELETE")

    assert (reply.status, reply.document["detail"][:9]) == (503, "cancelled")
    assert operated.scenario.records[0].cancelled_by == "settings"
    assert len(in_flight(operated.scenario)) == 0


async def test_one_list_serves_all_who_ask() -> None:
    """Fifty who ask at once get one rendering; later ones, or those after a cancel, a new one."""
    pages, made = SharedPages(), list[float]()

    async def make() -> bytes:
        made.append(trio.current_time())
        await trio.sleep(0.125)
        return b"%d" % len(made)

    found: list[bytes] = []

    async def ask() -> None:
        found.append(await pages.get("all", make))

    async with trio.open_nursery() as nursery:
        for _ in range(50):
            nursery.start_soon(ask)
    await trio.sleep(SHARED_SECONDS - 0.25)
    await ask()
    pages.clear()
    await ask()
    await trio.sleep(SHARED_SECONDS)
    await ask()

    assert found == [b"1"] * 51 + [b"2", b"3"]


async def test_one_who_leaves_while_a_list_is_made() -> None:
    """The next one in line makes it."""
    pages = SharedPages()

    async def make() -> bytes:
        await trio.sleep(1)
        return b"made"

    async def leave() -> None:
        with trio.move_on_after(0.5):
            await pages.get("all", make)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave)
        await trio.testing.wait_all_tasks_blocked()
        assert await pages.get("all", make) == b"made"
