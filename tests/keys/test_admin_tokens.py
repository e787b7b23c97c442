"""Admin tokens in both stores, and the commands that make, list and revoke them."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import cast

import pytest

from ollama_gateway.keys.admin_tokens import ROLES, Role, is_token_text
from ollama_gateway.keys.key import KeyRefused, StoreError, WrongValue, digest_of
from ollama_gateway.keys.sql import KeyStore
from ollama_gateway.keys.sqlite import SQLiteKeys
from tests.keys.stores import HOUR, START, WallClock
from tests.support.commands import as_json, failed, ran


def test_a_token_is_found_by_its_text_alone(
    store: KeyStore, reopen: Callable[[], KeyStore]
) -> None:
    """Another process finds each token by its digest, with its role, times and name."""
    made = [store.create_token(f"{role}-1", role, START + HOUR) for role in ROLES]
    tokens, texts = [token for token, _ in made], [text for _, text in made]
    digests = [digest_of(text) for text in texts]

    assert list(reopen().find_tokens([*digests, digest_of("ogwa_x")])) == [*tokens, None]
    assert reopen().list_tokens() == tuple(tokens)
    assert [token.expires_at for token in tokens] == [START + HOUR] * 3
    assert all(map(is_token_text, texts))
    assert not any(text in repr(store.stored_tokens()) for text in [*texts, *digests])


def test_a_token_expires_and_is_revoked(store: KeyStore, clock: WallClock) -> None:
    """Expiry is exact; a revocation is for good, and its time stays."""
    token, text = store.create_token("ci", "operator", START + HOUR)
    assert token.is_active(START + HOUR - HOUR / 3600)
    assert token.status(START + HOUR) == "expired"
    clock.time += HOUR / 2
    revoked = store.revoke_token("ci")
    clock.time += HOUR
    assert store.revoke_token("ci") == revoked
    assert revoked.revoked_at == START + HOUR / 2
    assert list(store.find_tokens([digest_of(text)])) == [revoked]


def test_a_name_is_of_one_living_token(store: KeyStore) -> None:
    """A name is free again when its token is revoked; it then means the new token."""
    store.create_token("ci", "viewer")
    with pytest.raises(KeyRefused, match="name 'ci' is taken by an admin token"):
        store.create_token("ci", "admin")
    store.revoke_token("ci")
    token, _ = store.create_token("ci", "admin")
    assert store.get_token("ci") == token
    assert [one.role for one in store.list_tokens()] == ["viewer", "admin"]


@pytest.mark.parametrize("name", ["", " x", "a\n", "x" * 101, "settings", "local", "-", "ogwa_x"])
def test_a_name_that_no_token_may_have(store: KeyStore, name: str) -> None:
    """Names of other actors, and texts that may be a token, are refused; nothing is stored."""
    with pytest.raises(WrongValue):
        store.create_token(name, "viewer")
    assert store.list_tokens() == ()


def test_a_role_that_does_not_exist(store: KeyStore) -> None:
    """A role is one of three words."""
    with pytest.raises(WrongValue, match="is no role; there are viewer, operator, admin"):
        store.create_token("ci", cast("Role", "root"))


def test_an_unknown_name_is_not_repeated_if_it_may_be_a_text(store: KeyStore) -> None:
    """A name gets suggestions; a token's text, given by mistake, is in no message."""
    _, text = store.create_token("grafana", "viewer")
    with pytest.raises(KeyRefused, match=r"no admin token 'grafanaa'.*grafana.*list"):
        store.revoke_token("grafanaa")
    with pytest.raises(KeyRefused) as caught:
        store.revoke_token(text)
    assert text[:12] not in str(caught.value)


def test_two_processes_cannot_take_one_name(
    store: KeyStore, reopen: Callable[[], KeyStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table itself refuses a second living token of a name, whatever a program has read."""
    other = reopen()
    other.create_token("ci", "viewer")
    monkeypatch.setattr(store, "_living", list)
    with pytest.raises(StoreError):
        store.create_token("ci", "viewer")


@pytest.mark.parametrize("change", ["role = 'root'", "created_at = 'x'", "name = 'settings'"])
def test_a_row_that_another_program_wrote(path: Path, change: str) -> None:
    """A row that cannot be read opens nothing: the look-up fails, in one line without the row."""
    with closing(SQLiteKeys(path)) as store:
        _, text = store.create_token("ci", "viewer")
        with closing(sqlite3.connect(path)) as other, other:
            other.execute(f"UPDATE admin_tokens SET {change}")  # noqa: S608 - literals of this file
        with pytest.raises(Exception, match="the row of an admin token cannot be read"):
            store.find_tokens([digest_of(text)])


def test_the_commands(data_dir: Path) -> None:
    """A token is shown once; `list` shows its state; a second `revoke` changes nothing."""
    made = as_json("admin-tokens", "create", "ops", "--role", "operator", "--expires", "90d")
    listed = as_json("admin-tokens", "list")
    revoked = as_json("admin-tokens", "revoke", "ops")

    assert (made["name"], made["role"], is_token_text(made["token"])) == ("ops", "operator", True)
    assert [(one["name"], one["role"], one["status"]) for one in listed] == [
        ("ops", "operator", "active")
    ]
    assert listed[0]["expires_at"] == made["expires_at"]
    assert revoked["status"] == "revoked"
    assert as_json("admin-tokens", "revoke", "ops") == revoked
    assert made["token"] not in ran("admin-tokens", "list")
    assert ran("admin-tokens", "create", "ci", "--role", "viewer").startswith("ogwa_")


def test_every_change_of_a_token_is_recorded(data_dir: Path) -> None:
    """The audit log has who made and revoked which token, and no text of one."""
    text = as_json("admin-tokens", "create", "ops", "--role", "admin")["token"]
    ran("admin-tokens", "revoke", "ops")
    printed = ran("audit", "changes", "--json")
    records = [json.loads(line) for line in printed.splitlines()]

    assert [(one["by"], one["action"], one["target"]) for one in records] == [
        ("local", "admin_tokens.create", "ops"),
        ("local", "admin_tokens.revoke", "ops"),
    ]
    assert [one["after"]["status"] for one in records] == ["active", "revoked"]
    assert text not in printed


def test_commands_that_the_store_refuses(data_dir: Path) -> None:
    """The codes are those of `keys`: 1 for what the store refuses, 2 for what no store accepts."""
    ran("admin-tokens", "create", "ops", "--role", "admin")
    assert "is taken" in failed("admin-tokens", "create", "ops", "--role", "viewer")
    assert "no admin token 'x'" in failed("admin-tokens", "revoke", "x")
    assert "another actor" in failed("admin-tokens", "create", "local", "--role", "admin", code=2)
