"""The waiting line: whose turn it is, and that no waiter is forgotten."""

from __future__ import annotations

import anyio
import pytest
import trio.testing

from ollama_gateway.backends.waiting import MAX_WAITING, Waiter, WaitingKind, WaitingLine
from ollama_gateway.errors import Unavailable


def of_kind(name: str) -> WaitingKind:
    """Return the kind of waiters for one place of that name."""
    return WaitingKind(frozenset({name}))


class Room:
    """A number of free places, and the waiters that took one."""

    def __init__(self, free: int = 0) -> None:
        self.free = free
        self.served: list[str] = []

    def waiter(self, key: str, name: str = "", kind: str = "m") -> Waiter:
        """Make a waiter for a place."""

        def serve(_: float) -> bool:
            if not self.free:
                return False
            self.free -= 1
            self.served.append(name or key)
            return True

        return Waiter(key, lambda _: of_kind(kind), serve)


async def served_in(line: WaitingLine, room: Room, arrivals: list[tuple[str, str]]) -> list[str]:
    """Let all waiters arrive, then free places one by one; return the order of service."""
    async with trio.open_nursery() as nursery:
        for key, name in arrivals:

            async def wait(key: str = key, name: str = name) -> None:
                with line.joined(room.waiter(key, name), 0) as waiter:
                    await waiter.served()

            nursery.start_soon(wait)
            await trio.testing.wait_all_tasks_blocked()
        for _ in arrivals:
            room.free += 1
            line.dispatch()
    assert len(line) == 0
    return room.served


async def test_one_key_is_served_in_order_of_arrival() -> None:
    """Requests of one key are served in order of arrival."""
    arrivals = [("k", name) for name in "abcd"]

    assert await served_in(WaitingLine(), Room(), arrivals) == list("abcd")


async def test_keys_take_turns() -> None:
    """A key that floods the line delays another key's first request by one turn."""
    arrivals = [("k", "k1"), ("k", "k2"), ("k", "k3"), ("l", "l1"), ("l", "l2"), ("m", "m1")]

    assert await served_in(WaitingLine(), Room(), arrivals) == ["k1", "l1", "m1", "k2", "l2", "k3"]


async def test_who_cannot_go_on_holds_up_nobody_else() -> None:
    """A place for one kind goes to its first waiter, past waiters of other kinds."""
    line, none, some = WaitingLine(), Room(), Room()
    with (
        line.joined(none.waiter("k", kind="full"), 0),
        line.joined(none.waiter("l", kind="full"), 0),
        line.joined(some.waiter("k", "served"), 0) as waiter,
    ):
        some.free = 1
        line.dispatch()
        await waiter.served()

        assert some.served == ["served"]
        assert len(line) == 2


async def test_one_dispatch_serves_all_that_there_is_room_for() -> None:
    """One dispatch can free several places."""
    line, room = WaitingLine(), Room()
    waiters = [room.waiter(key) for key in "kkkl"]
    with line.joined(waiters[0], 0), line.joined(waiters[1], 0), line.joined(waiters[2], 0):
        with line.joined(waiters[3], 0):
            room.free = 3
            line.dispatch()
        assert room.served == ["k", "l", "k"]


async def test_a_line_that_is_full_sends_away_the_last_one_of_who_fills_it() -> None:
    """1,024 may wait; a key with all places loses its newest to another key's first."""
    line, room = WaitingLine(capacity=2), Room(0)
    assert MAX_WAITING == 1024
    with (
        line.joined(room.waiter("k", "first"), 0),
        line.joined(room.waiter("k", "last"), 0) as last,
        line.joined(room.waiter("l", "other"), 0),
    ):
        assert len(line) == 2
        with pytest.raises(Unavailable) as refusal:
            await last.served()
        room.free = 2
        line.dispatch()

    assert refusal.value.reason == "queue_full"
    assert room.served == ["first", "other"]
    assert len(line) == 0


async def test_who_fills_the_line_is_refused() -> None:
    """One more request of the same key is rejected at once."""
    line, room = WaitingLine(capacity=2), Room()
    with (
        line.joined(room.waiter("k"), 0),
        line.joined(room.waiter("l"), 0),
        line.joined(room.waiter("k"), 0) as third,
    ):
        with pytest.raises(Unavailable) as refusal:
            await third.served()
        assert len(line) == 2

    assert refusal.value.reason == "queue_full"


async def test_one_of_each_kind_looks_at_the_clock() -> None:
    """When it leaves, the next one sets the alarm, and sets it again after each change."""
    line, looks = WaitingLine(), []

    def waiter(name: str, kind: str) -> Waiter:
        return Waiter("k", lambda _: of_kind(kind), lambda _: False, lambda _: looks.append(name))

    a, b, c = waiter("a", "x"), waiter("b", "x"), waiter("c", "y")
    with line.joined(c, 0), line.joined(b, 0):
        assert looks == ["c", "b"]
        with line.joined(a, 0):
            assert looks == ["c", "b"]
            line.dispatch()
            assert sorted(looks[2:]) == ["b", "c"]
    with line.joined(a, 0), line.joined(b, 0):
        looks.clear()
        line._remove(a)
        assert looks == ["b"]


async def test_a_drain_sends_all_away_and_lets_nobody_in() -> None:
    """Waiting requests get a 503 at once, and new ones too."""
    line, room = WaitingLine(), Room()
    with line.joined(room.waiter("k"), 0) as waiter:
        line.close()
        with pytest.raises(Unavailable) as sent_away:
            await waiter.served()
    with pytest.raises(Unavailable) as refused, line.joined(room.waiter("k"), 0):
        pass

    assert (sent_away.value.reason, refused.value.reason) == ("draining", "draining")
    assert len(line) == 0


async def test_who_leaves_is_not_served() -> None:
    """A client that has left takes no place from the next one."""
    line, room = WaitingLine(), Room()
    with line.joined(room.waiter("k", "stays"), 0) as stays:
        with anyio.move_on_after(0), line.joined(room.waiter("k", "leaves"), 0) as leaves:
            await leaves.served()
        room.free = 1
        line.dispatch()
        await stays.served()

    assert room.served == ["stays"]
