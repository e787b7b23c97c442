"""The chain: every way to tamper with a journal, and the record that shows it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from ollama_gateway.ledger.chain import ChainFault, Checkpoint, Link, link, verify
from tests.ledger.records import KEY, final, journal, stored

COUNT = 9


@pytest.fixture(scope="module")
def links(tmp_path_factory: pytest.TempPathFactory) -> list[Link]:
    """Return nine records of a real journal."""
    path = tmp_path_factory.mktemp("chain") / "journal-0.db"
    opened = journal(path)
    opened.commit([final(f"r{number}") for number in range(1, COUNT + 1)])
    opened.close()
    return stored(path)


def changed(place: int, **fields: Any) -> Callable[[list[Link]], list[Link]]:
    """Return a change of one record."""

    def change(records: list[Link]) -> list[Link]:
        return [*records[:place], attrs.evolve(records[place], **fields), *records[place + 1 :]]

    return change


def inserted(records: list[Link]) -> list[Link]:
    """Insert a forged record, hashed without the key."""
    document = '{"outcome":"completed"}'
    forged = link(records[3].hash, 5, "forged", document, b"")
    later = [attrs.evolve(record, seq=record.seq + 1) for record in records[4:]]
    return [*records[:4], Link(5, "forged", document, forged), *later]


@pytest.mark.parametrize(
    ("tamper", "fault"),
    [
        (lambda records: records, None),
        (changed(4, document="{}"), ChainFault(5, "r5", "altered")),
        (changed(4, request_id="other"), ChainFault(5, "other", "altered")),
        (changed(4, hash=bytes(32)), ChainFault(5, "r5", "altered")),
        (changed(0, document="{}"), ChainFault(1, "r1", "altered")),
        (changed(COUNT - 1, document="{}"), ChainFault(COUNT, f"r{COUNT}", "altered")),
        (lambda records: [*records[:4], *records[5:]], ChainFault(6, "r6", "missing")),
        (lambda records: records[1:], ChainFault(2, "r2", "missing")),
        (
            lambda records: [*records[:4], records[5], records[4], *records[6:]],
            ChainFault(6, "r6", "missing"),
        ),
        (
            lambda records: [*records[:5], records[4], *records[5:]],
            ChainFault(5, "r5", "reordered"),
        ),
        (inserted, ChainFault(5, "forged", "altered")),
    ],
)
def test_what_was_tampered_with_is_named(
    links: list[Link], tamper: Callable[[list[Link]], list[Link]], fault: ChainFault | None
) -> None:
    """An edited, removed, moved, doubled or inserted record breaks the chain there."""
    head, found = verify(Checkpoint(), tamper(links), KEY)

    assert found == fault
    assert (head.seq == COUNT) == (fault is None)


def test_records_cut_off_at_the_end_show_only_by_a_head_noted_elsewhere(links: list[Link]) -> None:
    """The chain holds, but its head differs from the one in the log."""
    whole, _ = verify(Checkpoint(), links, KEY)
    cut, fault = verify(Checkpoint(), links[:-1], KEY)

    assert fault is None
    assert cut != whole


def test_a_chain_cannot_be_rebuilt_without_the_key(links: list[Link]) -> None:
    """With another key, or none, no record holds."""
    assert verify(Checkpoint(), links, b"") == (Checkpoint(), ChainFault(1, "r1", "altered"))
