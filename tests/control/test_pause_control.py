"""Pausing and resuming: each change of the file is recorded, and nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ollama_gateway.backends.pausing import PauseFile, PausesBroken
from ollama_gateway.control.actor import Actor
from ollama_gateway.control.errors import NoSuchThing
from ollama_gateway.control.pausing import PauseControl
from ollama_gateway.ledger.operator_change import ChangeNotRecorded, OperatorChange
from tests.control.changes import ListedChanges

ANN = Actor("ann", "operator")


def control_of(directory: Path) -> tuple[PauseControl, ListedChanges]:
    """Return the control over a pause file, and the changes that it records."""
    changes = ListedChanges()
    return PauseControl(PauseFile(directory), changes), changes


def test_a_change_is_recorded_with_who_and_why(tmp_path: Path) -> None:
    """Pausing and resuming leave a record each; to do it twice changes and records nothing."""
    control, changes = control_of(tmp_path)

    assert control.pause("a", ["a", "b"], ANN, "new disk") == {"a"}
    assert control.pause("a", ["a", "b"], ANN) == {"a"}
    assert control.resume("a", ["a", "b"], ANN) == frozenset()
    assert control.resume("a", ["a", "b"], ANN) == frozenset()
    assert changes.made == [
        OperatorChange(
            "ann", "backends.pause", "a", {"paused": False}, {"paused": True}, "new disk"
        ),
        OperatorChange("ann", "backends.resume", "a", {"paused": True}, {"paused": False}),
    ]


def test_a_change_that_cannot_be_recorded_is_not_made(tmp_path: Path) -> None:
    """Without a record the file stays as it is."""
    control, changes = control_of(tmp_path)
    changes.is_full = True
    with pytest.raises(ChangeNotRecorded):
        control.pause("a", ["a"], ANN)

    assert control.file.read() == frozenset()


def test_an_unknown_name_changes_nothing(tmp_path: Path) -> None:
    """The nearest name and the names that there are stand in the error; at most twenty."""
    control, changes = control_of(tmp_path)
    many = [f"gpu-{n}" for n in range(30)]
    with pytest.raises(NoSuchThing, match=r"did you mean gpu-1\?\); there are: gpu-0, .* 10 more$"):
        control.pause("gqu-1", many, ANN)

    assert changes.made == changes.failed == []


def test_a_broken_file_is_reported_before_a_record_is_made(tmp_path: Path) -> None:
    """A file that holds no list of names is left alone."""
    control, changes = control_of(tmp_path)
    (tmp_path / "paused.json").write_text("{}")
    with pytest.raises(PausesBroken):
        control.pause("a", ["a"], ANN)

    assert changes.made == changes.failed == []


def test_a_name_that_is_only_in_the_file_can_be_taken_off(tmp_path: Path) -> None:
    """A backend that the settings no longer have can be resumed."""
    control, _ = control_of(tmp_path)
    control.file.add("gone")

    assert control.resume("gone", ["a"], ANN) == frozenset()
