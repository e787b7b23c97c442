"""The commands that read the audit log, and `db import-local`, with a database."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import closing
from itertools import count
from pathlib import Path

import psycopg
import pytest

from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.ledger.document import to_text
from ollama_gateway.ledger.ownership import own_journal
from tests.ledger.audit_logs import began, ended, ids_of, moved, ran, still_open, written
from tests.ledger.records import KEY, ids
from tests.ledger.version_1 import write_version_1
from tests.support.commands import run
from tests.support.spoilt import GARBAGE

AWAY = "postgresql://hush:hush-0123456789@127.0.0.1:1/x"


@pytest.fixture
def audit_log(data_dir: Path, shared: str) -> Path:
    """Store records a and d of another machine, b in PostgreSQL and c in our journal."""
    far = data_dir / "far"
    far.mkdir()
    written(far, [ended("a", 0, prompt_tokens=10), ended("d", 90)])
    written(data_dir, [ended("b", 30, prompt_tokens=5, key_name="bob"), ended("c", 60)])
    moved(far / "journal-0.db", shared)
    moved(data_dir / "journal-0.db", shared, 1)
    return data_dir


@pytest.mark.usefixtures("audit_log")
def test_the_whole_fleet_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same options work, also on a machine without journals."""
    assert ids_of() == ["a", "b", "c", "d"]
    assert ids_of("--limit", "2") == ["c", "d"]
    assert ids_of("--key", "bob") == ["b"]
    assert ids_of("--since", "2026-01-02T03:04:30Z", "--until", "2026-01-02T03:05:10Z") == [
        "b",
        "c",
    ]
    monkeypatch.setenv("GATEWAY_STORAGE_DATA_DIR", "/nowhere")
    assert ids_of() == ["a", "b", "d"]


@pytest.mark.usefixtures("audit_log")
def test_a_request_of_another_machine_is_shown() -> None:
    """A request of another machine is shown, with the place of its record."""
    assert "recorded in  PostgreSQL, journal " in ran("audit", "show", "d")
    assert "recorded in  journal-0.db, record 2" in ran("audit", "show", "c")
    assert run("audit", "show", "nobody").exit_code == 1


@pytest.mark.usefixtures("audit_log")
def test_the_whole_fleet_is_summed_up() -> None:
    """Each request counts once."""
    [used] = json.loads(ran("usage", "--json"))

    assert (used["requests"], used["prompt_tokens"]) == (4, 15)


def test_records_that_move_are_followed(
    data_dir: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even records that are written and moved between two looks appear."""
    far = data_dir / "far"
    far.mkdir()
    written(data_dir, [ended("old"), ended("a")])
    naps = count(1)

    def wait(stopped: threading.Event, seconds: float) -> bool:
        match next(naps):
            case 1:
                written(data_dir, [ended("b"), ended("c")])
                moved(data_dir / "journal-0.db", shared)
            case 2:
                written(far, [ended("d")])
                moved(far / "journal-0.db", shared)
            case 3:
                written(data_dir, [ended("e")])
                moved(data_dir / "journal-0.db", shared)
                written(data_dir, [ended("f")])
            case _:
                signal.raise_signal(signal.SIGINT)
        return stopped.is_set()

    monkeypatch.setattr("threading.Event.wait", wait)
    assert ids_of("--follow", "--limit", "1") == ["a", "b", "c", "d", "e", "f"]


@pytest.mark.usefixtures("audit_log")
def test_without_postgresql_the_journals_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """One line on stderr, without secrets, reports it; exit 1."""
    monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", AWAY)
    for command in (("audit", "list"), ("audit", "show", "c"), ("usage",), ("audit", "verify")):
        result = run(*command, "--json")
        assert result.exit_code == 1
        assert result.stderr.count("\n") == 1
        assert "PostgreSQL cannot be reached" in result.stderr
        assert "hush" not in result.output
        assert result.stdout.count("\n") >= 1


def test_tables_that_are_not_there_yet(
    audit_log: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message names the command to run."""
    with psycopg.connect(shared) as connection:
        connection.execute("DROP TABLE gateway_audit")

    result = run("audit", "list", "--json")
    assert (result.exit_code, json.loads(result.stdout)["request_id"]) == (1, "c")
    assert "gatewayctl db migrate" in result.stderr


def test_a_fleet_without_records(data_dir: Path, shared: str) -> None:
    """The message says so, as with journals alone."""
    result = run("audit", "list", "--json")

    assert (result.exit_code, result.stdout) == (0, "")
    assert f"there are no journals in {data_dir}, and no records in PostgreSQL" in result.stderr


def test_import_local_moves_unowned_journals(data_dir: Path, shared: str) -> None:
    """Open requests move as killed; journals of a running gateway are left to it."""
    written(data_dir, [ended("a"), began("k")], [ended("b", 9)])
    with own_journal(data_dir, is_strict=False, key=KEY) as living:
        assert living.path.name == "journal-0.db"
        living.commit([ended("c", 20)])
        result = run("db", "import-local")
        assert (result.exit_code, result.stdout.splitlines()) == (
            0,
            [
                "added 0 keys, 0 were already there",
                "moved 1 audit record from 1 journal",
                "journal-0.db belongs to a running gateway, which moves its records itself",
            ],
        )
    told = json.loads(run("db", "import-local", "--json").stdout)
    assert (told["rows"], told["left_to_gateways"], told["added"]) == (3, [], [])
    assert json.loads(run("db", "import-local", "--json").stdout)["rows"] == 0

    assert ids(data_dir / "journal-0.db") == ids(data_dir / "journal-1.db") == []
    assert sorted(ids_of()) == ["a", "b", "c", "k"]
    assert ids_of("--outcome", "killed") == ["k"]
    assert run("audit", "verify").exit_code == 0


def test_import_local_moves_journals_of_version_1(data_dir: Path, shared: str) -> None:
    """They are migrated on the way; only the result is on stdout, and the chain holds."""
    texts = [to_text(ended(f"r{n}", n).document) for n in range(1, 4)]
    write_version_1(data_dir / "journal-0.db", texts)

    result = run("db", "import-local", "--json")

    assert (result.exit_code, json.loads(result.stdout)["rows"]) == (0, 3)
    assert "audit journal migrated" in result.stderr
    assert ids_of("--key", "name", "--limit", "2") == ["r2", "r3"]
    assert run("audit", "verify").exit_code == 0


def test_import_local_brings_keys_and_records(data_dir: Path, shared: str) -> None:
    """Both move at once; if a journal cannot be read, the others move, and exit is 1."""
    with closing(SQLiteKeys(data_dir / "keys.db")) as local:
        local.create("ci")
    written(data_dir, [], [ended("a")])
    (data_dir / "journal-0.db").write_bytes(GARBAGE)

    result = run("db", "import-local")
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "added 1 key, 0 were already there",
        "moved 1 audit record from 1 journal",
    ]
    assert f"gatewayctl db: {data_dir}/journal-0.db: " in result.stderr


def test_what_still_runs_here_is_shown(audit_log: Path) -> None:
    """Running requests of this machine are listed."""
    with closing(still_open(audit_log, began("r", 99))):
        assert ids_of("--open") == ["a", "b", "c", "d", "r"]
