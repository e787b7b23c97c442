"""Conversations on machines with prefix caches, next to an oracle that pins each to a machine.

These are the smaller cases of `python -m tests.bench.affinity`, in virtual time.
"""

from __future__ import annotations

import random
from itertools import pairwise

import attrs
import pytest
import trio.testing

from tests.support.conversations import Machines, Outcome, Talks, Turn, measure

Clock = trio.testing.MockClock
pytestmark = pytest.mark.virtual_time
MACHINES = Machines()
TALKS = Talks(number=12, turns=8, think=15.0)
"""A fleet that is busy for two fifths of the time."""


async def test_the_cache_is_used_as_if_each_conversation_had_its_machine() -> None:
    """At least 95 % of the oracle's cached share, its first chunks, and an even load."""
    found = {
        mode: await measure(mode, MACHINES, TALKS) for mode in ("oracle", "without", "affinity")
    }
    oracle, without, affinity = found["oracle"], found["without"], found["affinity"]

    assert affinity.failed == 0
    assert affinity.cached_share >= 0.95 * oracle.cached_share
    assert affinity.p50() <= 1.3 * oracle.p50()
    assert affinity.p50() <= 0.5 * without.p50()
    assert affinity.busiest <= 1.25


@pytest.mark.parametrize("machines", [Machines(slots=1), Machines(tells=False)], ids=str)
async def test_slots_and_silent_machines_cost_little(machines: Machines) -> None:
    """With `slots`, where requests wait in line, and where no cache is reported, it works too."""
    affinity = await measure("affinity", machines, TALKS)

    assert affinity.failed == 0
    assert affinity.cached_share >= 0.9 * TALKS.best_share


@pytest.mark.parametrize("gateways", [2, 4])
async def test_gateways_that_share_nothing_agree(gateways: int) -> None:
    """Each request goes through any of the gateways, and most find their conversation's machine."""

    def choose(chance: random.Random, _now: float) -> int:
        return chance.randrange(gateways)

    affinity = await measure("affinity", MACHINES, TALKS, gateways=gateways, choose=choose)

    assert affinity.cached_share >= 0.85 * TALKS.best_share


async def test_a_machine_that_dies_takes_only_its_own_conversations_along() -> None:
    """The others never move away from a living machine; each of its own reads anew about once."""
    quiet = attrs.evolve(TALKS, number=9, think=60.0)
    found = await measure("affinity", MACHINES, quiet, kill_at=200.0)

    assert found.failed == 0
    for turns in found.by_talk().values():
        moves = [(one, other) for one, other in pairwise(turns) if one.backend != other.backend]
        assert len(moves) <= 2
        assert not any(_reads_anew(turn) for turn in turns[1:] if turn.kind == "kept")


def _reads_anew(turn: Turn) -> bool:
    return turn.cached < turn.prompt / 2


async def test_the_others_leave_the_machine_of_a_hot_conversation() -> None:
    """Beside one conversation that never rests, the slowest first chunks of others get no worse."""
    hot = Talks(number=1, turns=40, first=60_000, growth=200, think=0, prefix="hot")
    cold = attrs.evolve(TALKS, number=8, turns=5)
    found: dict[str, Outcome] = {}
    found["without"] = await measure("without", MACHINES, cold, hot)
    found["affinity"] = await measure("affinity", MACHINES, cold, hot)

    assert found["affinity"].p99("t") <= found["without"].p99("t")
    assert found["affinity"].p50("t") <= found["without"].p50("t")


async def test_more_conversations_than_any_cache_keeps_cost_nothing() -> None:
    """With room for 6 of 60, first chunks come no more than a twentieth later than without."""
    small, many = Machines(conversations=2), Talks(number=60, turns=3, think=80.0)
    without = await measure("without", small, many)
    affinity = await measure("affinity", small, many)

    assert affinity.p50() <= 1.05 * without.p50()
    assert affinity.cached_share >= without.cached_share


async def test_a_quiet_fleet_spreads() -> None:
    """Conversations that come one at a time go to all machines, not to the first one."""
    quiet = Talks(number=9, turns=2, think=200.0)
    found = await measure("affinity", MACHINES, quiet)
    firsts = [turns[0].backend for turns in found.by_talk().values()]

    assert sorted(set(firsts)) == ["a", "b", "c"]
    assert max(map(firsts.count, firsts)) <= 4
