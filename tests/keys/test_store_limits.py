"""What every store does with the limits of keys; part of the suite in `test_store.py`."""

from __future__ import annotations

import attrs
import pytest

from ollama_gateway.keys.key import KeyLimits
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.store import ImportedKey
from tests.keys.stores import LEGACY, found


@pytest.mark.parametrize(
    "limits",
    [
        KeyLimits(),
        KeyLimits(0, 0, 0, 0),
        KeyLimits(1, 2, 3, 4),
        KeyLimits(60, None, 0, 10**12),
        KeyLimits(None, 10**12, None, 0),
    ],
)
def test_limits_come_back_as_they_were_given(store: KeyStore, limits: KeyLimits) -> None:
    """Every limit is returned as set; the default (None) differs from no limit (0)."""
    key, text = store.create("ci", limits=limits)
    assert key.limits == limits
    assert found(store, text) == [key]
    assert store.get("ci") == key
    assert store.list() == (key,)


def test_limits_are_updated_alone(store: KeyStore) -> None:
    """Nothing else of the key changes, nor any other key."""
    other, _ = store.create("other", limits=KeyLimits(9, 9, 9, 9))
    key, text = store.create("ci", ("m1",), limits=KeyLimits(1, 2, 3, 4))
    after = attrs.evolve(key, limits=KeyLimits(None, 0, 3, 5))
    assert store.update("ci", limits=after.limits) == after
    assert found(store, text) == [after]
    assert store.get("other") == other


def test_an_update_of_something_else_keeps_the_limits(store: KeyStore) -> None:
    """So do a rotation and a revocation."""
    limits = KeyLimits(1, 0, None, 4)
    store.create("ci", limits=limits)
    assert store.update("ci", models=("m1",)).limits == limits
    assert store.rotate("ci")[0].limits == limits
    assert store.revoke("ci").limits == limits
    assert store.get("ci").limits == limits


def test_an_imported_key_has_the_defaults(store: KeyStore) -> None:
    """A key made elsewhere sets no limit of its own until it is updated."""
    store.add_imported([ImportedKey("legacy", LEGACY, 1)])
    assert store.get("legacy").limits == KeyLimits()
    after = store.update("legacy", limits=KeyLimits(tokens_per_day=5))
    assert found(store, LEGACY) == [after]
