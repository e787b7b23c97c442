"""`gatewayctl backup` and `gatewayctl restore`."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from ollama_gateway.cli.main import app
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.storage.data_files import INTERRUPTED
from tests.backup.data import contents, filled
from tests.ledger.audit_logs import moved
from tests.ledger.records import KEY, final, journal


@pytest.fixture(autouse=True)
def environment(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings from the environment, and an empty file."""
    monkeypatch.chdir(data.parent)
    Path("gateway.toml").touch()
    monkeypatch.delenv("GATEWAY_CONFIG", raising=False)
    monkeypatch.setenv("GATEWAY_STORAGE_DATA_DIR", str(data))
    monkeypatch.setenv("GATEWAY_AUDIT_CHAIN_KEY", KEY.decode())
    monkeypatch.setenv("COLUMNS", "80")


def ran(*arguments: str, code: int = 0) -> Result:
    """Run `gatewayctl`, which ends with this code."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == code, result.output
    return result


def as_json(*arguments: str, code: int = 0) -> Any:
    """Return its output as a JSON value."""
    return json.loads(ran(*arguments, "--json", code=code).stdout)


def revoke(data: Path) -> None:
    """Revoke alice's key."""
    with closing(SQLiteKeys(data / "keys.db")) as store:
        store.revoke("alice")


def test_a_backup_says_what_it_holds(data: Path) -> None:
    """In a line for people, or with the manifest for programs."""
    filled(data)
    line = ran("backup", "b.tar").stdout
    assert line.startswith("b.tar: as of 20")
    assert "keys, 1 journal, 1 usage journal; 0." in line

    made = as_json("backup", "c.tar")
    assert made["file"] == "c.tar"
    assert [file["name"] for file in made["files"]][-2:] == ["keys.db", "paused.json"]


def test_a_restore_without_an_answer_shows_and_changes_nothing(data: Path) -> None:
    """Neither a script nor a closed terminal has agreed to the consequences."""
    key, _ = filled(data)
    ran("backup", "b.tar")
    revoke(data)
    before = contents(data)
    shown = ran("restore", "b.tar", code=2)

    assert f"key {key.id} (alice): revoked 20" in shown.stdout
    assert "would be valid again" in shown.stdout
    assert shown.stderr.endswith("Restore? No terminal to answer on: add --yes\n")
    assert contents(data) == before
    found = as_json("restore", "b.tar", code=2)
    assert (found["restored"], found["kept_in"]) == (False, None)
    assert found["revives"]["keys"] == [{"id": key.id, "name": "alice"}]


def test_a_restore_that_was_agreed_to_says_where_the_files_are(data: Path) -> None:
    """The audit log of the restored directory holds."""
    filled(data)
    ran("backup", "b.tar")
    revoke(data)
    found = as_json("restore", "b.tar", "--yes")

    assert found["restored"] is True
    assert (Path(found["kept_in"]) / "keys.db").exists()
    assert "holds" in ran("audit", "verify").stdout
    assert "active" in ran("keys", "list").stdout
    assert "the files from before are in" in ran("restore", "b.tar", "--yes").stdout.replace(
        "\n", ""
    )


@pytest.mark.parametrize("command", [["backup", "b.tar"], ["restore", "b.tar", "--yes"]])
def test_errors_are_one_line_with_code_1(data: Path, command: list[str]) -> None:
    """No directory to back up, no archive to restore."""
    result = ran(*command, code=1)
    [line] = result.stderr.splitlines()
    assert line.startswith(f"gatewayctl {command[0]}: ")


def test_nothing_uses_a_directory_between_two_states(data: Path) -> None:
    """After a kill in the middle of a restore, only another restore is possible."""
    filled(data)
    ran("backup", "b.tar")
    (data / INTERRUPTED).mkdir()
    for command in (["serve"], ["keys", "list"], ["audit", "list"], ["backup", "c.tar"]):
        [line] = ran(*command, code=2).stderr.splitlines()
        assert line.endswith("was interrupted: run `gatewayctl restore` again")

    ran("restore", "b.tar", "--yes")
    ran("keys", "list")


def test_with_postgresql_a_backup_says_what_it_does_not_hold(
    data: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A restore leaves out what PostgreSQL has more of, and the chain holds in both."""
    monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", database_url)
    with closing(journal(data / "journal-0.db")) as opened:
        opened.commit([final("1"), final("2")])
    made = ran("backup", "b.tar")
    assert "back it up with its own tools" in made.stderr
    assert "no keys (they are in postgresql)" in made.stdout
    with closing(journal(data / "journal-0.db")) as opened:
        opened.commit([final("3")])
    moved(data / "journal-0.db", database_url)
    restored = ran("restore", "b.tar", "--yes")

    assert "journal-0.db: not restored, as PostgreSQL has its records" in restored.stderr
    with closing(journal(data / "journal-0.db")) as opened:
        opened.commit([final("4")])
    moved(data / "journal-0.db", database_url)
    assert [chain["ok"] for chain in as_json("audit", "verify")] == [True, True]
