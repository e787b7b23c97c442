"""The commands that make, use and check the daily sums, with a database."""

from __future__ import annotations

import json
import threading
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.ledger.chain import Link
from ollama_gateway.storage.migrations import migrate, migrations
from ollama_gateway.storage.postgres import Database
from tests.ledger.audit_logs import ended, moved, ran, written
from tests.ledger.summed import (
    LACKING,
    ask,
    expected,
    found_differences,
    older_links,
    store_as_older,
    summed,
)
from tests.support.commands import run
from tests.support.patience import PATIENCE, wait_until
from tests.support.postgres_server import PostgresServer

BEFORE_SUMS = 3
DAY = 86_400


@pytest.fixture
def audit_log(data_dir: Path, shared: str) -> Path:
    """Store records of five days: of another machine, and of a journal here, moved in part."""
    far = data_dir / "far"
    far.mkdir()
    names = ("alice", "bob")
    entries = [
        ended(
            f"r{number}",
            number * DAY / 8,
            key_id=f"k{number % 2}",
            key_name=names[number % 2] if number > 20 else "old",
            model=("llama3.2", "LLAMA3.2:latest", "qwen3:8b")[number % 3],
            outcome=("completed", "refused", "killed")[number % 3],
            prompt_tokens=number,
            completion_tokens=None if number % 5 == 0 else 1,
            tokens_source=("reported", "counted", "prompt_counted")[number % 3],
        )
        for number in range(40)
    ]
    written(far, entries[::2])
    written(data_dir, entries[1::2])
    moved(far / "journal-0.db", shared)
    moved(data_dir / "journal-0.db", shared, 12)
    return data_dir


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--by", "day"),
        ("--by", "key,outcome", "--per", "month"),
        ("--by", "model", "--since", "2026-01-03T12:00:00Z"),
        ("--by", "key", "--since", "2026-01-03", "--until", "2026-01-05T11:22:33Z"),
        ("--model", "llama3.2"),
        ("--key", "old", "--by", "backend"),
        ("--key", "k1", "--by", "end-user"),
        ("--since", "2026-01-03T01:00:00Z", "--until", "2026-01-03T23:00:00Z"),
    ],
)
def test_usage_is_the_same_from_sums_and_from_records(
    audit_log: Path, shared: str, options: tuple[str, ...]
) -> None:
    """What has not moved yet is added, and the filters mean the same."""
    from_sums = ran("usage", "--json", *options)
    ask(shared, LACKING)

    assert json.loads(from_sums) == json.loads(ran("usage", "--json", *options)) != []


def test_usage_reads_the_sums(audit_log: Path, shared: str) -> None:
    """Records that are gone stay summed up."""
    before = ran("usage", "--json")
    ask(shared, "DELETE FROM gateway_audit WHERE request_id IN ('r2', 'r4')")

    assert ran("usage", "--json") == before


def test_usage_without_the_sums(
    audit_log: Path, shared: str, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A role that may read the records alone, and a schema without sums, give the same."""
    before = ran("usage", "--json")
    name = shared.rpartition("/")[2]
    url = postgres.make_role("auditor", name, "SELECT ON gateway_audit")
    monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", url)
    assert ran("usage", "--json") == before
    monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", shared)
    ask(shared, "DROP TABLE gateway_audit_sums")

    assert ran("usage", "--json") == before


def test_differences_are_named_and_made_good(audit_log: Path, shared: str) -> None:
    """Exit code 1 names day and key; after a rebuild nothing differs."""
    assert ran("audit", "verify", "--sums") == "5 days compared, 0 differences\n"
    ask(
        shared,
        "UPDATE gateway_audit_sums SET requests = requests + 5"
        " WHERE day = '2026-01-06' AND key_id = 'k0' AND model = 'qwen3:8b'",
    )

    result = run("audit", "verify", "--sums")

    assert (result.exit_code, result.stdout) == (1, "5 days compared, 1 difference\n")
    differs = "2026-01-06, key alice (k0): the sums have 9 requests and 144 tokens, the records 4"
    assert result.stderr.splitlines() == [
        f"gatewayctl audit verify --sums: {differs} requests and 144 tokens",
        "`gatewayctl db rebuild-usage` makes the sums from the records",
    ]
    [found] = json.loads(run("audit", "verify", "--sums", "--json").stdout)
    assert (found["day"], found["key_id"], found["records"]["requests"]) == ("2026-01-06", "k0", 4)
    assert run("db", "rebuild-usage").stdout == "summed up 32 audit records\n"
    assert run("audit", "verify", "--sums").exit_code == 0


def test_incomplete_sums_are_said_to_be(audit_log: Path, shared: str) -> None:
    """They are no fault of the sums: the command to finish them is named, and finishes them."""
    ask(shared, LACKING)

    result = run("audit", "verify", "--sums")

    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "gatewayctl audit verify --sums: the daily sums lack records: run `gatewayctl db migrate`\n"
    )
    assert run("db", "migrate").exit_code == 0
    assert run("audit", "verify", "--sums").exit_code == 0


def test_without_a_database_there_are_no_sums(data_dir: Path) -> None:
    """The setting is named, with exit code 2."""
    result = run("audit", "verify", "--sums")

    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("storage.database_url: is not set")


def test_the_database_is_migrated_beside_writers(
    data_dir: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway goes on storing records while the sums are made; each counts once."""
    ended_at = threading.Event()
    before, later = older_links(range(1, 41)), older_links(range(41, 10_000))
    stored: list[Link] = []

    def write(url: str) -> None:
        for one in later:
            if ended_at.is_set():
                return
            store_as_older(url, "other", [one])
            stored.append(one)

    with postgres.fresh_database("template0") as name:
        url = postgres.url_of(name)
        with closing(Database(url)) as database:
            migrate(database, migrations()[:BEFORE_SUMS])
        store_as_older(url, "j", before)
        writer = threading.Thread(target=write, args=(url,))
        writer.start()
        try:
            wait_until(lambda: len(stored) > 1)
            monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", url)
            result = run("db", "migrate")
            since = len(stored)
            wait_until(lambda: len(stored) > since)
        finally:
            ended_at.set()
            writer.join(PATIENCE)

        assert result.exit_code == 0, result.output
        assert summed(url) == expected([*before, *stored])
        assert found_differences(url) == []
