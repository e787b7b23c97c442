"""Which requests belong together."""

from __future__ import annotations

from tests.backends.fleet import Clock, Fleet, answer, conversation
from tests.flow.racing import M


async def test_a_background_task_leaves_the_backend_to_its_conversation(
    autojump_clock: Clock,
) -> None:
    """It goes to another backend with room, and the conversation stays where it was."""
    fleet = Fleet("ab")
    name = fleet.turn(conversation(1))[0]
    task = fleet.turn(conversation(1, is_background=True))

    assert task[0] != name
    assert task.endswith(" none")
    assert fleet.turn(conversation(1)) == f"{name} kept"


async def test_a_background_task_loads_no_model_elsewhere(autojump_clock: Clock) -> None:
    """Where only the conversation's own backend has the model loaded, the task goes there."""
    fleet = Fleet("ab")
    name = fleet.turn(conversation(1))[0]
    fleet.poll(warm=name)

    assert fleet.turn(conversation(1, is_background=True)) == f"{name} none"


async def test_an_identity_with_three_heads_is_no_conversation(autojump_clock: Clock) -> None:
    """From the third head on, each head is a conversation of its own, and may go elsewhere."""
    fleet = Fleet()
    heads = [bytes([number]) * 16 for number in range(12)]
    talks = [conversation(1, head=head) for head in heads]
    for talk in talks[:3]:
        fleet.turn(talk)
    kinds = [fleet.turn(talk) for talk in talks]
    again = [fleet.turn(talk) for talk in talks]

    assert all(kind.endswith("new") for kind in kinds)
    assert len({kind[0] for kind in kinds}) == 3
    assert again == [kind.replace("new", "kept") for kind in kinds]


async def test_two_heads_in_turn_are_one_conversation(autojump_clock: Clock) -> None:
    """An agent and one helper may take turns for as long as they like."""
    fleet = Fleet()
    talks = [conversation(1, head=bytes([number]) * 16) for number in range(2)]
    kinds = [fleet.turn(talks[number % 2]).split()[1] for number in range(12)]

    assert kinds == ["new"] + ["kept"] * 11


async def test_an_answer_that_is_continued_tells_its_conversation(autojump_clock: Clock) -> None:
    """A request that names a relayed answer goes to that answer's backend; of the same key only."""
    fleet = Fleet()
    slot = fleet.take(conversation(1))
    assert slot.placement is not None
    slot.placement.answer_id = "resp_1"
    answer(slot)
    for number in range(2, 12):
        later = fleet.take(conversation(number, previous_response_id="resp_1"))
        assert (later.backend, later.affinity) == (slot.backend, "kept")
        later.release()
    foreign = fleet.take(conversation(99, previous_response_id="resp_1"), key="other")

    assert foreign.affinity == "new"


async def test_a_new_conversation_goes_where_its_head_was_read(autojump_clock: Clock) -> None:
    """Of the backends under their bounds, one that has read the system text and tools is first."""
    found = set()
    for number in range(1, 20):
        fleet = Fleet()
        with_head = fleet.turn(conversation(0, coarse=b"head"))[0]
        for other in range(100, 102):  # so that it is under its bound
            fleet.turn(conversation(other))
        busy = [fleet.affinity.conversations.count(b.replica_of(M)) for b in fleet.backends.all]
        placed = fleet.turn(conversation(number, coarse=b"head"))[0]
        found.add(placed == with_head or max(busy) > 1)

    assert found == {True}
