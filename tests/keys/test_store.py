"""The suite that every store of keys passes; SQLite's own behaviour is in `test_sqlite.py`."""

from __future__ import annotations

from datetime import timedelta

import attrs
import pytest

from ollama_gateway.keys.key import (
    DEFAULT_GROUPS,
    APIKey,
    KeyRefused,
    StoreError,
    digest_of,
)
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.store import ImportedKey
from tests.keys.stores import HOUR, LEGACY, START, WallClock, found


def test_a_created_key_is_found_by_its_text(store: KeyStore) -> None:
    """A created key is returned whole by every way to look it up."""
    key, text = store.create("ci", ("llama3*", "m1"), frozenset({"read"}), START + HOUR)
    whole = APIKey(key.id, "ci", ("llama3*", "m1"), frozenset({"read"}), START, START + HOUR)
    assert key == whole
    assert found(store, text) == [whole]
    assert store.get("ci") == store.get(key.id) == whole
    assert store.list() == (whole,)
    assert text.startswith(f"ogw_{key.id}_")


def test_only_a_key_without_access_is_deleted(store: KeyStore, clock: WallClock) -> None:
    """A revoked or expired key is deleted with its texts, and its name and id are unknown then."""
    kept, kept_text = store.create("kept")
    gone, gone_text = store.create("gone")
    late, _ = store.create("late", expires_at=START + HOUR)
    for name in ("kept", "gone", "late"):
        with pytest.raises(KeyRefused, match="is active: revoke it first"):
            store.delete(name)
    store.revoke("gone")
    clock.time += HOUR

    assert [store.delete("gone").id, store.delete(late.id).id] == [gone.id, late.id]
    assert store.list() == (kept,)
    assert [one.key.id for one in store.stored()] == [kept.id]
    assert found(store, kept_text, gone_text) == [kept, None]
    with pytest.raises(KeyRefused, match="no key 'gone'"):
        store.delete("gone")


def test_a_near_name_is_suggested(store: KeyStore) -> None:
    """An unknown name is answered with the name that it resembles; a text of a key never is."""
    store.create("alice")
    with pytest.raises(KeyRefused, match=r"no key 'alise' \(did you mean alice\?\)"):
        store.get("alise")
    with pytest.raises(KeyRefused, match="no key with this text"):
        store.get("ogw_alice")


def test_a_key_has_defaults(store: KeyStore) -> None:
    """By default: all models, all groups but `manage`, no expiry."""
    key, _ = store.create("ci")
    assert (key.models, key.endpoints, key.expires_at) == (("*",), DEFAULT_GROUPS, None)


def test_a_batch_is_answered_in_its_order(store: KeyStore) -> None:
    """One look-up answers a thousand digests, repeated and unknown ones too."""
    (one, one_text), (two, two_text) = store.create("one"), store.create("two")
    unknown = [f"unknown-{n}" for n in range(1000)]
    assert found(store, two_text, *unknown, one_text, two_text) == [two, *[None] * 1000, one, two]
    assert found(store) == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "%",
        "*",
        "_",
        "\x00",
        "' OR '1'='1",
        "'; DROP TABLE keys; --",
        '{"$ne": null}',
        "é",
        '["',
    ],
)
def test_odd_texts_find_nothing_and_harm_nothing(store: KeyStore, text: str) -> None:
    """Odd texts have no special meaning as a secret, a digest or a name."""
    key, good = store.create("ci")
    assert found(store, text) == [None]
    assert list(store.find([text])) == [None]
    with pytest.raises(KeyRefused, match="no key"):
        store.get(text)
    assert found(store, good) == [key]


@pytest.mark.parametrize("name", ["%", "*", "' OR '1'='1", "'; DROP TABLE keys; --", "[bold]", "é"])
def test_odd_names_are_names(store: KeyStore, name: str) -> None:
    """A name is data: it is stored and found unchanged."""
    store.create("other")
    key, _ = store.create(name)
    assert store.get(name) == key


def test_a_stolen_digest_finds_nothing(store: KeyStore) -> None:
    """The digest of a key, presented as a key, is hashed again and unknown."""
    _, text = store.create("ci")
    assert found(store, digest_of(text)) == [None]


def test_a_name_belongs_to_one_living_key(store: KeyStore) -> None:
    """A second key of a name is refused until the first is revoked."""
    first, _ = store.create("ci")
    with pytest.raises(KeyRefused, match=f"taken by key {first.id}"):
        store.create("ci")
    store.revoke("ci")
    second, _ = store.create("ci")
    assert store.get("ci") == second
    assert [key.id for key in store.list()] == [first.id, second.id]


def test_an_ambiguous_name_says_so(store: KeyStore) -> None:
    """When only revoked keys have the name, and several, the message lists their ids."""
    ids = []
    for _ in range(2):
        ids.append(store.create("ci")[0].id)
        store.revoke("ci")
    with pytest.raises(KeyRefused, match="several keys") as caught:
        store.get("ci")
    assert all(key_id in str(caught.value) for key_id in ids)
    assert store.get(ids[0]).id == ids[0]


def test_an_id_wins_over_a_name(store: KeyStore) -> None:
    """A key named like the id of another one does not hide it."""
    first, _ = store.create("ci")
    store.create(first.id)
    assert store.get(first.id) == first


def test_what_is_updated_changes_and_the_rest_stays(store: KeyStore) -> None:
    """Each property by itself, an expiry also back to never."""
    key, text = store.create("ci", expires_at=START + HOUR)
    assert store.update("ci", models=("m1",)) == attrs.evolve(key, models=("m1",))
    store.update("ci", name="cd", endpoints=frozenset({"read"}), expires_at=None)
    after = attrs.evolve(
        key, name="cd", models=("m1",), endpoints=frozenset({"read"}), expires_at=None
    )
    assert found(store, text) == [after]


def test_a_refused_update_changes_nothing(store: KeyStore) -> None:
    """A name that is taken, a wrong pattern, an unknown or a revoked key."""
    store.create("other")
    key, _ = store.create("ci")
    with pytest.raises(KeyRefused, match="taken"):
        store.update("ci", name="other", models=("m1",))
    with pytest.raises(KeyRefused, match="pattern"):
        store.update("ci", models=("a b",))
    with pytest.raises(KeyRefused, match="no key"):
        store.update("cd", models=("m1",))
    assert store.get("ci") == key
    store.revoke("ci")
    with pytest.raises(KeyRefused, match="revoked"):
        store.update("ci", models=("m1",))


def test_rotation_ends_the_old_text_at_once(store: KeyStore) -> None:
    """Without grace only the new text is found; id, name and rights stay."""
    key, old = store.create("ci", ("m1",))
    rotated, new = store.rotate("ci")
    assert rotated == key
    assert found(store, old, new) == [None, key]


def test_rotation_with_grace_keeps_the_old_text_that_long(
    store: KeyStore, clock: WallClock
) -> None:
    """Both texts work until the grace has passed, to the microsecond."""
    key, old = store.create("ci")
    _, new = store.rotate("ci", HOUR)
    clock.time = START + HOUR - timedelta(microseconds=1)
    assert found(store, old, new) == [key, key]
    clock.time = START + HOUR
    assert found(store, old, new) == [None, key]


def test_a_second_rotation_never_lengthens_a_grace(store: KeyStore, clock: WallClock) -> None:
    """The oldest text ends when it was to end, and a rotation without grace ends all."""
    key, first = store.create("ci")
    _, second = store.rotate("ci", HOUR)
    _, third = store.rotate("ci", 5 * HOUR)
    clock.time = START + HOUR
    assert found(store, first, second, third) == [None, key, key]
    _, fourth = store.rotate("ci")
    assert found(store, first, second, third, fourth) == [None, None, None, key]


def test_a_dead_key_is_not_rotated(store: KeyStore, clock: WallClock) -> None:
    """A revoked or expired key gets no new text."""
    store.create("old", expires_at=START + HOUR)
    store.create("gone")
    store.revoke("gone")
    clock.time = START + HOUR
    with pytest.raises(KeyRefused, match="expired"):
        store.rotate("old")
    with pytest.raises(KeyRefused, match="revoked"):
        store.rotate("gone")


def test_revocation_is_for_good(store: KeyStore, clock: WallClock) -> None:
    """A revoked key is still found, with its time; revoking it again changes nothing."""
    key, text = store.create("ci")
    revoked = store.revoke("ci")
    assert revoked == attrs.evolve(key, revoked_at=START)
    clock.time += HOUR
    assert store.revoke(key.id) == revoked
    assert found(store, text) == [revoked]


def test_active_keys_are_counted(store: KeyStore, clock: WallClock) -> None:
    """Neither revoked nor expired ones count."""
    assert store.count_active() == 0
    store.create("one")
    store.create("two", expires_at=START + HOUR)
    store.create("three")
    store.revoke("three")
    assert store.count_active() == 2
    clock.time = START + HOUR
    assert store.count_active() == 1


def test_imported_keys_are_found_by_their_own_text(store: KeyStore) -> None:
    """A key made elsewhere works as it is; rotated, it becomes one of ours."""
    (key,) = store.add_imported([ImportedKey("legacy", LEGACY, 1)])
    assert found(store, LEGACY) == [key]
    assert (key.models, key.endpoints) == (("*",), DEFAULT_GROUPS)
    _, text = store.rotate("legacy")
    assert text.startswith(f"ogw_{key.id}_")
    assert found(store, LEGACY, text) == [None, key]


def test_an_import_is_all_or_nothing(store: KeyStore) -> None:
    """Every colliding line is named, without its key, and nothing is stored."""
    store.add_imported([ImportedKey("legacy", LEGACY, 1)])
    entries = [
        ImportedKey("new", "sk-new-0123456789abcdef", 1),
        ImportedKey("legacy", "sk-other-0123456789abcdef", 2),
        ImportedKey("again", LEGACY, 4),
    ]
    with pytest.raises(KeyRefused) as caught:
        store.add_imported(entries)
    assert str(caught.value).splitlines() == [
        "line 2: a key of this name exists",
        "line 4: this key is in the store already",
    ]
    assert [key.name for key in store.list()] == ["legacy"]


def test_a_closed_store_says_so(store: KeyStore) -> None:
    """Every use of a closed store is the store's error, not a library's."""
    store.close()
    for use in (store.list, store.count_active, lambda: store.find(["x"]), lambda: store.get("x")):
        with pytest.raises(StoreError):
            use()
