"""Pulls that a gateway makes: what a hostile backend says is bounded, and who leaves ends them."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from ollama_gateway.control import pulling
from ollama_gateway.control.pulling import Pull, pull_all
from ollama_gateway.simulator import Script
from tests.backends.test_pull_command import saying, unheard
from tests.support.scenario import Scenario, open_scenario

Clock = trio.testing.MockClock
SUCCESS = b'{"status":"success"}\n'


async def pulled(scenario: Scenario, script: Script) -> Pull:
    """Pull at `a`, which answers so; return how it ended."""
    scenario.simulators["a"].script(script, path="/api/pull")
    (pull,) = await pull_all(scenario.gateway.backends.all[:1], "new:1", 5, unheard)
    return pull


@pytest.mark.parametrize(
    "line",
    [
        b'{"status":"' + b"x" * pulling.MAX_LINE + b'"}',
        b"x" * 200_000,
        b"[" * 60_000,
    ],
)
@pytest.mark.parametrize("end", [b"\n", b""])
async def test_a_line_is_bounded(autojump_clock: Clock, line: bytes, end: bytes) -> None:
    """A line that no Ollama sends ends the pull, whether it is complete or not."""
    async with open_scenario() as scenario:
        pull = await pulled(scenario, saying(line + end + SUCCESS * bool(end)))

    assert not pull.ok
    assert pull.error in {
        "does not answer as an Ollama does",
        "the answer broke off",
        "the answer ended early",
    }


async def test_figures_and_names_are_bounded(autojump_clock: Clock) -> None:
    """Of ten thousand layers a thousand are counted, and a status is cut and printable."""
    lines = [{"status": "pull\x1b[2J" * 50, "digest": f"d{n}", "total": 2} for n in range(10_000)]
    body = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    async with open_scenario() as scenario:
        pull = await pulled(scenario, saying(body + b'{"status":7}\n'))

    assert pull.total == 2 * pulling.MAX_LAYERS
    assert pull.status.isprintable()
    assert len(pull.status) < 400


async def test_a_flood_of_lines_lets_others_run(autojump_clock: Clock) -> None:
    """Between fifty lines other tasks get a turn, and few reports come of many lines."""
    turns, reports = 0, 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await trio.lowlevel.checkpoint()
            turns += 1

    async def report(_pull: Pull) -> None:
        nonlocal reports
        reports += 1

    body = b'{"status":"x"}\n' * 5000 + SUCCESS
    async with open_scenario() as scenario, trio.open_nursery() as nursery:
        scenario.simulators["a"].script(saying(body), path="/api/pull")
        nursery.start_soon(count_turns)
        (pull,) = await pull_all(scenario.gateway.backends.all[:1], "new:1", 5, report)
        nursery.cancel_scope.cancel()

    assert pull.ok
    assert turns >= 5000 / pulling.LINES_IN_A_TURN
    assert reports <= 3


async def test_progress_is_told_five_times_a_second(autojump_clock: Clock) -> None:
    """A backend that says much in ten seconds causes fifty reports, and its end is told at once."""
    reports: list[tuple[float, bool]] = []

    async def report(pull: Pull) -> None:
        reports.append((trio.current_time(), pull.is_over))

    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(pace=0.01), path="/api/pull")
        began = trio.current_time()
        await pull_all(scenario.gateway.backends.all[:1], "new:1", 5, report)
        seconds = trio.current_time() - began

    assert len(reports) <= seconds / pulling.REPORT_SECONDS + 2
    assert reports[-1] == (began + seconds, True)


async def test_who_leaves_ends_the_pull(autojump_clock: Clock) -> None:
    """A pull whose asker leaves is closed upstream: no connection stays open."""
    async with open_scenario() as scenario:
        scenario.simulators["a"].script(Script(pace=1000.0), path="/api/pull")
        with trio.move_on_after(3) as leaving:
            await pull_all(scenario.gateway.backends.all[:1], "new:1", 10_000, unheard)
        transports = [backend.transport for backend in scenario.gateway.backends.all]

        assert leaving.cancelled_caught
        assert [transport.open_connections for transport in transports] == [0, 0]


async def test_a_report_that_waits_holds_up_no_backend(autojump_clock: Clock) -> None:
    """A client that reads slowly gets the latest state, and the pull goes on meanwhile."""
    seen: list[Pull] = []

    async def report(pull: Pull) -> None:
        seen.append(pull)
        await trio.sleep(100)

    async with open_scenario() as scenario:
        began = trio.current_time()
        await pull_all(scenario.gateway.backends.all[:1], "new:1", 5, report)
        seconds = trio.current_time() - began

    assert seconds <= 100 * len(seen) + 1
    assert len(seen) <= 3
