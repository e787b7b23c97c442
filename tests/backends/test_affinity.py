"""Where the requests of conversations go, in virtual time."""

from __future__ import annotations

from ollama_gateway.backends.health import BackendFault
from ollama_gateway.backends.occupancy import Slot
from ollama_gateway.reasons import Reason
from tests.backends.fleet import TOKENS, Clock, Fleet, Payer, answer, conversation


async def test_a_conversation_returns_to_its_backend(autojump_clock: Clock) -> None:
    """The first turn is placed, the next ones go to the same backend, whichever is idle."""
    fleet = Fleet()
    for number in range(20):
        first = fleet.turn(conversation(number))
        again = {fleet.turn(conversation(number)) for _ in range(3)}
        assert first.endswith(" new")
        assert again == {first.replace("new", "kept")}


async def test_requests_without_a_conversation_are_not_bound(autojump_clock: Clock) -> None:
    """They take the ordinary order, and leave nothing behind."""
    fleet = Fleet()

    assert fleet.turn(None) == "a none"
    assert len(fleet.affinity.conversations) == 0


async def test_another_gateway_places_conversations_alike(autojump_clock: Clock) -> None:
    """Two gateways that share nothing send a conversation to the same backend, in most cases."""
    one, other = Fleet(), Fleet()
    numbers = list(range(60))
    there = {number: one.turn(conversation(number)) for number in numbers}
    back = {number: other.turn(conversation(number)) for number in reversed(numbers)}

    assert sum(there[number] == back[number] for number in numbers) > 45


async def test_new_conversations_spread_over_the_fleet(autojump_clock: Clock) -> None:
    """However many there are, a backend has at most 1.25 times the mean of them, and one."""
    fleet = Fleet()
    counts = dict.fromkeys("abc", 0)
    for number in range(300):
        counts[fleet.turn(conversation(number))[0]] += 1
        assert max(counts.values()) <= 1.25 * (number + 1) / 3 + 1


async def test_a_backend_with_more_slots_gets_more_conversations(autojump_clock: Clock) -> None:
    """Of 200 conversations one with three times the slots gets most, if all backends have some."""
    fleet = Fleet("ab", slots=1)
    fleet.by_name["b"].slots = 3
    counts = dict.fromkeys("ab", 0)
    for number in range(200):
        counts[fleet.turn(conversation(number))[0]] += 1

    assert 130 < counts["b"] < 170


async def test_a_better_tier_with_room_stands_above_affinity(autojump_clock: Clock) -> None:
    """A conversation that was bound to the second tier returns to the first one with room."""
    fleet = Fleet("ab", tiers="12", slots=1)
    held = fleet.take(None)
    away = fleet.turn(conversation(1))
    held.release()

    assert (held.backend.name, away) == ("a", "b new")
    assert fleet.turn(conversation(1)) == "a moved"


async def test_a_failed_attempt_binds_nothing(autojump_clock: Clock) -> None:
    """Only a good chunk binds; after a failover the conversation is where it was answered."""
    fleet = Fleet("ab")
    name = fleet.turn(conversation(1))[0]
    candidates = fleet.candidates(conversation(1))
    failed, rescue = candidates.take(Payer(), 0), candidates.take(Payer(), 0)
    assert isinstance(failed, Slot)
    assert isinstance(rescue, Slot)
    failed.failed(BackendFault.BROKEN, Reason.CONNECTION_BROKEN, 0)
    failed.release()
    answer(rescue)

    assert (failed.backend.name, failed.affinity, rescue.affinity) == (name, "kept", "moved")
    assert fleet.turn(conversation(1)) == f"{rescue.backend.name} kept"


async def test_when_a_backend_dies_only_its_conversations_move(autojump_clock: Clock) -> None:
    """Those of the others stay; each of the dead one's reads anew once and then stays too."""
    fleet = Fleet()
    before = {number: fleet.turn(conversation(number))[0] for number in range(30)}
    for _ in range(3):
        fleet.backends.failed(fleet.by_name["b"], "no answer")
    first = {number: fleet.turn(conversation(number)) for number in range(30)}
    then = {number: fleet.turn(conversation(number)) for number in range(30)}

    for number, name in before.items():
        assert first[number].endswith("moved" if name == "b" else f"{name} kept"), number
        assert then[number] == f"{first[number][0]} kept"


async def test_a_count_that_is_not_told_drops_no_binding(autojump_clock: Clock) -> None:
    """Without counts, `capacity` conversations of a backend are expected in its cache."""
    fleet = Fleet("a")
    for number in range(12):
        fleet.turn(conversation(number))
    expected = []
    for number in range(12):
        slot = fleet.take(conversation(number))
        assert slot.placement is not None
        expected.append(slot.placement.cached)
        slot.release()

    assert expected == [0] * 4 + [TOKENS] * 8
    assert all(fleet.turn(conversation(number)) == "a kept" for number in range(12))
