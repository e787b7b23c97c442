"""Backends over the admin API: listed, paused, drained, resumed."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from ollama_gateway.simulator import Script
from tests.server.admin_api.asking import asked, got, open_admin, problem_of

Clock = trio.testing.MockClock


async def test_backends_are_listed_in_pages(autojump_clock: Clock) -> None:
    """The list has the preferred one first; a page ends at its limit and says how to go on."""
    async with open_admin() as scenario:
        await scenario.ask()
        whole = await got(scenario, "/backends")
        first = await got(scenario, "/backends?limit=1")
        second = await got(scenario, f"/backends?limit=1&cursor={first['next']}")
        one = await got(scenario, "/backends/a")

    assert [backend["name"] for backend in whole["items"]] == ["a", "b"]
    assert whole["next"] is second["next"] is None
    assert [*first["items"], *second["items"]] == whole["items"]
    assert one == whole["items"][0]
    assert (one["url"], one["up"], one["in_flight"], one["loaded"]) == ("http://a", True, 0, 0)
    assert list(one["by_model"]) == ["registry.ollama.ai/library/m1:latest"]


async def test_a_pause_is_in_force_with_its_answer(autojump_clock: Clock) -> None:
    """The next request goes elsewhere, the change is recorded, and a resume takes it back."""
    async with open_admin() as scenario:
        paused = await asked(scenario, "POST", "/backends/a/pause", {"reason": "new disk"})
        elsewhere = await scenario.ask()
        resumed = await asked(scenario, "POST", "/backends/a/resume")
        back = await scenario.ask()
        changes = (await got(scenario, "/audit?kind=change"))["items"]

    assert (paused.status, paused.document["paused"]) == (200, True)
    assert elsewhere.headers["x-gateway-backend"] == "b"
    assert (resumed.status, resumed.document["paused"]) == (200, False)
    assert back.headers["x-gateway-backend"] == "a"
    assert [(one["by"], one["action"], one["target"], one["reason"]) for one in changes] == [
        ("settings", "backends.pause", "a", "new disk"),
        ("settings", "backends.resume", "a", None),
    ]


async def test_a_drain_tells_what_is_left(autojump_clock: Clock) -> None:
    """A drain is accepted at once; the backend's document counts down to nothing in flight."""
    async with open_admin() as scenario, trio.open_nursery() as nursery:
        scenario.simulators["a"].script(Script(before=1.8))
        nursery.start_soon(scenario.ask)
        await trio.sleep(1)
        drained = await asked(scenario, "POST", "/backends/a/drain")
        counts = [drained.document["in_flight"]]
        while counts[-1]:
            await trio.sleep(1)
            counts.append((await got(scenario, "/backends/a"))["in_flight"])

    assert (drained.status, drained.document["paused"]) == (202, True)
    assert counts[0] == 1
    assert scenario.records[0].outcome == "completed"


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "detail"),
    [
        ("GET", "/backends/c", None, 404, 'no backend is named "c"; there are: a, b'),
        ("POST", "/backends/c/pause", None, 404, 'no backend is named "c"; there are: a, b'),
        ("POST", "/backends/aa/drain", {}, 404, "did you mean a?"),
        ("POST", "/backends/a/pause", {"why": "x"}, 422, "/why: is unknown"),
        ("POST", "/backends/a/pause", {"reason": 1}, 422, "/reason: is not a string"),
        ("POST", "/backends/a/pause", [], 400, ""),
        ("POST", "/backends/a/pause", b"{", 400, ""),
        ("GET", "/backends?limit=0", None, 422, "limit: is not from 1 to 1000"),
        ("GET", "/backends?cursor=x", None, 422, "cursor: is not one that this list gave"),
        ("GET", "/backends?sort=x", None, 422, "is unknown"),
        ("DELETE", "/backends/a", None, 405, ""),
    ],
)
async def test_what_is_wrong_is_named(
    autojump_clock: Clock, method: str, path: str, body: object, status: int, detail: str
) -> None:
    """A wrong name, document or parameter changes nothing, and the answer says which it is."""
    async with open_admin() as scenario:
        found = problem_of(await asked(scenario, method, path, body))
        paused = [one["paused"] for one in (await got(scenario, "/backends"))["items"]]

    assert found[0] == status
    assert detail in found[1]
    assert paused == [False, False]


async def test_a_broken_pause_file_changes_nothing(autojump_clock: Clock) -> None:
    """A file that holds something else is a 503 that says so, and stays as it is."""
    async with open_admin() as scenario:
        file = scenario.gateway.settings.storage.data_dir / "paused.json"
        file.write_text("{}")
        reply = await asked(scenario, "POST", "/backends/a/pause")
        content = file.read_text()

    assert problem_of(reply) == (503, "nothing was changed: paused.json: not a list of names")
    assert content == "{}"
