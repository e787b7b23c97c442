"""What `serve` logs at its start about the key for anonymous clients."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.cli.serve import _warning_of_anonymous_key
from ollama_gateway.keys.location import KEYS_FILE
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.settings import load

MANAGING = frozenset({"read", "manage"})


def usual(store: SQLiteKeys) -> str:
    """A key as it is made by default."""
    return store.create("editors")[1]


def managing(store: SQLiteKeys) -> str:
    """A key that may manage models."""
    return store.create("admins", endpoints=MANAGING)[1]


def revoked(store: SQLiteKeys) -> str:
    """A key that has been revoked."""
    key, text = store.create("gone")
    store.revoke(key.id)
    return text


def unknown(_store: SQLiteKeys) -> str:
    """A key that does not exist."""
    return "a-key-of-another-store"


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (usual, None),
        (managing, "may manage models, so any client in auth.anonymous_networks may do so"),
        (revoked, "is no active key of this store"),
        (unknown, "is no active key of this store"),
        (None, None),
    ],
)
def test_a_key_that_does_not_fit_is_told(
    tmp_path: Path, made: Callable[[SQLiteKeys], str] | None, said: str | None
) -> None:
    """`serve` warns of a key that grants nothing, or more than an editor needs."""
    with closing(SQLiteKeys(tmp_path / KEYS_FILE)) as store:
        environment = {}
        if made is not None:
            environment["GATEWAY_AUTH_ANONYMOUS_NETWORKS"] = "10.0.0.0/8"
            environment["GATEWAY_AUTH_ANONYMOUS_KEY"] = made(store)
        warning = _warning_of_anonymous_key(load(None, environment, tmp_path).settings, store)

    assert (warning or "").startswith(said or "")
    assert (warning is None) is (said is None)
