"""The commands that show and verify the changes of operators, and those that make them."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ollama_gateway.ledger.journal import Journal
from ollama_gateway.ledger.ownership import COMMANDS_JOURNAL
from ollama_gateway.ledger.recording_changes import JournalChanges, LocalChanges
from tests.ledger.audit_logs import changed, ended, ids_of, listed, moved, ran, written
from tests.ledger.records import CHANGE, KEY, journal
from tests.support.commands import failed, run
from tests.support.spoilt import GARBAGE

SECRET = "correct-horse-battery-staple"


def change_in(owned: Journal) -> None:
    """Record a change in a journal."""
    with JournalChanges(owned, lambda _: None).making(CHANGE):
        pass


@pytest.fixture
def audit_log(data_dir: Path) -> Path:
    """Write two requests with a change between them, and a command's change."""
    with closing(journal(data_dir / "journal-0.db")) as owned:
        owned.commit([ended("r1", prompt_tokens=5)])
        change_in(owned)
        owned.commit([ended("r2", 60, prompt_tokens=7)])
    with LocalChanges(data_dir, KEY).making(CHANGE):
        pass
    return data_dir


def changes_of(*arguments: str) -> list[dict[str, Any]]:
    """Return the changes that `audit changes --json` prints."""
    return [json.loads(line) for line in ran("audit", "changes", "--json", *arguments).splitlines()]


@pytest.mark.usefixtures("audit_log")
@pytest.mark.parametrize("options", [(), ("--key", "id"), ("--limit", "5"), ("--open",)])
def test_a_change_is_no_request(options: tuple[str, ...]) -> None:
    """Neither lists nor sums of requests have it."""
    assert ids_of(*options) == ["r1", "r2"]
    for by in ("key", "outcome", "day"):
        sums = json.loads(ran("usage", "--by", by, "--json"))
        assert sum(one["requests"] for one in sums) == 2
        assert sum(one["prompt_tokens"] for one in sums) == 12


@pytest.mark.usefixtures("audit_log")
def test_changes_are_listed_and_shown() -> None:
    """Each is one line, and `audit show` has the fields before and after it."""
    first, second = changes_of()
    assert changes_of("--limit", "1") == [second]
    assert changes_of("--since", "2026-01-01", "--until", "2026-01-02") == []
    head, line, _ = ran("audit", "changes").splitlines()
    assert head.split() == ["at", "by", "action", "target", "outcome", "reason", "change"]
    assert line.split()[1:] == ["mia", "keys.update", "k1", "made", "a", "typo", first["change_id"]]

    shown = ran("audit", "show", second["change_id"])
    assert f"change       {second['change_id']}" in shown
    assert "outcome      made: it was made" in shown
    assert "recorded in  journal-commands.db, record 1" in shown
    assert "name         alice -> bob" in shown
    assert json.loads(ran("audit", "show", first["change_id"], "--json")) == first


@pytest.mark.usefixtures("audit_log")
def test_changes_are_exported_with_their_kind() -> None:
    """`audit export` has both kinds; CSV has a column for each field of both."""
    lines = [json.loads(line) for line in run("audit", "export").stdout.splitlines()]
    assert [one["kind"] for one in lines] == ["request", "change", "request", "change"]
    assert [one for one in lines if one["kind"] == "change"] == changes_of()

    head, *rows = run("audit", "export", "--format", "csv").stdout.splitlines()
    assert head.endswith(",attempts,kind,change_id,at,by,action,target,before,after")
    assert rows[-1].endswith(',mia,keys.update,k1,"{""name"":""alice""}","{""name"":""bob""}"')


def test_changes_in_postgresql_are_no_requests(audit_log: Path, shared: str) -> None:
    """They move with the requests and are shown from there; no sum counts them."""
    before = changes_of()
    moved(audit_log / "journal-0.db", shared)
    moved(audit_log / COMMANDS_JOURNAL, shared)

    assert changes_of() == before
    assert changes_of("--limit", "1") == before[1:]
    assert ids_of("--limit", "9") == ids_of() == ids_of("--key", "id") == ["r1", "r2"]
    lines = [json.loads(line) for line in run("audit", "export").stdout.splitlines()]
    assert [one["kind"] for one in lines] == ["request", "change", "request", "change"]
    assert json.loads(ran("audit", "show", before[0]["change_id"], "--json")) == before[0]
    for by in ("key", "outcome", "day", "end-user"):
        sums = json.loads(ran("usage", "--by", by, "--json"))
        assert [one["requests"] for one in sums] == [2]
    with psycopg.connect(shared) as connection:
        found = connection.execute(
            "SELECT kind, outcome, count(*) FROM gateway_audit GROUP BY 1, 2"
        )
        assert sorted(found, key=str) == [("change", None, 2), (None, "completed", 2)]
        assert connection.execute("SELECT sum(requests) FROM gateway_audit_sums").fetchall() == [
            (2,)
        ]
    assert run("audit", "verify").exit_code == 0
    assert "0 differences" in ran("audit", "verify", "--sums")
    assert run("db", "rebuild-usage").exit_code == 0
    assert "0 differences" in ran("audit", "verify", "--sums")


def test_an_edited_change_in_postgresql_is_found(audit_log: Path, shared: str) -> None:
    """Neither its document nor its kind can be changed unseen."""
    moved(audit_log / "journal-0.db", shared)
    with psycopg.connect(shared) as connection:
        connection.execute("UPDATE gateway_audit SET kind = NULL")

    assert "contradict its document" in run("audit", "verify").stderr


def test_a_hostile_change_is_named_and_passed_over(audit_log: Path) -> None:
    """What no program of ours writes is one line on stderr; terminals get text alone."""
    path = audit_log / "journal-0.db"
    escape = r"\u001b[31m\u202e"
    changed(path, "UPDATE rows SET document = replace(document, 'a typo', ?)", escape)
    assert "\x1b" not in ran("audit", "changes")
    for wrong in (
        '{"kind":"change"}',
        '{"kind":"change","change_id":7}',
        GARBAGE.decode("latin-1"),
    ):
        changed(path, "UPDATE rows SET document = ? WHERE seq = 2", wrong)
        result = run("audit", "changes", "--json")
        assert (result.exit_code, len(result.stdout.splitlines())) == (1, 1)
        assert "record 2 is not as this program writes it" in result.stderr


def test_every_change_of_a_key_is_recorded(data_dir: Path) -> None:
    """The records have who, what, before and after, and neither a text nor a digest of a key."""
    made = json.loads(run("keys", "create", "ci", "--json").stdout)
    key, texts = made["id"], [made["key"]]
    ran_well("keys", "update", "ci", "--name", "cd", "--tokens-per-day", "5000")
    texts.append(json.loads(run("keys", "rotate", "cd", "--json").stdout)["key"])
    ran_well("keys", "revoke", "cd")
    ran_well("keys", "delete", key, "--yes")
    ran_well("keys", "import", "-", stdin=f"old,{SECRET}\n")

    found = changes_of()
    assert [(one["action"], one["target"]) for one in found] == [
        *((f"keys.{verb}", key) for verb in ("create", "update", "rotate", "revoke", "delete")),
        ("keys.import", "keys"),
    ]
    assert {(one["by"], one["outcome"]) for one in found} == {("local", "made")}
    create, update, _, revoke, delete, imported = found
    assert (create["before"], create["after"]["name"], create["after"]["id"]) == (None, "ci", key)
    assert (update["before"]["name"], update["after"]["name"]) == ("ci", "cd")
    assert update["after"]["limits"]["tokens_per_day"] == 5000
    assert (revoke["before"]["status"], revoke["after"]["status"]) == ("active", "revoked")
    assert (delete["before"]["id"], delete["after"]) == (key, None)
    assert imported["after"]["keys"] == len(imported["after"]["ids"]) == 1
    content = b"".join(path.read_bytes() for path in data_dir.glob("journal-*"))
    assert all(text.rpartition("_")[2].encode() not in content for text in [*texts, SECRET])
    assert run("audit", "verify").exit_code == 0


def ran_well(*arguments: str, stdin: str = "") -> None:
    """Run a command that must succeed."""
    result = run(*arguments, stdin=stdin)
    assert result.exit_code == 0, result.stderr


def test_a_change_that_the_store_refuses_is_recorded_as_failed(data_dir: Path) -> None:
    """An operator who tries is seen too."""
    for name in ("a", "b"):
        ran_well("keys", "create", name)
    assert "is taken" in failed("keys", "update", "b", "--name", "a")

    assert [one["outcome"] for one in changes_of()] == ["made", "made", "failed"]


def test_what_cannot_be_recorded_is_not_made(data_dir: Path) -> None:
    """Exit code 1 with one line, and the store is as it was."""
    ran_well("keys", "create", "ci")
    (data_dir / COMMANDS_JOURNAL).write_bytes(GARBAGE)
    for command in (
        ("keys", "create", "x"),
        ("keys", "update", "ci", "--name", "x"),
        ("keys", "rotate", "ci"),
        ("keys", "revoke", "ci"),
    ):
        line = failed(*command)
        assert line.startswith("gatewayctl keys: nothing was changed, as no record can be written")
    [key] = json.loads(ran_quietly("keys", "list", "--json"))
    assert (key["name"], key["status"]) == ("ci", "active")


def ran_quietly(*arguments: str) -> str:
    """Return the output of a command that succeeds."""
    return run(*arguments).stdout


def test_pausing_is_recorded(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not a gateway runs; and if it cannot be recorded, no backend is paused."""
    monkeypatch.setenv("OLLAMA_BACKENDS", "a=http://127.0.0.1:1")
    monkeypatch.setenv("GATEWAY_SERVER_ADMIN_BIND", "127.0.0.1:1")
    ran_well("backends", "pause", "a")
    ran_well("backends", "resume", "a")

    assert [
        (one["action"], one["target"], one["before"], one["after"]) for one in changes_of()
    ] == [
        ("backends.pause", "a", {"paused": False}, {"paused": True}),
        ("backends.resume", "a", {"paused": True}, {"paused": False}),
    ]
    (data_dir / COMMANDS_JOURNAL).write_bytes(GARBAGE)
    assert failed("backends", "pause", "a").startswith("gatewayctl backends: nothing was changed")
    assert json.loads((data_dir / "paused.json").read_text()) == []


def test_older_journals_have_no_changes(data_dir: Path) -> None:
    """A journal of schema 2 is read as it is."""
    written(data_dir, [ended("r1")])
    changed(data_dir / "journal-0.db", "DROP TABLE changes")
    changed(data_dir / "journal-0.db", "PRAGMA user_version = 2")

    assert changes_of() == []
    assert [one["request_id"] for one in listed()] == ["r1"]
    assert run("audit", "verify").exit_code == 0
