"""The order of candidates, as a table over the states of backends."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio.testing

from ollama_gateway.backends.breaker import FAILURES
from ollama_gateway.backends.evaluation import RouteRequest, evaluate, in_order
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.reasons import Reason
from ollama_gateway.wire.load_options import LoadOptions, asked_load
from tests.flow.racing import M, Track

State = Mapping[str, Any]
OPEN: State = {"failures": FAILURES}
BIG: LoadOptions = (("num_ctx", 32768),)


def track_of(states: Mapping[str, State]) -> Track:
    """Make backends in these states; the defaults are idle, cold, tier 1 and no maximum."""
    priorities = {name: state.get("tier", 1) for name, state in states.items()}
    warm = [name for name, state in states.items() if state.get("warm")]
    track = Track(*states, warm="".join(warm), priorities=priorities)
    for name, state in states.items():
        backend = track.by_name[name]
        backend.slots = state.get("slots", 0)
        backend.replica_of(M).capacity.value = state.get("learned", 1)
        if state.get("other"):
            backend.used_at["other weights"] = 0
        for _ in range(state.get("busy", 0)):
            Slot.take(track.backends, backend, M, 0, load_options=state.get("loaded", ()))
        for _ in range(state.get("failures", 0)):
            backend.health_of(M).breaker.failed(0, Reason.CONNECTION_BROKEN, is_probe=False)
        for _ in range(state.get("unreachable", 0)):
            backend.breaker.failed(0, Reason.CONNECTION_BROKEN, is_probe=False)
        backend.health_of(M).load_options = state.get("loaded", ())
        backend.health_of(M).backoff_until = state.get("rests", 0)
        if state.get("is_down"):
            for _ in range(3):
                track.backends.failed(backend, "no answer")
    track.backends.pause([name for name, state in states.items() if state.get("is_paused")])
    return track


@pytest.mark.parametrize(
    ("states", "order"),
    [
        ({"a": {}, "b": {}}, "ab"),
        ({"a": {"tier": 2}, "b": {}}, "ba"),
        ({"a": {}, "b": {"warm": True}}, "ba"),
        # a tier comes before warmth
        ({"a": {}, "b": {"tier": 2, "warm": True}}, "ab"),
        # warm before least busy, where slots say how many are served at once
        ({"a": {"slots": 8}, "b": {"warm": True, "busy": 3, "slots": 8}}, "ba"),
        # without slots, a warm one below its learned capacity comes first
        ({"a": {}, "b": {"warm": True, "busy": 3, "learned": 4}}, "ba"),
        # at its capacity, it yields to a cold one that is worth a load
        ({"a": {"warm": True, "busy": 1}, "b": {}}, "ba"),
        # a load that may evict must be shorter than the line
        ({"a": {"warm": True, "busy": 1}, "b": {"other": True}}, "ab"),
        ({"a": {"warm": True, "busy": 2}, "b": {"other": True}}, "ba"),
        ({"a": {"warm": True, "busy": 4, "learned": 4}, "b": {"other": True}}, "ab"),
        # and where nothing is warm, one that evicts nothing comes first
        ({"a": {"other": True}, "b": {}}, "ba"),
        # one request at a time: the next ones join the shortest line, loads included
        ({"a": {"warm": True, "busy": 1}, "b": {"busy": 1}, "c": {}}, "abc"),
        ({"a": {"warm": True, "busy": 2}, "b": {"busy": 2}, "c": {}}, "cab"),
        ({"a": {"warm": True, "busy": 3}, "b": {"busy": 1}}, "ba"),
        ({"a": {"busy": 2}, "b": {"busy": 1}, "c": {"busy": 3}}, "bac"),
        # least busy for its slots
        ({"a": {"busy": 2, "slots": 8}, "b": {"busy": 1, "slots": 2}}, "ab"),
        # among equals, the one that loaded the model with the same options
        ({"a": {}, "b": {"loaded": BIG}}, "ba"),
        ({"a": {}, "b": {"loaded": BIG, "busy": 1}}, "ab"),
        ({"a": {"loaded": BIG}, "b": {"warm": True}}, "ba"),
        # a backend that cannot serve is no candidate
        ({"a": {"is_down": True}, "b": {}}, "b"),
        ({"a": {"is_paused": True}, "b": {}}, "b"),
        ({"a": {"is_paused": True}, "b": {"is_down": True}}, ""),
        # a backend with an open breaker comes last in any case
        ({"a": {**OPEN, "warm": True}, "b": {"tier": 9}}, "ba"),
        ({"a": {"unreachable": FAILURES}, "b": {"tier": 9}}, "ba"),
        ({"a": {"failures": FAILURES - 1}, "b": {}}, "ab"),
    ],
)
async def test_order(
    autojump_clock: trio.testing.MockClock, states: Mapping[str, State], order: str
) -> None:
    """Tier, warmth, load and load options; open breakers last; down and paused backends never."""
    track = track_of(states)

    evaluated = in_order(evaluate(RouteRequest(M, "key", BIG), track.backends, 0))

    assert "".join(evaluation.backend.name for evaluation in evaluated) == order


@pytest.mark.parametrize(
    ("states", "first"),
    [
        # a warm backend that is full comes after a cold one with room
        ({"a": {"warm": True, "slots": 2, "busy": 2}, "b": {"slots": 2}}, "b"),
        ({"a": {"slots": 1, "busy": 1}, "b": {"tier": 2}}, "b"),
        ({"a": {"warm": True, "rests": 1}, "b": {}}, "b"),
        # no backend has room
        ({"a": {"slots": 1, "busy": 1}, "b": {"rests": 1}}, None),
        # a full backend that is healthy is preferred to one whose breaker is open
        ({"a": {"slots": 1, "busy": 1}, "b": OPEN}, None),
        # all breakers are open: the one whose wait is over first
        ({"a": {"failures": FAILURES + 1, "unreachable": FAILURES}, "b": OPEN}, "either"),
    ],
)
async def test_first(
    autojump_clock: trio.testing.MockClock, states: Mapping[str, State], first: str | None
) -> None:
    """Which backend gets the next request, with regard to room; None if it waits."""
    track = track_of(states)

    with trio.move_on_after(0.5):
        outcomes = await track.run({"a": (0, "good"), "b": (0, "good")}, holds=0)
        assert outcomes.won == first or (first == "either" and outcomes.won in {"a", "b"})
        return

    assert first is None


@pytest.mark.parametrize(
    ("document", "options"),
    [
        ({}, ()),
        ({"options": None}, ()),
        ({"options": {"temperature": 1}}, ()),
        ({"options": {"num_ctx": 8192, "num_gpu": 0}}, (("num_ctx", 8192), ("num_gpu", 0))),
        (
            {"options": {"num_ctx": [1], "use_mmap": True}, "shift": False},
            (("use_mmap", True), ("shift", False)),
        ),
    ],
)
def test_load_options(document: dict[str, object], options: LoadOptions) -> None:
    """Options that make Ollama load a model again, in one order; invalid ones are left out."""
    assert asked_load(document).options == options
