"""`gatewayctl keys ...` and `gatewayctl db ...` where `storage.database_url` is set."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ollama_gateway.keys.key import digest_of
from ollama_gateway.keys.postgres import PostgresKeys
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.storage.migrations import migrations
from ollama_gateway.storage.postgres import Database
from tests.keys.stores import LEGACY
from tests.support.commands import as_json, failed, ran, run
from tests.support.postgres_server import PostgresServer

SECRET = "hush-0123456789"
ENCODE = (
    "cannot be read unambiguously: percent-encode the password and the user"
    " (@ is %40, / is %2F, # is %23, ? is %3F, % is %25, a blank is %20)"
)
NEWEST = len(migrations())
INDEXES = ["gateway_audit_by_key_id", "gateway_audit_by_key_name"]
NOTHING_DONE = {
    "version": NEWEST,
    "applied": [],
    "partitions": [],
    "indexes": [],
    "rows_counted": 0,
}


@pytest.fixture
def use(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Settings from the environment, with a database by its URL."""
    return lambda url: monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", url)


@pytest.fixture
def keys(database_url: str, use: Callable[[str], None]) -> Iterator[PostgresKeys]:
    """The store of the settings, in a migrated database."""
    use(database_url)
    with closing(PostgresKeys(Database(database_url))) as opened:
        yield opened


@pytest.fixture
def empty(postgres: PostgresServer, use: Callable[[str], None]) -> Iterator[str]:
    """The name of the settings' database, which has no tables yet."""
    with postgres.fresh_database("template0") as name:
        use(postgres.url_of(name))
        yield name


def not_served() -> str:
    """Return the reason that `serve` logs for not starting."""
    return str(json.loads(failed("serve"))["reason"])


def test_every_command_works_in_the_database(keys: PostgresKeys, data_dir: Path) -> None:
    """stderr names the database; the only local file is the journal of these changes."""
    made = run("keys", "create", "ci", "--models", "m1", "--requests-per-minute", "60")
    label = keys._database.label
    assert made.stderr.splitlines()[0] == f"keys: postgresql ({label})"
    key = keys.get("ci")
    assert list(keys.find([digest_of(made.stdout.strip())])) == [key]
    ran("keys", "update", "ci", "--name", "cd", "--expires", "90d")
    text = as_json("keys", "rotate", "cd", "--grace", "1h")["key"]
    assert list(keys.find([digest_of(text)])) == [keys.get("cd")]
    ran("keys", "import", "-", stdin=f"legacy,{LEGACY}\n")
    assert [row["name"] for row in as_json("keys", "list")] == ["cd", "legacy"]
    assert as_json("keys", "show", "cd")["limits"]["requests_per_minute"] == 60
    ran("keys", "revoke", key.id)
    assert keys.get("cd").revoked_at is not None
    assert failed("keys", "show", "ci").startswith("gatewayctl keys: no key 'ci'")
    assert {path.name for path in data_dir.iterdir()} == {
        "journal-commands.db",
        "journal-commands.lock",
    }


def test_credentials_are_in_no_output(postgres: PostgresServer, use: Callable[[str], None]) -> None:
    """Host and database are named; user and password are not, whatever goes wrong."""
    use(postgres.url_of("postgres", "somebody", SECRET))
    for command in (["keys", "list"], ["db", "migrate"], ["db", "import-local"]):
        result = run(*command)
        assert result.exit_code == 1
        assert SECRET not in result.output
        assert "somebody" not in result.output
    assert "postgresql (127.0.0.1/postgres)" in run("keys", "list").stderr
    assert failed("keys", "list") == (
        "gatewayctl keys: PostgreSQL refuses the user or the password"
    )


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        (f"mysql://u:{SECRET}@h/x", "must begin with postgresql://"),
        (f"host=h password={SECRET}", "must begin with postgresql://"),
        (f"postgresql://h/x?no={SECRET}", "is not a URL that PostgreSQL understands"),
        *((f"postgresql://u:pa{sign}{SECRET}@h/x", ENCODE) for sign in ("%zz", *"@/#? [\\")),
        (f"postgresql://u:12/{SECRET}@h/x", ENCODE),
        (f"postgresql://u:12?{SECRET}@h/x", ENCODE),
    ],
)
def test_a_wrong_url_is_a_wrong_setting(use: Callable[[str], None], url: str, fault: str) -> None:
    """Exit code 2 before anything is done, and the URL is not repeated."""
    use(url)
    result = run("keys", "list")
    assert result.exit_code == 2
    assert f"GATEWAY_STORAGE_DATABASE_URL: {fault}" in result.stderr.splitlines()
    assert SECRET not in result.output


def test_a_database_that_is_away_is_one_line(use: Callable[[str], None]) -> None:
    """Commands do not wait for it: exit code 1."""
    use(f"postgresql://u:{SECRET}@/x?host=/nowhere")
    assert failed("keys", "create", "ci") == "gatewayctl keys: PostgreSQL cannot be reached"
    assert failed("db", "migrate") == "gatewayctl db: PostgreSQL cannot be reached"


def test_migrate_shows_what_it_did(empty: str) -> None:
    """Before it, keys and serve name the command; then they work; a second run does nothing."""
    needed = f"the database's schema is version 0, this program needs {NEWEST}:"
    assert failed("keys", "list") == f"gatewayctl keys: {needed} run `gatewayctl db migrate`"
    assert not_served() == f"{needed} run `gatewayctl db migrate`"
    first = ran("db", "migrate").splitlines()
    assert first[0] == "applied 0001_keys"
    assert first[-1] == f"the schema is version {NEWEST}"
    assert ran("db", "migrate") == f"the schema is version {NEWEST} already\n"
    assert as_json("keys", "list") == []


def test_migrate_as_json(empty: str) -> None:
    """The output has the version, the applied steps, and the months made for the audit log."""
    steps = [{"version": step.version, "name": step.name} for step in migrations()]
    first = as_json("db", "migrate")
    assert (first["version"], first["applied"]) == (NEWEST, steps)
    assert [name[:14] for name in first["partitions"]] == ["gateway_audit_"] * 3
    assert (first["indexes"], first["rows_counted"]) == (INDEXES, 0)
    assert as_json("db", "migrate") == NOTHING_DONE


def test_migrate_waits_for_no_reader(keys: PostgresKeys, database_url: str) -> None:
    """Months that cannot be attached now are left to the gateways; the tables are made."""
    with pytest.MonkeyPatch.context() as patch, closing(psycopg.connect(database_url)) as reader:
        patch.setattr("ollama_gateway.storage.migrations.RETRY_SECONDS", 0.0)
        reader.execute("SELECT count(*) FROM gateway_audit").fetchone()
        result = run("db", "migrate", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == NOTHING_DONE
    assert (
        "held a lock for too long: the owner's gateways make the partitions later" in result.stderr
    )


def test_migrate_goes_on_when_the_reader_has_ended(keys: PostgresKeys, database_url: str) -> None:
    """It retries for a while, and blocks no other client in between."""
    with closing(psycopg.connect(database_url)) as reader:
        reader.execute("SELECT count(*) FROM gateway_audit").fetchone()
        ending = threading.Thread(target=end_when_waited_for, args=(reader, database_url))
        ending.start()
        made = as_json("db", "migrate")["partitions"]
        ending.join()

    assert len(made) == 3


def end_when_waited_for(reader: psycopg.Connection[Any], url: str) -> None:
    """End a reader's transaction once something waits for a lock of the table."""
    waiting = (
        "SELECT FROM pg_locks WHERE NOT granted AND relation = 'gateway_audit_default'::regclass"
    )
    with psycopg.connect(url, autocommit=True) as watching:
        while not watching.execute(waiting.encode()).fetchall():
            pass
    reader.rollback()


def test_a_newer_schema_is_refused_by_all(
    postgres: PostgresServer, keys: PostgresKeys, database_url: str
) -> None:
    """keys, serve and migrate refuse it and name the remedy."""
    insert = f"INSERT INTO gateway_migrations VALUES ({NEWEST + 1}, 'later')"  # noqa: S608
    postgres.execute(insert, database_url.rpartition("/")[2])
    newer = (
        f"the database was migrated by a newer version (schema {NEWEST + 1}, this one knows"
        f" {NEWEST}): upgrade this program"
    )
    for command in (["keys", "list"], ["db", "migrate"]):
        assert failed(*command) == f"gatewayctl {command[0]}: {newer}"
    assert not_served() == newer


@pytest.mark.usefixtures("data_dir")
@pytest.mark.parametrize("command", ["migrate", "import-local"])
def test_without_a_database_there_is_nothing_to_do(command: str) -> None:
    """A setting that is missing, so exit code 2."""
    line = "storage.database_url: is not set: set it to the URL of the database"
    assert failed("db", command, code=2) == line


def test_import_local_brings_the_keys(keys: PostgresKeys, data_dir: Path) -> None:
    """It names both stores and its result; a second run does nothing."""
    with closing(SQLiteKeys(data_dir / "keys.db")) as local:
        key, text = local.create("ci")
        local.create("gone")
        local.revoke("gone")
        result = run("db", "import-local")
        assert result.stdout == "added 2 keys, 0 were already there\n"
        assert result.stderr.splitlines() == [
            f"from: sqlite {data_dir / 'keys.db'}",
            f"keys: postgresql ({keys._database.label})",
        ]
        assert list(keys.find([digest_of(text)])) == [key]
        assert ran("db", "import-local") == "added 0 keys, 2 were already there\n"
        other, _ = local.create("other")
        local.revoke("ci")
        told = as_json("db", "import-local")
        assert (told["added"], told["revoked"], told["different"]) == ([other.id], [key.id], [])
        assert len(told["same"]) == 1
        local.update("other", models=("m1",))
        assert ran("db", "import-local").splitlines()[1:] == [
            f"key {other.id} (other) differs from the one here: the database keeps its own"
        ]


def test_import_local_needs_keys_here(keys: PostgresKeys, data_dir: Path) -> None:
    """Where there is no file, none is made."""
    line = f"gatewayctl db: {data_dir / 'keys.db'}: no such file, so there are no keys to import"
    assert failed("db", "import-local") == line
    assert not data_dir.exists()


def test_import_local_moves_all_or_nothing(keys: PostgresKeys, data_dir: Path) -> None:
    """A name taken in the database is reported, with the command that shows it."""
    taker, _ = keys.create("ci")
    with closing(SQLiteKeys(data_dir / "keys.db")) as local:
        key, _ = local.create("ci")
        local.create("fine")
    line = f"gatewayctl db: key {key.id}: its name 'ci' is taken by key {taker.id}"
    assert failed("db", "import-local") == line
    assert keys.list() == (taker,)
