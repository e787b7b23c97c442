"""Changes by operators cannot be edited unseen, and are dropped as other records are."""

from __future__ import annotations

import time
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.ledger.recording_changes import JournalChanges
from tests.ledger.audit_logs import changed
from tests.ledger.records import CHANGE, final, journal
from tests.ledger.test_changes import documents, faults, found, no_end


@pytest.mark.parametrize(
    ("statement", "fault"),
    [
        ("UPDATE rows SET document = replace(document, 'bob', 'eve') WHERE seq = 2", "altered"),
        ("UPDATE rows SET document = replace(document, '\"kind\":\"change\",', '')", "altered"),
        ("DELETE FROM rows WHERE seq = 2", "missing"),
        ("DELETE FROM changes", "columns"),
        ("INSERT INTO changes VALUES (1)", "columns"),
        ("UPDATE facts SET seq = 2 WHERE seq = 1", "columns"),
        ("INSERT INTO changes VALUES (99)", "stray"),
    ],
)
def test_an_edited_change_is_found(tmp_path: Path, statement: str, fault: str) -> None:
    """The chain covers the document, and the marks beside it must agree with it."""
    path = tmp_path / "journal-0.db"
    with closing(journal(path)) as owned:
        owned.commit([final("r1")])
        with JournalChanges(owned, no_end).making(CHANGE):
            pass
        owned.commit([final("r2")])
    assert faults(path) == [None]
    changed(path, statement)

    assert faults(path) == [fault]


def test_retention_drops_changes_with_requests(tmp_path: Path) -> None:
    """A change is as old as the moment at which it began; the chain goes on from it."""
    path = tmp_path / "journal-0.db"
    with closing(journal(path)) as owned:
        owned.commit([final("r1")])
        with JournalChanges(owned, no_end).making(CHANGE):
            pass
        assert owned.trim(time.time() - 3600) == 1  # r1 is of the past, the change is not
        assert owned.trim(time.time() + 3600) == 1

    assert (documents(path), faults(path)) == ([], [None])
    assert found(path, "SELECT count(*) FROM changes") == [(0,)]
