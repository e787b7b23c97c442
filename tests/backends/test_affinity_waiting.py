"""How long a request waits for the backend of its conversation."""

from __future__ import annotations

import trio
import trio.testing

from tests.backends.fleet import SPEED, TOKENS, Clock, Fleet, Payer, answer, begin, conversation
from tests.flow.racing import M


async def test_a_busy_backend_keeps_its_conversation_if_the_line_is_short(
    autojump_clock: Clock,
) -> None:
    """A line of 5 s costs less than 10 s of reading; 20 s cost more, and the conversation moves."""
    fleet = Fleet("ab")
    name = fleet.turn(conversation(1))[0]
    replica = fleet.by_name[name].replica_of(M)
    replica.work.answer_seconds = 5
    begin(fleet.take(conversation(1)))
    short = fleet.turn(conversation(1))
    replica.work.answer_seconds = 20
    long = fleet.turn(conversation(1))
    there = fleet.turn(conversation(1))

    assert short == f"{name} kept"
    assert long[0] != name
    assert long.endswith(" moved")
    assert there == long.replace("moved", "kept")


async def test_a_request_waits_for_its_own_backend_for_as_long_as_it_would_save(
    autojump_clock: Clock,
) -> None:
    """Ten seconds of reading are worth ten seconds of waiting; then it takes the idle backend."""
    fleet = Fleet("ab", slots=1)
    name = fleet.turn(conversation(1))[0]
    fleet.take(conversation(1))  # and never ends
    slot = await fleet.candidates(conversation(1)).next(Payer())

    assert slot is not None
    assert slot.backend.name != name
    assert trio.current_time() == TOKENS / SPEED
    assert fleet.by_name[name].replica_of(M).work.awaiting == 0


async def test_a_request_that_waits_gets_its_own_backend_at_once(autojump_clock: Clock) -> None:
    """Once the backend has room, the request has it, in the same instant."""
    fleet = Fleet("ab", slots=1)
    fleet.turn(conversation(1))
    held = fleet.take(conversation(1))

    async def free() -> None:
        await trio.sleep(4)
        held.release()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(free)
        slot = await fleet.candidates(conversation(1)).next(Payer())

    assert slot is not None
    assert (slot.backend, slot.affinity, trio.current_time()) == (held.backend, "kept", 4)


async def test_those_who_wait_for_a_backend_hold_up_no_other(autojump_clock: Clock) -> None:
    """While 200 requests wait for one backend, a request of another key takes the idle one."""
    fleet = Fleet("ab", slots=1)
    name = fleet.turn(conversation(1))[0]
    fleet.take(conversation(1))
    idle = fleet.by_name["b" if name == "a" else "a"]
    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(fleet.candidates(conversation(1)).next, Payer())
        await trio.testing.wait_all_tasks_blocked()
        assert len(fleet.backends.line) >= 1
        now = trio.current_time()
        slot = await fleet.candidates(conversation(2), key="other").next(Payer())
        nursery.cancel_scope.cancel()

    assert slot is not None
    assert (slot.backend, trio.current_time()) == (idle, now)


async def test_a_restarted_backend_is_expected_to_have_nothing_cached(
    autojump_clock: Clock,
) -> None:
    """Its conversations stay there while it is idle, and do not wait for it."""
    fleet = Fleet("ab", slots=1)
    name = fleet.turn(conversation(1))[0]
    backend = fleet.by_name[name]
    for _ in range(3):
        fleet.backends.failed(backend, "no answer")
    fleet.poll(warm=("a", "b"))
    fleet.take(conversation(1))
    slot = await fleet.candidates(conversation(1)).next(Payer())

    assert slot is not None
    assert slot.backend is not backend
    assert trio.current_time() == 0


async def test_a_head_that_changes_in_each_turn_is_not_waited_for(autojump_clock: Clock) -> None:
    """A prompt that is never found in the cache is soon not expected there."""
    fleet = Fleet("ab", slots=1)
    for _ in range(8):
        slot = fleet.take(conversation(1))
        answer(slot, found=0)
    fleet.take(conversation(1))
    other = await fleet.candidates(conversation(1)).next(Payer())

    assert other is not None
    assert other.backend is not slot.backend
    assert trio.current_time() < 1
