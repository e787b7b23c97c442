"""`gatewayctl audit export`, run in this process on real journals and PostgreSQL."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ollama_gateway.ledger.read.export_cursor import cursor_of, reached_by
from tests.ledger.audit_logs import ended, listed, moved, written
from tests.support.commands import run
from tests.support.spoilt import GARBAGE

AWAY = "postgresql://hush:hush-0123456789@127.0.0.1:1/x"


def exported(*options: str) -> tuple[list[str], str]:
    """Return the ids of the exported records, and the cursor."""
    result = run("audit", "export", *options)
    assert result.exit_code == 0, result.stderr
    [told] = [line for line in result.stderr.splitlines() if line.startswith("cursor: ")]
    ids = [json.loads(line)["request_id"] for line in result.stdout.splitlines()]
    return ids, told.removeprefix("cursor: ")


def test_all_records_are_exported_as_they_are_listed(data_dir: Path) -> None:
    """One JSON object a line, as in `audit list --json` and with its kind, of all journals."""
    written(data_dir, [ended("a", 0), ended("c", 20)], [ended("b", 10, end_user="=1")])

    result = run("audit", "export")

    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert found == [{**document, "kind": "request"} for document in listed()]
    assert exported()[0] == ["a", "b", "c"]


def test_an_export_goes_on(data_dir: Path, shared: str) -> None:
    """No record is lost or comes twice, however late it arrives and however it moves meanwhile."""
    far, late = data_dir / "far", data_dir / "late"
    far.mkdir()
    late.mkdir()
    written(late, [ended("old", -1000)])
    written(far, [ended("a", 0)])
    written(data_dir, [ended("b", 1), ended("c", 2)])
    moved(far / "journal-0.db", shared)

    first, cursor = exported()
    moved(data_dir / "journal-0.db", shared)
    written(far, [ended("d", 3)])
    moved(far / "journal-0.db", shared)
    moved(late / "journal-0.db", shared)
    second, cursor = exported("--since", cursor)
    third, cursor = exported("--since", cursor)
    written(data_dir, [ended("e", -500)])
    fourth, _ = exported("--since", cursor)

    assert (first, second, third, fourth) == (["a", "b", "c"], ["old", "d"], [], ["e"])


def test_a_time_range_is_exported(data_dir: Path) -> None:
    """A time instead of a cursor begins an export; one with an end has no cursor."""
    written(data_dir, [ended("a", 0), ended("b", 86_400)])

    assert exported("--since", "2026-01-03")[0] == ["b"]
    result = run("audit", "export", "--until", "2026-01-03")
    assert (json.loads(result.stdout)["request_id"], result.stderr) == ("a", "")


def test_a_file_keeps_the_cursor(data_dir: Path, tmp_path: Path) -> None:
    """The same command exports new records each time; one that fails leaves the file alone."""
    kept = str(tmp_path / "cursor")
    written(data_dir, [ended("a")])
    first = run("audit", "export", "--cursor-file", kept)
    written(data_dir, [ended("b")])
    second = run("audit", "export", "--cursor-file", kept)

    for result, expected in ((first, "a"), (second, "b")):
        assert (result.exit_code, result.stderr) == (0, "")
        assert json.loads(result.stdout)["request_id"] == expected
    assert run("audit", "export", "--cursor-file", str(tmp_path)).exit_code == 2
    assert run("audit", "export", "--cursor-file", kept, "--since", "7d").exit_code == 2


def test_csv_has_a_column_for_each_field(data_dir: Path) -> None:
    """Attempts are JSON in their cell; names are no formulas."""
    written(data_dir, [ended("a", end_user='=HYPERLINK("x")')])

    rows = list(
        csv.DictReader(io.StringIO(run("audit", "export", "--format", "csv").stdout, newline=""))
    )

    [document] = listed()
    behind = ["kind", "change_id", "at", "by", "action", "target", "before", "after"]
    assert list(rows[0]) == [*document, *behind]
    assert rows[0]["end_user"] == '\'=HYPERLINK("x")'
    assert json.loads(rows[0]["attempts"]) == document["attempts"]
    assert (rows[0]["reason"], rows[0]["status"]) == ("", "200")


def test_without_postgresql_there_is_no_cursor(
    data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be read is exported, with exit code 1; the earlier cursor stays good."""
    written(data_dir, [ended("a")])
    monkeypatch.setenv("GATEWAY_STORAGE_DATABASE_URL", AWAY)

    result = run("audit", "export")

    assert (result.exit_code, json.loads(result.stdout)["request_id"]) == (1, "a")
    assert "there is no cursor" in result.stderr
    assert "cursor: " not in result.stderr


def test_a_journal_that_cannot_be_read_is_exported_later(data_dir: Path) -> None:
    """The cursor covers the other journals alone."""
    written(data_dir, [ended("a")], [ended("b")])
    whole = (data_dir / "journal-1.db").read_bytes()
    for suffix in ("-wal", "-shm"):
        (data_dir / f"journal-1.db{suffix}").unlink(missing_ok=True)
    (data_dir / "journal-1.db").write_bytes(GARBAGE)
    result = run("audit", "export")
    cursor = result.stderr.splitlines()[-1].removeprefix("cursor: ")
    (data_dir / "journal-1.db").write_bytes(whole)

    assert result.exit_code == 1
    assert exported("--since", cursor)[0] == ["b"]


@pytest.mark.parametrize(
    "cursor", ["c1-", "c1-AAAA", "c1-é", "c2-eJyrBgABdQD5", "c1-eNqLjgUAARUAuQ"]
)
def test_another_text_is_no_cursor(data_dir: Path, cursor: str) -> None:
    """Exit code 2, and nothing is exported."""
    written(data_dir, [ended("a")])

    result = run("audit", "export", "--since", cursor)

    assert (result.exit_code, result.stdout) == (2, "")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # of a busy machine
@given(st.dictionaries(st.text(max_size=40), st.integers(0, 2**63 - 1), max_size=5))
def test_a_cursor_says_what_was_reached(reached: dict[str, int]) -> None:
    """It is one word, which a shell takes as it is."""
    cursor = cursor_of(reached)

    assert reached_by(cursor) == reached
    assert cursor.replace("-", "").replace("_", "").isalnum()


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.text() | st.binary().map(lambda raw: "c1-" + raw.hex()))
def test_any_other_text_is_refused(text: str) -> None:
    """A damaged cursor raises nothing but ValueError."""
    with pytest.raises(ValueError, match=r"^not a cursor$"):
        reached_by(text)
