"""`/explain` and `/status.json` describe the backends, and agree with what happens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_gateway.backends.breaker import FAILURES
from ollama_gateway.backends.evaluation import RouteRequest
from ollama_gateway.server.explain import explain
from ollama_gateway.simulator import Model, Simulator
from tests.backends.test_selection import BIG, State, track_of
from tests.flow.racing import GOOD, M
from tests.flow.test_scenarios import SLOW
from tests.support.scenario import Scenario, open_scenario

pytestmark = pytest.mark.virtual_time

Clock = trio.testing.MockClock


@pytest.mark.parametrize(
    ("states", "candidates", "passed_over"),
    [
        (
            {"a": {"warm": True, "slots": 4, "busy": 1, "loaded": BIG}, "b": {"tier": 2}},
            {
                "a": "priority 1, warm, 1 of 4 slots busy, loaded with other options",
                "b": "priority 2, cold, 0 of 1 (learned) busy",
            },
            {},
        ),
        (
            {"a": {"slots": 1, "busy": 1}, "b": {}},
            {
                "b": "priority 1, cold, 0 of 1 (learned) busy",
                "a": "priority 1, loading, 1 of 1 slots busy, full",
            },
            {},
        ),
        (
            {"a": {"rests": 3.25}},
            {"a": "priority 1, cold, 0 of 1 (learned) busy, backing off for 3.2 s: it was full"},
            {},
        ),
        (
            {"a": {"failures": FAILURES}, "b": {}, "c": {"is_down": True}, "d": {"is_paused": 1}},
            {"b": "priority 1, cold, 0 of 1 (learned) busy"},
            {
                "a": "breaker open for 2.0 s (connection_broken)",
                "c": "down: no answer",
                "d": "paused",
            },
        ),
        (
            {"a": {"failures": FAILURES}},
            {
                "a": "last resort: breaker open for 2.0 s (connection_broken), priority 1, cold, "
                "0 of 1 (learned) busy"
            },
            {},
        ),
    ],
)
async def test_why(
    states: Mapping[str, State], candidates: dict[str, str], passed_over: dict[str, str]
) -> None:
    """Candidates come in order, each with its reasons, and so do the backends passed over."""
    track = track_of(states)
    for backend in track.backends.all:
        if backend.health_of(M).breaker.until is not None:
            backend.health_of(M).breaker.until = 2.0

    explained = explain(RouteRequest(M, ""), track.backends, 0)

    found = {one["backend"]: one["why"] for one in explained["candidates"]}
    assert list(found.items()) == list(candidates.items())
    assert {one["backend"]: one["why"] for one in explained["passed_over"]} == passed_over


STATE = st.fixed_dictionaries(
    {
        "tier": st.integers(1, 2),
        "warm": st.booleans(),
        "slots": st.integers(0, 3),
        "busy": st.integers(0, 3),
        "failures": st.sampled_from([0, 1, FAILURES]),
        "unreachable": st.sampled_from([0, 0, FAILURES]),
        "rests": st.sampled_from([0, 0, 5]),
        "is_paused": st.booleans(),
        "is_down": st.sampled_from([False, False, True]),
    }
)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(states=st.dictionaries(st.sampled_from("abcd"), STATE, min_size=1))
async def test_the_first_one_is_who_is_asked(
    autojump_clock: Clock, states: dict[str, dict[str, Any]]
) -> None:
    """A request goes to the first candidate, or waits if that one is full, in any state."""
    track = track_of(states)
    first = next(
        iter(explain(RouteRequest(M, "k"), track.backends, trio.current_time())["candidates"]), {}
    )

    outcomes = None
    with trio.move_on_after(0.001):
        outcomes = await track.run(dict.fromkeys(states, (0, GOOD)))

    waits = " full" in first.get("why", "")
    assert (outcomes is None) == waits
    if outcomes is not None:
        assert outcomes.won == first.get("backend")


async def explained(scenario: Scenario, path: str) -> tuple[int, Any]:
    """Return the admin listener's answer."""
    reply = await scenario.ask(f"/explain/{path}", method="GET", key=None, is_admin=True)
    return reply.status, reply.document


async def test_the_gateway_explains() -> None:
    """Any spelling of a name is explained, with the hedge delay and the length of the line."""
    hub = {"a": Simulator([Model("hf.co/x/y:q4"), SLOW])}
    async with open_scenario(hub, slots=1) as scenario, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(scenario.ask)
        await trio.sleep(1.5)
        status, found = await explained(scenario, "HF.co%2Fx%2Fy:q4")

    assert (status, found["model"], found["key"]) == (200, "HF.co/x/y:q4", None)
    assert (found["hedge_after_s"], found["waiting"]) == (2, 1)
    assert found["candidates"][0]["why"] == "priority 1, cold, 1 of 1 slots busy, full"


async def test_a_model_that_nobody_has(scenario: Scenario) -> None:
    """An unknown model has no candidates, and a reason for each backend."""
    status, found = await explained(scenario, "nope")

    assert (status, found["candidates"]) == (200, [])
    assert [one["why"] for one in found["passed_over"]] == ["does not list the model"] * 2


async def test_whether_a_key_may_use_the_model(scenario: Scenario) -> None:
    """The explanation says whether a key may use the model, by id or name; else it is a 400."""
    key, _ = scenario.store.create("narrow", models=("other:*",))
    free, _ = scenario.store.create("free")
    _, narrow = await explained(scenario, f"m1?key={key.id}")
    _, may = await explained(scenario, f"m1?key={free.id}")
    _, by_name = await explained(scenario, "m1?key=narrow")
    unknown = await explained(scenario, "m1?key=narow")
    invalid = await explained(scenario, "a%20b%2F%2F")

    assert narrow["key"] == {"id": key.id, "name": "narrow", "may_use": False}
    assert may["key"]["may_use"] is True
    assert by_name["key"] == narrow["key"]
    hint = "(did you mean narrow?): `gatewayctl keys list` shows them"
    assert unknown == (400, {"error": f"no key 'narow' {hint}"})
    assert invalid == (400, {"error": "invalid model name"})


async def test_the_models_and_the_settings_file(scenario: Scenario) -> None:
    """`/models.json` names the models of all backends, and the status where the settings are."""
    models = await scenario.ask("/models.json", method="GET", key=None, is_admin=True)
    status = await scenario.ask("/status.json", method="GET", key=None, is_admin=True)

    assert models.document == {"models": ["m1:latest"]}
    assert status.document["settings"] is None


async def test_the_status_has_the_same_figures() -> None:
    """The status shows each backend's breaker, and the state of each of its models."""
    async with open_scenario(models=(SLOW,)) as scenario:
        await scenario.ask()
        reply = await scenario.ask("/status.json", method="GET", key=None, is_admin=True)
        first = reply.document["backends"][0]

    assert (first["breaker"], first["in_flight"], first["slots"]) == ("closed", 0, 0)
    assert list(first["by_model"].values()) == [
        {
            "warm": True,
            "breaker": "closed",
            "failing": False,
            "rests_s": 0,
            "first_chunk_ms": 1000,
            "learned_capacity": 1,
            "prefill_tokens_per_s": None,
        }
    ]
