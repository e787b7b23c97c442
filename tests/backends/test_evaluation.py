"""Orders that hold in every state, and the values remembered for them."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_gateway.backends.capacity import MAX_LEARNED
from ollama_gateway.backends.evaluation import RouteRequest, evaluate, in_order
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.backends.replica import Replica
from ollama_gateway.backends.selection import Candidates
from ollama_gateway.wire.names import ModelName
from tests.backends.test_catalog import entry, listing
from tests.backends.test_selection import track_of
from tests.flow.racing import GOOD, M, Track
from tests.server.test_explain import STATE

Clock = trio.testing.MockClock
States = dict[str, dict[str, Any]]
ROUTE = RouteRequest(M, "k")
FREELY = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def order_of(states: Mapping[str, Mapping[str, Any]], **figures: float) -> str:
    """Return the order of backends in these states; `figures` are set on the replica of `b`."""
    track = track_of(states)
    for name, value in figures.items():
        setattr(track.by_name["b"].replica_of(M), name, value)
    evaluated = in_order(evaluate(ROUTE, track.backends, trio.current_time()))
    return "".join(one.backend.name for one in evaluated)


@FREELY
@given(
    states=st.dictionaries(st.sampled_from("abcd"), STATE, min_size=1),
    learned=st.lists(st.integers(1, MAX_LEARNED), min_size=4, max_size=4),
)
async def test_a_learned_capacity_makes_no_request_wait(
    autojump_clock: Clock, states: States, learned: list[int]
) -> None:
    """Whether a request gets a slot, waits or has no backend is the same for any capacity."""
    found = set()
    for capacities in ([1] * 4, learned):
        track = track_of(states)
        for backend, capacity in zip(track.backends.all, capacities, strict=False):
            backend.replica_of(M).capacity.value = capacity
            for breaker in (backend.breaker, backend.health_of(M).breaker):
                breaker.until = breaker.until and 2.0  # without its random part
        taken = Candidates(track.backends, ROUTE, 1).take(_Payer(), trio.current_time())
        found.add("slot" if isinstance(taken, Slot) else taken)

    assert len(found) == 1


class _Payer:
    def pay(self) -> bool:
        return True

    def affordable_at(self) -> float:
        return 0


@FREELY
@given(states=st.dictionaries(st.sampled_from("abcd"), STATE, min_size=1))
async def test_where_all_have_slots_only_slots_count(autojump_clock: Clock, states: States) -> None:
    """With slots everywhere the order is: tier, warm before cold, least busy, as ever."""
    track = track_of(
        {name: {**state, "slots": state["slots"] + 1} for name, state in states.items()}
    )
    admitted = [e for e in evaluate(ROUTE, track.backends, trio.current_time()) if e.is_admitted]
    by_slots = sorted(
        admitted,
        key=lambda e: (
            e.backend.priority,
            not e.is_warm,
            e.backend.in_flight / e.backend.slots,
            not e.is_loaded_so,
            e.position,
        ),
    )

    assert in_order(admitted) == by_slots


@pytest.mark.parametrize(
    ("load", "wait", "order"), [(3, 4, "ba"), (4, 3, "ab"), (300, 301, "ba"), (10, 10, "ab")]
)
async def test_measured_seconds_decide_on_a_load_that_may_evict(
    autojump_clock: Clock, load: float, wait: float, order: str
) -> None:
    """The load is begun where it takes less time than the line of the warm backend."""
    track = track_of({"a": {"warm": True, "busy": 1}, "b": {"other": True}})
    track.by_name["a"].replica_of(M).request_seconds = wait
    track.by_name["b"].replica_of(M).load_seconds = load

    evaluated = in_order(evaluate(ROUTE, track.backends, 0))

    assert "".join(one.backend.name for one in evaluated) == order


async def test_a_load_counts_as_the_requests_that_it_takes_the_time_of(
    autojump_clock: Clock,
) -> None:
    """A backend in the middle of a load gets requests once the other's line is as long."""
    states = {"a": {"warm": True, "busy": 3}, "b": {"busy": 1}}

    assert order_of(states, load_seconds=15, request_seconds=10) == "ba"
    assert order_of(states, load_seconds=25, request_seconds=10) == "ab"


def test_an_overdue_load_is_expected_to_go_on() -> None:
    """The expected rest of a load falls to nothing, and rises again once it is overdue."""
    replica = Replica("m:1")
    replica.begin(0, needs_load=True)

    assert [replica.load_left(now) for now in (0, 4, 10, 12, 40)] == [10, 6, 0, 2, 30]


async def test_what_is_measured_of_requests(autojump_clock: Clock) -> None:
    """Only requests that waited for no other are measured, and loads by their first chunk."""
    track = Track("a", warm="")
    replica = track.by_name["a"].replica_of(M)
    await track.run({"a": (4, GOOD)}, holds=2)
    loaded = replica.load_seconds, replica.request_seconds
    async with trio.open_nursery() as nursery:
        for holds in (5, 60):
            nursery.start_soon(partial(track.run, {"a": (1, GOOD)}, holds=holds))
            await trio.testing.wait_all_tasks_blocked()

    later = replica.load_seconds, replica.request_seconds
    assert [loaded, later] == [(4, 10), (4, 6)]


async def test_a_cloud_model_takes_no_memory(autojump_clock: Clock) -> None:
    """It takes no memory of the backend through which it is asked, and needs no load itself."""
    track = Track("a")
    backend, cloud = track.by_name["a"], ModelName.parse("big:cloud")
    Slot.take(track.backends, backend, cloud, 0)
    track.poll(now=1)

    assert not backend.may_evict(M, 1)
    assert not backend.needs_load(cloud)
    assert backend.replica_of(cloud).loading_since is None


async def test_what_is_forgotten(autojump_clock: Clock) -> None:
    """Measures leave with their model or its weights, and with a backend that was down."""
    track = Track("a")
    backend, other = track.by_name["a"], ModelName.parse("other:1")
    track.backends.polled(backend, listing(entry("m:1"), entry("other:1", digest="b" * 64)), 0)
    kept, gone = backend.replica_of(M), backend.replica_of(other)
    for number in range(100):
        backend.replica_of(ModelName.parse(f"m{number}:cloud"))
    track.backends.polled(backend, listing(entry("m:1")), 1)
    left = len(backend.replicas)
    track.backends.polled(backend, listing(entry("m:1"), entry("other:1", digest="b" * 64)), 2)
    again = backend.replica_of(other)
    for _ in range(3):
        track.backends.failed(backend, "no answer")
    track.backends.polled(backend, listing(entry("m:1")), 3)

    assert left == 2
    assert again is not gone
    assert backend.replica_of(M) is not kept
