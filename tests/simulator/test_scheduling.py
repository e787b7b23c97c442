"""Which models are loaded, under which name and until when; which requests wait for a slot."""

from __future__ import annotations

import datetime as dt

import anyio
import pytest
import trio.testing

from ollama_gateway.simulator import Limits, Model, Simulator, memory_server
from tests.simulator.client import Answer, ask

Clock = trio.testing.MockClock
BUSY = "server busy, please try again.  maximum pending requests exceeded"
LONGEST = 2**63 / 1e9


def chat(model: str, **more: object) -> dict[str, object]:
    """Make a chat."""
    return {"model": model, "messages": [{"role": "user", "content": "hi"}], **more}


async def posted(simulator: Simulator, path: str, body: object) -> Answer:
    """Send a request on a connection of its own."""
    async with memory_server(simulator) as connect:
        return await ask(await connect(), "POST", path, body)


async def listed(simulator: Simulator) -> list[str]:
    """Return the names in `/api/ps`."""
    async with memory_server(simulator) as connect:
        told = await ask(await connect(), "GET", "/api/ps")
    return [row["name"] for row in told.document["models"]]


async def shared() -> Simulator:
    """Make one whose model has a copy and a persona, which share its weights."""
    simulator = Simulator([Model("m1", load_time=5)])
    await posted(simulator, "/api/copy", {"source": "m1", "destination": "copy"})
    await posted(simulator, "/api/create", {"model": "persona", "from": "m1", "system": "s"})
    return simulator


@pytest.mark.parametrize("other", ["copy", "persona"])
async def test_names_that_share_their_weights_share_a_runner(
    other: str, autojump_clock: Clock
) -> None:
    """The second name needs no load, and only the one that loaded is listed."""
    simulator = await shared()
    await posted(simulator, "/api/chat", chat("m1"))
    start = anyio.current_time()
    await posted(simulator, "/api/chat", chat(other))

    assert anyio.current_time() == start
    assert await listed(simulator) == ["m1:latest"]


@pytest.mark.parametrize("other", ["copy", "persona"])
async def test_unloading_one_name_unloads_all_that_share_its_weights(
    other: str, autojump_clock: Clock
) -> None:
    """`keep_alive` 0 for one of the names unloads the runner."""
    simulator = await shared()
    await posted(simulator, "/api/chat", chat("m1"))
    await posted(simulator, "/api/generate", {"model": other, "keep_alive": 0})

    assert await listed(simulator) == []


async def test_weights_are_shown_as_the_source_of_a_persona() -> None:
    """`FROM` names the file that the names share."""
    simulator = await shared()
    shown = [await posted(simulator, "/api/show", {"model": name}) for name in ("m1", "persona")]
    sources = [
        next(line for line in told.document["modelfile"].splitlines() if line.startswith("FROM"))
        for told in shown
    ]

    assert len(set(sources)) == 1


async def test_a_model_that_is_loading_is_not_listed(autojump_clock: Clock) -> None:
    """A model is listed after its load, not before."""
    simulator = Simulator([Model("m1", load_time=5, first_token=5)])
    seen = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(posted, simulator, "/api/chat", chat("m1"))
        for _ in range(2):
            await anyio.sleep(3)
            seen.append(await listed(simulator))

    assert seen == [[], ["m1:latest"]]


async def test_residency_begins_anew_at_the_end_of_a_request(autojump_clock: Clock) -> None:
    """While a model runs, the last request sets its end; afterwards the end moves."""
    simulator = Simulator([Model("m1", first_token=30)], keep_alive=100)
    simulator.load("m1")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(posted, simulator, "/api/chat", chat("m1"))
        await anyio.sleep(10)
        during = simulator.loaded["m1:latest"] - anyio.current_time()
    after = simulator.loaded["m1:latest"] - anyio.current_time()

    assert (during, after) == (90, 100)


async def test_the_listed_end_stays_until_it_moves(autojump_clock: Clock) -> None:
    """Two listings give one `expires_at`, to the nanosecond; a request in between moves it."""
    simulator = Simulator([Model("m1")], keep_alive=100)
    simulator.load("m1")
    ends = []
    async with memory_server(simulator) as connect:
        for pause in (0, 30, 60):
            await anyio.sleep(pause)
            listed = await ask(await connect(), "GET", "/api/ps")
            ends.append(listed.document["models"][0]["expires_at"])
            if pause:
                await posted(simulator, "/api/chat", chat("m1"))

    assert ends[0] == ends[1] != ends[2]


async def test_for_ever_is_292_years() -> None:
    """A negative `keep_alive` is reported as Go's longest duration, which gave 2319 in 2026."""
    simulator = Simulator([Model("m1")])
    await posted(simulator, "/api/generate", {"model": "m1", "keep_alive": -1})
    before = dt.datetime.now(dt.UTC)
    async with memory_server(simulator) as connect:
        told = await ask(await connect(), "GET", "/api/ps")
    after = dt.datetime.now(dt.UTC)
    row = told.document["models"][0]
    until = dt.datetime.fromisoformat(row["expires_at"])

    slack = dt.timedelta(milliseconds=1)
    longest = dt.timedelta(seconds=LONGEST)
    assert before + longest - slack <= until <= after + longest + slack


async def test_one_at_a_time_they_wait_for_each_other(autojump_clock: Clock) -> None:
    """Three requests of a second take one, two and three seconds, and none is refused."""
    simulator = Simulator([Model("m1", first_token=1)], limits=Limits(parallel=1))
    simulator.load("m1")
    ends = []

    async def asked() -> None:
        answer = await posted(simulator, "/api/chat", chat("m1"))
        ends.append((answer.status, anyio.current_time() - start))

    start = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(asked)

    assert ends == [(200, 1), (200, 2), (200, 3)]


async def test_a_client_that_leaves_the_queue_frees_its_place(autojump_clock: Clock) -> None:
    """The requests behind a client that leaves are served earlier."""
    simulator = Simulator([Model("m1", first_token=10)], limits=Limits(parallel=1))
    simulator.load("m1")
    start = anyio.current_time()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(posted, simulator, "/api/chat", chat("m1"))
        await anyio.sleep(1)
        with anyio.move_on_after(1):
            await posted(simulator, "/api/chat", chat("m1"))
        await posted(simulator, "/api/chat", chat("m1"))

    assert anyio.current_time() - start == 20


async def test_a_full_queue_for_loads_is_a_503(autojump_clock: Clock) -> None:
    """With two places in the queue, three of eight are served, and five are refused at once."""
    simulator = Simulator([Model("m1", load_time=5)], limits=Limits(max_queue=2))
    answers: list[Answer] = []

    async def asked() -> None:
        answers.append(await posted(simulator, "/api/chat", chat("m1", stream=False)))

    async with anyio.create_task_group() as tasks:
        for _ in range(8):
            tasks.start_soon(asked)

    refused = [answer for answer in answers if answer.status == 503]
    assert sorted(answer.status for answer in answers) == [200] * 3 + [503] * 5
    assert {answer.document["error"] for answer in refused} == {BUSY}
    assert not any("retry-after" in answer.headers for answer in refused)
    assert answers[:5] == refused


@pytest.mark.parametrize(
    ("spoilt", "loaded"),
    [
        ({"format": "xml"}, ["m1:latest"]),
        ({"_debug_render_only": True}, ["m1:latest"]),
        ({"options": {"stop": "x"}}, []),
        ({"think": 0}, []),
    ],
)
async def test_what_is_refused_late_costs_a_load(
    spoilt: dict[str, object], loaded: list[str]
) -> None:
    """Formats are checked after the load, options and types before."""
    simulator = Simulator([Model("m1")])
    await posted(simulator, "/api/chat", chat("m1", **spoilt))

    assert await listed(simulator) == loaded
