"""A long waiting line: how many waiters are asked, and that none of them is forgotten."""

from __future__ import annotations

import trio.testing

from ollama_gateway.backends.waiting import LOOKS_PER_TURN, Waiter, WaitingKind, WaitingLine


class Machine:
    """A place with a number of slots, and the names of the waiters that were asked and served."""

    def __init__(self, free: int = 0) -> None:
        self.free = free
        self.asked: list[str] = []
        self.served: list[str] = []

    def has_slot(self) -> bool:
        """Return True if a slot is free."""
        return self.free > 0

    def waiter(self, key: str, name: str, state: object = None) -> Waiter:
        """Make a waiter for a slot, of a kind that `state` tells from others."""

        def serve(_: float) -> bool:
            self.asked.append(name)
            if not self.free:
                return False
            self.free -= 1
            self.served.append(name)
            return True

        return Waiter(key, lambda _: WaitingKind(frozenset({self}), str(state)), serve)


async def stand(line: WaitingLine, waiter: Waiter) -> None:
    """Stand in line until served."""
    with line.joined(waiter, trio.current_time()):
        await waiter.served()


async def start(nursery: trio.Nursery, line: WaitingLine, *waiters: Waiter) -> None:
    """Let waiters join in this order."""
    for waiter in waiters:
        nursery.start_soon(stand, line, waiter)
        await trio.testing.wait_all_tasks_blocked()


async def test_only_those_that_wait_for_a_place_are_asked() -> None:
    """A change of one machine asks none that wait for another."""
    line, one, other = WaitingLine(), Machine(), Machine(free=1)
    async with trio.open_nursery() as nursery:
        await start(nursery, line, one.waiter("k", "a"), other.waiter("k", "b"))
        line.dispatch(other, other.has_slot)

        assert (one.asked, other.asked) == ([], ["b"])
        nursery.cancel_scope.cancel()
    assert not line._places
    assert not line._kinds


async def test_none_is_asked_for_a_slot_that_is_taken() -> None:
    """One freed slot asks one of a hundred kinds, the one whose turn it is."""
    line, machine = WaitingLine(), Machine()
    async with trio.open_nursery() as nursery:
        waiters = [machine.waiter("k", str(number), number) for number in range(100)]
        await start(nursery, line, *waiters, machine.waiter("l", "other"))
        for _ in range(3):
            machine.free = 1
            line.dispatch(machine, machine.has_slot)

        assert machine.asked == machine.served == ["0", "other", "1"]
        nursery.cancel_scope.cancel()


async def test_a_turn_asks_only_so_many() -> None:
    """The others are asked in the next turns, in the order in which they stand."""
    line, machine = WaitingLine(), Machine()
    names = [str(number) for number in range(LOOKS_PER_TURN * 2 + 5)]
    async with trio.open_nursery() as nursery:
        await start(nursery, line, *(machine.waiter("k", name, name) for name in names))
        line.dispatch(machine)
        asked_at_once = list(machine.asked)
        was_behind = line.is_behind
        await trio.testing.wait_all_tasks_blocked()

        assert asked_at_once == names[:LOOKS_PER_TURN]
        assert machine.asked == names
        assert (was_behind, line.is_behind) == (True, False)
        nursery.cancel_scope.cancel()


async def test_much_room_is_given_away_in_several_turns_and_by_key() -> None:
    """However many can go on at once, keys take turns, and a newcomer comes last."""
    line, machine = WaitingLine(), Machine()
    number = LOOKS_PER_TURN * 2
    async with trio.open_nursery() as nursery:
        await start(nursery, line, *(machine.waiter("k", "k") for _ in range(number)))
        await start(nursery, line, *(machine.waiter("l", "l") for _ in range(number)))
        machine.free = 2 * number + 1
        line.dispatch(machine, machine.has_slot)
        assert len(machine.served) == LOOKS_PER_TURN
        assert line.waits_for(frozenset({machine}))
        nursery.start_soon(stand, line, machine.waiter("m", "new"))

    turns = ["k", "l"] * number
    assert machine.served.index("new") > LOOKS_PER_TURN
    assert [name for name in machine.served if name != "new"] == turns


async def test_those_that_leave_in_between_are_not_asked() -> None:
    """Clients that leave before their turn end the work that is left."""
    line, machine = WaitingLine(), Machine()
    names = [str(number) for number in range(LOOKS_PER_TURN + 5)]
    async with trio.open_nursery() as nursery:
        await start(nursery, line, *(machine.waiter("k", name, name) for name in names))
        line.dispatch(machine)
        nursery.cancel_scope.cancel()
    await trio.testing.wait_all_tasks_blocked()

    assert machine.asked[:LOOKS_PER_TURN] == names[:LOOKS_PER_TURN]
    assert len(machine.asked) == len(set(machine.asked))
    assert not line.is_behind
    assert not line._places


async def test_a_waiter_moves_to_its_present_kind() -> None:
    """If its kind has changed when it is asked in vain, others of the old kind are asked too."""
    line, before, after, asked = WaitingLine(), Machine(), Machine(), []
    present = [before]

    def waiter(name: str) -> Waiter:
        def serve(_: float) -> bool:
            asked.append(name)
            return present[0].has_slot()

        return Waiter("k", lambda _: WaitingKind(frozenset(present)), serve)

    async with trio.open_nursery() as nursery:
        await start(nursery, line, waiter("a"), waiter("b"))
        present[0] = after
        line.dispatch(before)
        assert asked == ["a", "b"]
        line.dispatch(before)
        assert asked == ["a", "b"]
        after.free = 1
        line.dispatch(after, after.has_slot)


async def test_time_that_changes_one_waiter_asks_its_new_kind_once() -> None:
    """The first to move to a kind is asked; those that follow wait with it unasked."""
    line, asked, widened = WaitingLine(), [], set()

    def waiter(name: str) -> Waiter:
        def kind(_: float) -> WaitingKind:
            return WaitingKind(frozenset(), name in widened)

        def serve(_: float) -> bool:
            asked.append(name)
            return False

        return Waiter("k", kind, serve)

    waiters = [waiter(name) for name in "abc"]
    async with trio.open_nursery() as nursery:
        await start(nursery, line, *waiters)
        for name, each in zip("abc", waiters, strict=True):
            widened.add(name)
            line.look_at(each)

        assert asked == ["a"]
        nursery.cancel_scope.cancel()
