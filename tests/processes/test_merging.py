"""Merged readiness and status of several processes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ollama_gateway.processes.merging import RULES, JSONObject, readiness, status
from tests.support.scenario import open_scenario

pytestmark = pytest.mark.virtual_time

READY: JSONObject = {"ready": True, "reasons": [], "degraded": []}
DOWN: JSONObject = {"ready": False, "reasons": ["no backend is up"], "degraded": []}


def test_one_ready_process_makes_the_gateway_ready() -> None:
    """One ready process suffices; the problems of the others are degraded."""
    found = readiness({0: READY, 1: None, 2: DOWN}, is_draining=False)

    assert found == {
        "ready": True,
        "reasons": [],
        "degraded": ["process 1 does not answer", "process 2: no backend is up"],
    }


def test_what_all_lack_is_said_once() -> None:
    """A reason that all processes share is listed once."""
    degraded = {**DOWN, "degraded": ["audit records wait for PostgreSQL"]}

    assert readiness({0: degraded, 1: degraded}, is_draining=False) == degraded


def test_without_a_process_nothing_is_ready() -> None:
    """The gateway is not ready before the first process serves, and after all have died."""
    for answers in ({}, {0: None}):
        found = readiness(answers, is_draining=False)
        assert (found["ready"], found["reasons"]) == (False, ["no process serves"])


def test_a_drain_comes_first() -> None:
    """While draining it is not ready, whatever the processes answer."""
    found = readiness({0: READY, 1: READY}, is_draining=True)

    assert found == {"ready": False, "reasons": ["draining"], "degraded": []}


def backend(**changes: Any) -> JSONObject:
    """Make a backend as one process sees it."""
    model = {
        "warm": False,
        "breaker": "closed",
        "failing": False,
        "rests_s": 0,
        "first_chunk_ms": None,
    }
    return {
        "name": "a",
        "slots": 2,
        "up": True,
        "paused": False,
        "in_flight": 1,
        "breaker": "closed",
        "by_model": {"m:latest": {**model, **changes.pop("model", {})}},
        "error": None,
        **changes,
    }


def test_a_status_adds_up_what_can_be_added() -> None:
    """Slots and requests add up; of states the one that matters most to an operator is shown."""
    one = {**READY, "requests": 3, "backends": [backend(model={"breaker": "half-open"})]}
    ill = backend(up=False, error="cannot connect", model={"warm": True, "breaker": "open"})
    other = {**READY, "requests": 4, "backends": [ill]}

    found = status({0: one, 1: other}, is_draining=False)

    (merged,) = found["backends"]
    assert found["requests"] == 7
    assert (merged["slots"], merged["in_flight"]) == (4, 2)
    assert (merged["up"], merged["error"]) == (True, "cannot connect")
    assert merged["by_model"]["m:latest"]["breaker"] == "open"
    assert merged["by_model"]["m:latest"]["warm"] is True


def test_a_pause_is_in_force_when_all_obey() -> None:
    """A backend counts as paused when all processes have paused it."""
    one, other = ({**READY, "backends": [backend(paused=paused)]} for paused in (True, False))

    assert not status({0: one, 1: other}, is_draining=False)["backends"][0]["paused"]
    assert status({0: one, 1: one}, is_draining=False)["backends"][0]["paused"]


def test_a_silent_process_has_no_part_in_it() -> None:
    """The status merges the answering processes, by number."""
    found = status({0: None, 1: {**READY, "requests": 3}}, is_draining=False)

    assert (found["ready"], found["requests"]) == (True, 3)
    assert "requests" not in status({0: None}, is_draining=False)


def leaves(value: Any, place: str = "") -> Iterator[str]:
    """Return the paths of all values of a status, as in the rules."""
    match value:
        case dict():
            for name, below in value.items():
                known = "*" if place.endswith("by_model") else name
                yield from leaves(below, f"{place}.{known}".lstrip("."))
        case list() if value and isinstance(value[0], dict):
            yield from leaves(value[0], place)
        case _:
            yield place


async def test_every_value_has_a_rule() -> None:
    """Every value has a rule and every rule a value, so that none is merged by accident."""
    async with open_scenario() as scenario:
        await scenario.ask()
        document = (await scenario.ask("/status.json", method="GET", is_admin=True)).document

    assert set(leaves(document)) - {"ready", "reasons", "degraded"} == set(RULES)
