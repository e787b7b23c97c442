"""`gatewayctl audit verify` on records that moved to PostgreSQL and were tampered with."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ollama_gateway.ledger.journal import first_records
from ollama_gateway.ledger.ownership import own_journal
from ollama_gateway.ledger.postgres import AuditTable
from tests.ledger.audit_logs import changed, ended, moved, ran, written
from tests.ledger.records import KEY, final, journal
from tests.support.commands import run
from tests.support.spoilt import GARBAGE

MONTH = 31 * 24 * 60


@pytest.fixture
def audit_log(data_dir: Path, shared: str) -> Path:
    """Write a journal of ten records, six of them moved, and one of another machine; the first."""
    written(data_dir, [ended(f"r{n}", 60 * n) for n in range(1, 11)])
    moved(data_dir / "journal-0.db", shared, 6)
    (data_dir / "far").mkdir()
    written(data_dir / "far", [ended(f"f{n}", 60 * n) for n in range(1, 4)])
    moved(data_dir / "far" / "journal-0.db", shared)
    return data_dir / "journal-0.db"


def done(url: str, *statements: str) -> None:
    """Tamper with the table."""
    with psycopg.connect(url) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def found() -> list[dict[str, Any]]:
    """Return the results of `audit verify`, this machine's journal first."""
    return list(json.loads(run("audit", "verify", "--json").stdout))


def copied(of: str, **changes: str) -> str:
    """Return SQL that copies a record, with other values."""
    names = (
        *("request_id", "started_at", "journal", "seq", "hash", "document", "key_id", "key_name"),
        *("end_user", "endpoint", "model", "backend", "outcome", "reason", "prompt_tokens"),
        *("completion_tokens", "tokens_source"),
    )
    values = ", ".join(changes.get(name, name) for name in names)
    return f"""INSERT INTO gateway_audit ({", ".join(names)})
        SELECT {values} FROM gateway_audit WHERE request_id = '{of}'"""  # noqa: S608 - ours


@pytest.mark.usefixtures("audit_log")
def test_a_chain_that_holds() -> None:
    """Each chain has a line; another machine's stands under its identity."""
    _, here, far = (line.split() for line in ran("audit", "verify").splitlines())
    identities = [one["identity"] for one in found()]

    assert here[:4] == ["journal-0.db", "10", "1", "10"]
    assert far[:4] == [identities[1], "3", "1", "3"]
    assert here[-1] == far[-1] == "holds"


@pytest.mark.parametrize(
    ("assignment", "reason"),
    [
        ("document = replace(document, '/api/chat', '/api/chas')", "altered"),
        ("document = 'no JSON'", "altered"),
        ("hash = decode('00', 'hex')", "altered"),
        ("request_id = 'another'", "altered"),
        ("key_id = 'another'", "columns"),
        ("key_name = NULL", "columns"),
        ("end_user = 'another'", "columns"),
        ("model = 'another'", "columns"),
        ("prompt_tokens = 0", "columns"),
        ("started_at = started_at + interval '1 day'", "columns"),
        ("started_at = 'infinity'", "columns"),
        ("started_at = '0044-03-15 BC'", "columns"),
    ],
)
def test_an_altered_record_is_named(
    audit_log: Path, shared: str, assignment: str, reason: str
) -> None:
    """Its number and request are named, whichever column was changed."""
    done(shared, f"UPDATE gateway_audit SET {assignment} WHERE request_id = 'r3'")  # noqa: S608

    result = run("audit", "verify", "--json")
    here, far = json.loads(result.stdout)

    assert result.exit_code == 1
    assert (here["fault"]["seq"], here["fault"]["reason"]) == (3, reason)
    assert (here["rows"], here["head"]["seq"], far["ok"]) == (10, 2, True)
    assert result.stderr.startswith("gatewayctl audit verify: journal-0.db: record 3 (request ")


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (
            "DELETE FROM gateway_audit WHERE request_id = 'r3'",
            "before record 4 (request r4) are miss",
        ),
        (
            "DELETE FROM gateway_audit WHERE request_id = 'r1'",
            "before record 2 (request r2) are miss",
        ),
        (
            "DELETE FROM gateway_audit WHERE request_id = 'r6'",
            "before record 7 (request r7) are miss",
        ),
        (
            "DELETE FROM gateway_audit WHERE request_id > 'r2'",
            "before record 7 (request r7) are miss",
        ),
        (
            "DELETE FROM gateway_audit WHERE request_id = 'f1'",
            "before record 2 (request f2) are miss",
        ),
        (copied("r3", request_id="'x'"), "record 3 (request "),
        (copied("f3", request_id="'x'", seq="4"), "record 4 (request x) was altered"),
        (copied("r3", request_id="'x'", seq="0"), "record 0 (request x) is not where it was"),
        (copied("r3", request_id="'x'", seq="-9"), "record -9 (request x) is not where it was"),
    ],
)
@pytest.mark.usefixtures("audit_log")
def test_what_else_was_done_is_said(shared: str, statement: str, said: str) -> None:
    """Removed and inserted records are found, also at the ends and where journals go on."""
    done(shared, statement)

    result = run("audit", "verify")

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert said in result.stderr


@pytest.mark.usefixtures("audit_log")
def test_reordered_records_are_named(shared: str) -> None:
    """If two records change places, the first of them is named."""
    done(
        shared,
        "UPDATE gateway_audit SET seq = 99 WHERE request_id = 'r3'",
        "UPDATE gateway_audit SET seq = 3 WHERE request_id = 'r4'",
        "UPDATE gateway_audit SET seq = 4 WHERE request_id = 'r3'",
    )

    assert found()[0]["fault"] == {"seq": 3, "request_id": "r4", "reason": "altered"}


def test_records_lost_from_the_journal_show(audit_log: Path) -> None:
    """A gap between the last moved record and the journal's first is a fault."""
    changed(audit_log, "DELETE FROM rows WHERE seq = 7")
    assert found()[0]["fault"] == {"seq": 8, "request_id": "r8", "reason": "missing"}
    changed(audit_log, "UPDATE chain SET seq = 9")
    assert found()[0]["fault"] == {"seq": 10, "request_id": "r10", "reason": "missing"}


def test_a_record_before_the_checkpoint_of_the_journal(audit_log: Path) -> None:
    """A record at or before the checkpoint is a fault."""
    changed(audit_log, "UPDATE rows SET seq = 2 WHERE seq = 7")

    fault = found()[0]["fault"]
    assert (fault["seq"], fault["reason"]) in {(8, "missing"), (2, "reordered")}
    changed(audit_log, "UPDATE rows SET seq = 3 WHERE seq >= 8 AND seq = 8")
    changed(audit_log, "DELETE FROM rows WHERE seq > 3")
    assert found()[0]["fault"] == {"seq": 2, "request_id": "r7", "reason": "reordered"}


def dropped_before(table: AuditTable, limit: datetime) -> None:
    """Drop the months that ended before a moment."""
    for name in table.partitions_before(limit):
        table.drop_partition(name)


def test_what_retention_dropped_is_no_fault(data_dir: Path, shared: str) -> None:
    """The chain begins at the checkpoint of the last dropped month, even if all were dropped."""
    january = [final(f"r{n}", minutes=n) for n in range(3)]
    later = [final("s", minutes=MONTH), final("late", minutes=3), final("t", minutes=2 * MONTH)]
    with closing(journal(data_dir / "journal-0.db")) as owned, closing(AuditTable(shared)) as table:
        table.make_partitions(datetime(2026, 1, 15, tzinfo=UTC))
        owned.commit([*january, *later])
        moved_rows = first_records(owned.path, 99)
        table.store(owned.identity, moved_rows)
        owned.drop(moved_rows[-1])
        dropped_before(table, datetime(2026, 2, 1, tzinfo=UTC))
        [one] = found()
        assert (one["ok"], one["anchor"]["seq"], one["rows"], one["head"]["seq"]) == (True, 5, 1, 6)
        dropped_before(table, datetime(2026, 9, 1, tzinfo=UTC))
        owned.commit([final("u", minutes=3 * MONTH)])
        [one] = found()
        assert (one["ok"], one["anchor"]["seq"], one["head"]["seq"]) == (True, 6, 7)


def test_what_is_gone_is_said(data_dir: Path, shared: str) -> None:
    """The number of dropped records is shown, also for a machine of which none is left."""
    written(data_dir, [ended("here")])
    (data_dir / "far").mkdir()
    written(data_dir / "far", [final(f"f{n}", minutes=n) for n in range(1500)])
    with closing(AuditTable(shared)) as table:
        table.make_partitions(datetime(2026, 1, 15, tzinfo=UTC))
        moved(data_dir / "far" / "journal-0.db", shared)
        dropped_before(table, datetime(2026, 2, 1, tzinfo=UTC))

    _, here, far = ran("audit", "verify").splitlines()
    assert here.endswith("holds")
    assert far.endswith("holds; 1,500 records before are gone")
    assert [one["anchor"]["seq"] for one in found()] == [0, 1500]


def test_records_in_both_are_counted_once(data_dir: Path, shared: str) -> None:
    """A process that dies between the commit and dropping the records leaves such ones."""
    written(data_dir, [ended(f"r{n}") for n in range(5)])
    path = data_dir / "journal-0.db"
    with closing(journal(path)) as owned, closing(AuditTable(shared)) as table:
        table.store(owned.identity, first_records(path, 3))

    [one] = found()
    assert (one["ok"], one["rows"], one["head"]["seq"]) == (True, 5, 5)


def test_a_head_that_was_noted(audit_log: Path, shared: str) -> None:
    """It is found wherever its record is, and shows records cut off at PostgreSQL's end."""
    here, far = found()
    for one in (here, far):
        assert run("audit", "verify", "--head", one["head"]["hash"]).exit_code == 0
    moved(audit_log, shared)
    assert run("audit", "verify", "--head", here["head"]["hash"]).exit_code == 0
    done(shared, "DELETE FROM gateway_audit WHERE request_id = 'f3'")
    assert run("audit", "verify").exit_code == 0
    result = run("audit", "verify", "--head", far["head"]["hash"])
    assert (result.exit_code, "no journal has a record" in result.stderr) == (1, True)


def test_a_journal_that_lives_and_one_that_is_no_journal(audit_log: Path) -> None:
    """The first is followed while it is written; the second is named; the others are followed."""
    with own_journal(audit_log.parent, is_strict=False, key=KEY) as living:
        living.commit([ended("new")])
        (audit_log.parent / "journal-1.db").write_bytes(GARBAGE)
        result = run("audit", "verify")

    assert [line.split()[-1] for line in result.stdout.splitlines()[1:]] == [
        "holds",
        "read",
        "holds",
    ]
    assert result.stderr.count("\n") == 1


def test_postgresql_that_is_away(
    audit_log: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says so; the journals are still followed; exit 1."""
    monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", "postgresql://127.0.0.1:1/x")

    result = run("audit", "verify")

    assert result.exit_code == 1
    assert result.stderr == "gatewayctl audit verify: PostgreSQL cannot be reached\n"
    assert result.stdout.splitlines()[1].split()[1:4] == ["4", "7", "10"]
