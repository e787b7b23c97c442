"""What every store does under concurrent use; part of the suite in `test_store.py`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from ollama_gateway.keys.key import KeyRefused, WrongValue
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.store import ImportedKey
from tests.keys.stores import HOUR, LEGACY, found
from tests.support.threads import at_once

Open = Callable[[], KeyStore]


def test_keys_outlive_the_one_who_made_them(reopen: Open) -> None:
    """A reopened store holds the keys created before."""
    first = reopen()
    key, _ = first.create("ci")
    first.close()
    assert reopen().list() == (key,)


def test_a_change_is_seen_by_others_at_once(reopen: Open) -> None:
    """Another process with the store open finds a new key, and loses a revoked one."""
    gateway, command = reopen(), reopen()
    assert gateway.list() == ()
    key, text = command.create("ci")
    assert found(gateway, text) == [key]
    revoked = command.revoke("ci")
    assert found(gateway, text) == [revoked]


def test_of_many_that_want_a_name_one_has_it(reopen: Open) -> None:
    """The others are refused by the rule, not by a store error."""
    stores = [reopen() for _ in range(6)]
    outcomes = at_once([partial(store.create, "ci") for store in stores], KeyRefused)
    refused = [outcome for outcome in outcomes if isinstance(outcome, KeyRefused)]
    assert len(refused) == 5
    assert all("name 'ci' is taken by key" in str(error) for error in refused)
    assert [key.name for key in reopen().list()] == ["ci"]


def test_of_many_that_import_a_file_one_does(reopen: Open) -> None:
    """One imports all of it, and the others are refused line by line."""
    entries = [ImportedKey(f"legacy-{n}", f"{LEGACY}-{n}", n) for n in range(1, 6)]
    outcomes = at_once([partial(reopen().add_imported, entries) for _ in range(4)], KeyRefused)
    refused = [str(outcome) for outcome in outcomes if isinstance(outcome, KeyRefused)]
    assert [len(lines.splitlines()) for lines in refused] == [10] * 3
    assert len(reopen().list()) == 5


def test_many_changes_of_one_key_all_count(reopen: Open) -> None:
    """Concurrent rotations with grace leave every text working: none was overwritten."""
    store = reopen()
    _, first = store.create("ci")
    outcomes = at_once([partial(reopen().rotate, "ci", HOUR) for _ in range(5)], KeyRefused)
    texts = [outcome[1] for outcome in outcomes if isinstance(outcome, tuple)]
    assert found(store, first, *texts) == [store.get("ci")] * 6


def test_a_change_that_fails_leaves_no_trace(reopen: Open) -> None:
    """After a refusal in the middle of a change the store is open and unchanged."""
    store = reopen()
    store.create("ci")
    for _ in range(3):
        with pytest.raises(KeyRefused, match="taken"):
            store.create("ci")
        with pytest.raises(WrongValue):
            store.update("ci", models=("a b",))
    assert [key.name for key in reopen().list()] == ["ci"]
    assert store.create("cd")[0].name == "cd"
