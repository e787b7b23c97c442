"""`gatewayctl audit verify` on real journals that were tampered with."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.ledger.facts import FACTS, SUMMED
from tests.ledger.audit_logs import ESCAPE, began, changed, ended, ran, written
from tests.ledger.records import BEGAN, journal
from tests.support.commands import run


@pytest.fixture
def audit_log(data_dir: Path) -> Path:
    """Write two journals, of five records and of one; returns the first."""
    written(data_dir, [ended(f"r{n}", 60 * n) for n in range(1, 6)], [ended("other")])
    return data_dir / "journal-0.db"


def test_a_chain_that_holds(audit_log: Path) -> None:
    """Each journal has a line with its head; exit 0."""
    head, first, second = ran("audit", "verify").splitlines()
    [one, _] = json.loads(ran("audit", "verify", "--json"))

    assert head.split() == ["journal", "rows", "from", "to", "head", "chain"]
    assert first.split() == ["journal-0.db", "5", "1", "5", one["head"]["hash"], "holds"]
    assert second.split()[:2] == ["journal-1.db", "1"]
    assert one == {
        "journal": "journal-0.db",
        "identity": one["identity"],
        "ok": True,
        "rows": 5,
        "anchor": {"seq": 0, "hash": "00" * 32},
        "head": {"seq": 5, "hash": one["head"]["hash"]},
        "fault": None,
        "message": None,
    }


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("UPDATE rows SET document = replace(document, '/api/chat', '/api/chas') WHERE seq = 3", 3),
        ("UPDATE rows SET document = x'ff' WHERE seq = 3", 3),
        ("UPDATE rows SET document = CAST('x' AS BLOB) WHERE seq = 3", 3),
        ("UPDATE rows SET hash = 'text' WHERE seq = 3", 3),
        ("UPDATE rows SET request_id = x'ff' WHERE seq = 3", 3),
    ],
)
def test_an_altered_record_is_named(audit_log: Path, statement: str, said: int) -> None:
    """Its number and request are named, whatever was changed; exit 1."""
    changed(audit_log, statement)

    result = run("audit", "verify", "--json")
    [first, second] = json.loads(result.stdout)

    assert result.exit_code == 1
    assert (first["ok"], first["rows"], first["head"]["seq"]) == (False, 5, 2)
    assert (first["fault"]["seq"], first["fault"]["reason"]) == (said, "altered")
    assert second["ok"] is True
    assert result.stderr.startswith("gatewayctl audit verify: journal-0.db: record 3 (request ")


@pytest.mark.parametrize(
    "assignment",
    [
        *(f"{name} = 'another'" for name in FACTS),
        *(f"{name} = 12" for name in SUMMED),
        "prompt_tokens = '11'",
        "prompt_tokens = x'ff'",
        "key_name = NULL",
        "is_exact = 0",
    ],
)
def test_edited_facts_are_named(audit_log: Path, assignment: str) -> None:
    """A column that would change usage while the chain holds is a fault, whatever its type."""
    changed(audit_log, f"UPDATE facts SET {assignment} WHERE seq = 3")  # noqa: S608 - ours

    result = run("audit", "verify", "--json")
    [first, second] = json.loads(result.stdout)

    assert first["fault"] == {"seq": 3, "request_id": "r3", "reason": "columns"}
    assert (first["head"]["seq"], second["ok"]) == (2, True)
    assert "record 3 (request r3) has columns that contradict its document" in result.stderr


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM facts WHERE seq = 3", "record 3 (request r3) has columns that contradict"),
        ("DELETE FROM facts", "record 1 (request r1) has columns that contradict"),
        ("INSERT INTO facts (seq, is_exact) VALUES (9, 1)", "there was a record 9, and it is not"),
        ("DELETE FROM rows WHERE seq >= 5", "there was a record 5, and it is not there"),
        ("DELETE FROM rows WHERE seq = 3", "records before record 4 (request r4) are missing"),
        (
            "UPDATE rows SET seq = 9 WHERE seq = 3",
            "records before record 4 (request r4) are missing",
        ),
        ("DELETE FROM rows WHERE seq = 1", "records before record 2 (request r2) are missing"),
        ("UPDATE chain SET seq = 2", "record 1 (request r1) is not where it was"),
        ("UPDATE chain SET hash = 'x'", "the checkpoint is not as this program writes it"),
        ("DELETE FROM chain", "a row is not as this program writes it"),
        ("DROP TABLE chain", "no such table: chain"),
    ],
)
def test_what_else_was_done_is_said(audit_log: Path, statement: str, said: str) -> None:
    """One line says it in words; exit 1."""
    changed(audit_log, statement)

    result = run("audit", "verify")

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert said in result.stderr
    assert "holds" in result.stdout.splitlines()[2]


@pytest.mark.parametrize("key", ["", "another"])
def test_a_wrong_key_is_said_to_be_likely(
    audit_log: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    """That is said if every journal fails at its first record."""
    monkeypatch.setenv("GATEWAY_AUDIT_CHAIN_KEY", key)

    result = run("audit", "verify")

    assert result.exit_code == 1
    assert "record 1 (request r1) was altered" in result.stderr
    assert f"audit.chain_key {'is set' if key else 'is not set'} here" in result.stderr


def test_one_journal_that_fails_is_no_wrong_key(audit_log: Path) -> None:
    """If other journals hold, the key is right."""
    changed(audit_log, "UPDATE rows SET document = '{}' WHERE seq = 1")

    assert "chain_key" not in run("audit", "verify").stderr


def test_records_that_were_trimmed_are_no_fault(audit_log: Path) -> None:
    """The chain begins at the checkpoint that trimming left, even if no record is left."""
    with closing(journal(audit_log)) as opened:
        opened.trim(BEGAN.timestamp() + 60 * 3)
        assert ran("audit", "verify").splitlines()[1].split()[1:4] == ["3", "3", "5"]
        opened.trim(BEGAN.timestamp() + 60 * 99)

    [one, _] = json.loads(ran("audit", "verify", "--json"))
    assert (one["ok"], one["rows"], one["anchor"]["seq"]) == (True, 0, 5)


def test_a_head_that_was_noted(audit_log: Path) -> None:
    """Only the head shows records cut off at the end."""
    [one, _] = json.loads(ran("audit", "verify", "--json"))
    with closing(journal(audit_log)) as opened:
        opened.commit([ended("later")])
    assert run("audit", "verify", "--head", one["head"]["hash"]).exit_code == 0
    for table in ("rows", "facts"):
        changed(audit_log, f"DELETE FROM {table} WHERE seq >= 5")  # noqa: S608 - ours

    assert run("audit", "verify").exit_code == 0
    result = run("audit", "verify", "--head", one["head"]["hash"])
    assert result.exit_code == 1
    assert "no journal has a record with this hash" in result.stderr


@pytest.mark.parametrize("text", ["", "zz", "00", "0" * 63])
def test_a_head_that_is_none(audit_log: Path, text: str) -> None:
    """An invalid head is an error, and never ignored."""
    assert run("audit", "verify", "--head", text).exit_code == 2


def test_what_runs_is_not_in_the_chain(data_dir: Path) -> None:
    """A running request has no finished record yet."""
    with closing(journal(data_dir / "journal-0.db")) as living:
        living.commit([ended("a"), began("r")])
        assert ran("audit", "verify").splitlines()[1].split()[1] == "1"


def test_a_journal_without_records(data_dir: Path) -> None:
    """A journal is empty after the first start, or while it is being made."""
    written(data_dir, [])
    (data_dir / "journal-1.db").touch()

    assert [line.split() for line in ran("audit", "verify").splitlines()[1:]] == [
        ["journal-0.db", "0", "-", "-", "-", "holds"],
        ["journal-1.db", "0", "-", "-", "-", "holds"],
    ]


def test_hostile_names_do_not_reach_the_terminal(audit_log: Path) -> None:
    """A request id from an edited file is shown escaped."""
    changed(audit_log, "UPDATE rows SET request_id = ? WHERE seq = 3", ESCAPE)

    result = run("audit", "verify")

    assert result.stderr.rstrip("\n").isprintable()
    assert "\\u001b[31mred" in result.stderr


def test_no_journals_at_all(data_dir: Path) -> None:
    """The directory is named; that is no error."""
    result = run("audit", "verify")

    assert (result.exit_code, result.stdout) == (0, "")
    assert f"there are no journals in {data_dir}" in result.stderr
