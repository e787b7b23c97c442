"""The table of conversations and their replicas."""

from __future__ import annotations

import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.bindings import AT_ONCE, MAX_BINDINGS, Binding, Bindings
from ollama_gateway.backends.replica import Replica
from tests.flow.racing import Track

BACKEND: Backend = Track("a").by_name["a"]
IDLE = 900.0


def name(number: int) -> bytes:
    """Return a numbered identity."""
    return number.to_bytes(16, "big")


def binding(replica: Replica, key_id: str = "k") -> Binding:
    """Return a binding to a replica."""
    return Binding(BACKEND, replica, key_id, 1000)


def test_a_binding_is_forgotten_after_its_idle_time() -> None:
    """A use begins the time anew; the binding of an idle conversation is not used any more."""
    bindings, replica = Bindings(IDLE), Replica("m")
    bindings.bind(name(1), binding(replica), 10)
    bindings.bind(name(1), binding(replica), 800)

    assert bindings.get(name(1), 800 + IDLE) is not None
    assert bindings.get(name(1), 802 + IDLE) is None


def test_idle_bindings_leave_the_table_in_pieces() -> None:
    """A thousand idle ones go a few at a time with later bindings, and do not count for ever."""
    bindings, replica, last = Bindings(IDLE), Replica("m"), Replica("m")
    for number in range(1000):
        bindings.bind(name(number), binding(replica), number / 1000)
    sizes = []
    for second in range(10):
        bindings.bind(b"later", binding(last), 2000 + 2 * second)
        sizes.append(len(bindings))

    assert all(before - after <= AT_ONCE for before, after in pairwise([1001, *sizes]))
    assert sizes[-1] == 1
    assert bindings.count(replica) == 0


def test_a_full_table_forgets_the_least_recently_used() -> None:
    """The newest stay, and one that was used again counts as new."""
    bindings, replica = Bindings(IDLE, limit=100), Replica("m")
    for number in range(100):
        bindings.bind(name(number), binding(replica), 1)
    bindings.bind(name(0), binding(replica), 2)
    for number in range(100, 150):
        bindings.bind(name(number), binding(replica), 3)

    assert len(bindings) <= 100
    assert bindings.get(name(0), 3) is not None
    assert bindings.get(name(1), 3) is None
    assert all(bindings.get(name(number), 3) for number in range(60, 150))


def test_a_flood_of_one_key_displaces_no_other_key() -> None:
    """A key holds at most half of a replica's places while others have some."""
    bindings, replica = Bindings(IDLE, limit_of_replica=100), Replica("m")
    for number in range(40):
        bindings.bind(name(number), binding(replica, "quiet"), 1)
    for number in range(1000, 3000):
        bindings.bind(name(number), binding(replica, "flood"), 2)

    assert all(bindings.get(name(number), 2) for number in range(40))
    assert 45 <= bindings.count(replica) - 40 <= 50
    assert bindings.get(name(2999), 2) is not None


def test_a_key_alone_may_use_all_places() -> None:
    """While no other key has any, one key may hold as many as a replica has."""
    bindings, replica = Bindings(IDLE, limit_of_replica=100), Replica("m")
    for number in range(1000):
        bindings.bind(name(number), binding(replica), 1)

    assert 95 <= bindings.count(replica) <= 100


@given(
    uses=st.lists(
        st.tuples(st.integers(0, 9), st.sampled_from("ab"), st.integers(0, 2)), max_size=60
    )
)
def test_the_counts_are_those_of_the_table(uses: list[tuple[int, str, int]]) -> None:
    """However conversations move between replicas, each counts once, where it was last."""
    bindings, replicas = Bindings(IDLE), [Replica("m") for _ in range(3)]
    last: dict[int, int] = {}
    for number, key_id, place in uses:
        bindings.bind(name(number), binding(replicas[place], key_id), 1)
        last[number] = place

    for place, replica in enumerate(replicas):
        assert bindings.count(replica) == list(last.values()).count(place)


@pytest.mark.parametrize("most", [3, 50])
def test_conversations_since_are_counted_for_the_same_replica(most: int) -> None:
    """Each other conversation of the replica counts once, and those of others do not."""
    bindings, replica, other = Bindings(IDLE), Replica("m"), Replica("m")
    bindings.bind(name(0), binding(replica), 1)
    for _ in range(3):
        for number in range(1, 6):
            bindings.bind(name(number), binding(replica), 1)
            bindings.bind(name(100 + number), binding(other), 1)

    assert bindings.others_since(name(0), most) == min(5, most)


def test_a_full_table_takes_less_than_32_mib() -> None:
    """100,000 identities, each with a head of its own, fit in the memory planned."""
    replicas = [Replica("m") for _ in range(20)]
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    bindings = Bindings(IDLE, MAX_BINDINGS)
    for number in range(MAX_BINDINGS):
        held = Binding(BACKEND, replicas[number % 20], "k", 10_000 + number, name(number)[8:])
        bindings.bind(name(number), held, number / 1000)
    after, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(bindings) == MAX_BINDINGS
    assert after - before < 32 * 2**20
