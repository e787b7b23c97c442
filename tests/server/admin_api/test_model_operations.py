"""Models over the admin API: listed, pulled, loaded, unloaded."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from ollama_gateway.backends.catalog import Listing
from ollama_gateway.server.admin_api.encoding import encoded
from ollama_gateway.simulator import Model, Script
from ollama_gateway.turns import run_through
from tests.control.test_models import listed, longest_step
from tests.server.admin_api.asking import asked, got, open_admin, problem_of

Clock = trio.testing.MockClock
M1 = {"model": "m1", "backend": "b"}


async def test_a_model_is_loaded_at_the_backend_that_is_named(autojump_clock: Clock) -> None:
    """The list shows where it is in memory, until it is unloaded there."""
    async with open_admin() as scenario:
        loaded = await asked(scenario, "POST", "/models/load", M1)
        await scenario.poll()
        (shown,) = (await got(scenario, "/models"))["items"]
        unloaded = await asked(scenario, "POST", "/models/unload", M1)
        await scenario.poll()
        (left,) = (await got(scenario, "/models"))["items"]

    assert loaded.document == {"model": "m1:latest", "backend": "b", "loaded": True}
    assert unloaded.document == {"model": "m1:latest", "backend": "b", "loaded": False}
    assert [one["backend"] for one in shown["loaded"]] == ["b"]
    assert (shown["backends"], left["loaded"]) == (["a", "b"], [])


async def test_a_pull_is_told_line_by_line(autojump_clock: Clock) -> None:
    """Each backend's progress ends with `done`, the last line has all results, the list is new."""
    async with open_admin() as scenario:
        scenario.simulators["b"].script(Script(status=500, error="disk full"), path="/api/pull")
        reply = await asked(scenario, "POST", "/models/pull", {"model": "new:1"})
        models = [one["name"] for one in (await got(scenario, "/models"))["items"]]

    *lines, last = reply.lines
    assert reply.headers["content-type"] == "application/x-ndjson"
    assert {line["backend"] for line in lines if line["done"]} == {"a", "b"}
    assert [(one["backend"], one["ok"], one["error"]) for one in last["results"]] == [
        ("a", True, None),
        ("b", False, "disk full"),
    ]
    assert models == ["m1:latest", "new:1"]


async def test_who_leaves_ends_the_pull(autojump_clock: Clock) -> None:
    """A client that goes away closes the pull upstream."""
    async with open_admin() as scenario:
        scenario.simulators["a"].script(Script(pace=1000.0), path="/api/pull")
        document = {"model": "new:1", "backends": ["a"]}
        reply = await asked(scenario, "POST", "/models/pull", document, leave_at=5)
        left_at = trio.current_time()
        (backend, _) = scenario.gateway.backends.all
        await trio.testing.wait_all_tasks_blocked()

        assert (reply.is_complete, backend.transport.open_connections) == (False, 0)
        assert left_at < 10


@pytest.mark.parametrize(
    ("path", "body", "status", "detail"),
    [
        ("/models/load", {"model": "m1", "backend": "c"}, 404, 'no backend is named "c"'),
        ("/models/load", {"model": "m", "backend": "a"}, 404, 'a has no model "m"'),
        ("/models/unload", {"model": "m:latest", "backend": "a"}, 404, "did you mean m1:latest?"),
        ("/models/load", {"model": "no name", "backend": "a"}, 422, "/model: invalid model name"),
        ("/models/load", {"model": "m1"}, 422, "/backend: is missing"),
        ("/models/pull", {}, 422, "/model: is missing"),
        ("/models/pull", {"model": "no name"}, 422, "/model: invalid model name"),
        ("/models/pull", {"model": "m1", "backends": ["aa"]}, 404, "did you mean a?"),
        ("/models/pull", {"model": "m1", "backends": "a"}, 422, "/backends: is not an array"),
    ],
)
async def test_what_is_wrong_is_named(
    autojump_clock: Clock, path: str, body: object, status: int, detail: str
) -> None:
    """Nothing is sent to a backend for a request that is wrong."""
    async with open_admin() as scenario:
        found = problem_of(await asked(scenario, "POST", path, body))
        sent = [seen.path for seen in scenario.simulators["a"].seen if seen.method == "POST"]

    assert found[0] == status
    assert detail in found[1]
    assert [path for path in sent if path != "/api/show"] == []


async def test_a_backend_that_refuses_is_quoted(autojump_clock: Clock) -> None:
    """A load that a backend cannot do is a 502 with the backend's own words."""
    async with open_admin() as scenario:
        script = Script(status=500, error="model requires more system memory")
        scenario.simulators["b"].script(script, path="/api/generate")
        reply = await asked(scenario, "POST", "/models/load", M1)

    words = "backend b refused: model requires more system memory"
    assert problem_of(reply) == (502, words)


async def test_a_page_of_thousands_of_models_holds_up_no_one(autojump_clock: Clock) -> None:
    """50 backends with 200 models each are listed in ten pages, of steps below 20 ms of CPU."""
    async with open_admin(models=(Model("m1:latest"),)) as scenario:
        (backend, _) = scenario.gateway.backends.all
        models = [listed(f"n{number:05}:1") for number in range(9_999)]
        listing = Listing.read({"version": "1"}, {"models": models}, {"models": models}, ("*",))
        scenario.gateway.backends.polled(backend, listing, trio.current_time())
        page = await got(scenario, "/models?limit=1000")
        pages = [page["items"]]
        while page["next"]:
            page = await got(scenario, f"/models?limit=1000&cursor={page['next']}")
            pages.append(page["items"])
    names = [model["name"] for page in pages for model in page]

    assert names == sorted(["m1:latest", *(f"n{number:05}:1" for number in range(9_999))])
    assert [len(page) for page in pages] == [1000] * 10
    document = {"items": pages[0], "next": None}
    assert json.loads(run_through(encoded(document))) == document
    assert min(longest_step(encoded(document)) for _ in range(3)) < 0.02
