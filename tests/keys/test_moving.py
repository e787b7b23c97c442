"""Keys that move from one store to another, in either direction; part of the common suite."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.keys.key import KeyLimits, KeyRefused
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.keys.store import ImportedKey, MergedKeys
from tests.keys.stores import HOUR, LEGACY, START, WallClock, found


@pytest.fixture
def local(tmp_path: Path, clock: WallClock) -> Iterator[KeyStore]:
    """The store that keys come from."""
    with closing(SQLiteKeys(tmp_path / "local.db", now=clock)) as opened:
        yield opened


def move(local: KeyStore, store: KeyStore) -> MergedKeys:
    """Merge everything."""
    return store.merge(local.stored())


def test_keys_come_over_whole(local: KeyStore, store: KeyStore, clock: WallClock) -> None:
    """Rights, limits, times, revocations, and every text with its expiry are copied."""
    limits = KeyLimits(1, 0, None, 10**12)
    _, old = local.create("ci", ("m1",), frozenset({"read"}), START + 9 * HOUR, limits)
    key, new = local.rotate("ci", HOUR)
    local.create("gone")
    gone = local.revoke("gone")
    (legacy,) = local.add_imported([ImportedKey("legacy", LEGACY, 1)])
    assert move(local, store) == MergedKeys((key, gone, legacy), (), (), ())
    assert store.list() == local.list()
    assert store.stored() == local.stored()
    assert found(store, old, new, LEGACY) == [key, key, legacy]
    clock.time += HOUR
    assert found(store, old, new) == [None, key]


def test_a_second_time_nothing_happens(local: KeyStore, store: KeyStore) -> None:
    """A second merge finds the same keys and changes nothing."""
    key, _ = local.create("ci")
    move(local, store)
    before = store.stored()
    assert move(local, store) == MergedKeys((), (), (key,), ())
    assert store.stored() == before


def test_what_was_changed_since_stays_where_it_is_in_force(
    local: KeyStore, store: KeyStore
) -> None:
    """A key that differs on either side, or in its texts, is reported and not overwritten."""
    local.create("ci")
    local.create("cd")
    move(local, store)
    changed = store.update("ci", models=("m1",))
    local.rotate("cd")
    kept = store.get("cd")
    assert move(local, store) == MergedKeys((), (), (), (changed, kept))
    assert store.get("ci") == changed


def test_a_revocation_comes_over(local: KeyStore, store: KeyStore, clock: WallClock) -> None:
    """A key that was revoked in the old store becomes revoked in the new one."""
    key, text = local.create("ci")
    move(local, store)
    clock.time += HOUR
    revoked = local.revoke("ci")
    clock.time += HOUR
    assert move(local, store) == MergedKeys((), (key,), (), ())
    assert found(store, text) == [revoked]
    assert move(local, store) == MergedKeys((), (), (revoked,), ())


def test_a_revocation_in_the_new_store_is_for_good(local: KeyStore, store: KeyStore) -> None:
    """The old store's active key does not restore it."""
    _, text = local.create("ci")
    move(local, store)
    revoked = store.revoke("ci")
    assert move(local, store) == MergedKeys((), (), (), (revoked,))
    assert found(store, text) == [revoked]


def test_a_clash_moves_nothing(local: KeyStore, store: KeyStore) -> None:
    """All clashes of names and texts are reported at once, without the texts."""
    mine, _ = store.create("ci")
    (theirs,) = store.add_imported([ImportedKey("theirs", LEGACY, 1)])
    local.create("fine")
    clashing, _ = local.create("ci")
    (legacy,) = local.add_imported([ImportedKey("legacy", LEGACY, 1)])
    with pytest.raises(KeyRefused) as caught:
        move(local, store)
    assert sorted(str(caught.value).splitlines()) == sorted(
        [
            f"key {clashing.id}: its name 'ci' is taken by key {mine.id}",
            f"key {legacy.id}: its text is in the store already, as key {theirs.id}",
        ]
    )
    assert store.list() == (mine, theirs)


def test_a_revoked_name_clashes_with_nobody(local: KeyStore, store: KeyStore) -> None:
    """On either side only an unrevoked key owns a name."""
    store.create("ci")
    local.create("ci")
    gone = local.revoke("ci")
    assert move(local, store).added == (gone,)
