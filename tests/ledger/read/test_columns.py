"""Columns and documents give the same: filters and sums in SQL, against plain functions."""

from __future__ import annotations

import json
import sqlite3
import tempfile
from collections import Counter
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollama_gateway.ledger.document import document_of, to_text
from ollama_gateway.ledger.facts import FACTS, MAX_COUNT, SUMMED, facts_of, facts_of_own
from ollama_gateway.ledger.read import journal_reader, stored
from ollama_gateway.ledger.read.audit_log import AuditLog, merged, start_at_newest
from ollama_gateway.ledger.read.filtering import ALL, Filter, TimeRange
from ollama_gateway.ledger.read.grouping import DIMENSIONS, SUMS, GroupSum, group_of
from ollama_gateway.ledger.read.stored import AuditTableReader
from ollama_gateway.ledger.read.usage import WAYS, dimensions_of, usage
from ollama_gateway.reasons import Outcome
from tests.ledger.audit_logs import changed, ended, moved, still_open, written
from tests.ledger.records import BEGAN, journal, record
from tests.ledger.summed import LACKING, ask
from tests.ledger.version_1 import write_version_1

COUNTS = st.none() | st.integers(0, 2000) | st.sampled_from([MAX_COUNT, MAX_COUNT + 1, 2**63 - 1])
ODD_COUNTS = COUNTS | st.sampled_from([-1, 2**70, "7", 1.5, True])
NAMES = st.sampled_from([None, "a", "A", "m1:latest", "M1", "hf.co/b/m1", "m1:cloud", "\u00e9"])
ODD_NAMES = NAMES | st.sampled_from(["a\x00b", "\ud800", "\U0001f600", 7, ["a"]])
MOMENTS = st.integers(0, 99).map(
    lambda hours: (BEGAN + timedelta(hours=hours)).isoformat(timespec="microseconds")
)
ODD_MOMENTS = MOMENTS | st.sampled_from(
    ["2026-01-03T03:04:05Z", "2026-01-03T23:04:05.000000-05:00", "2026-01-03", "x" * 32, None]
)


def documents(names: Any, counts: Any, moments: Any) -> Any:
    """Return lists of texts of records whose fields have such values."""
    fields = dict.fromkeys(FACTS, names) | dict.fromkeys(SUMMED, counts)
    fields |= {"started_at": moments, "outcome": st.sampled_from(["completed", "refused"])}
    fields["tokens_source"] = st.sampled_from([None, "reported", "counted", "prompt_counted"])
    whole = document_of(record("r"))
    return st.lists(
        st.fixed_dictionaries(fields).map(lambda found: to_text({**whole, **found})), max_size=9
    )


FILTERS = st.builds(
    Filter,
    st.builds(
        TimeRange,
        st.none() | st.just(BEGAN + timedelta(hours=20)),
        st.none() | st.just(BEGAN + timedelta(hours=60)),
    ),
    key=st.sampled_from([None, "a", "m1:latest"]),
    model=st.sampled_from([None, "m1", "A", "hf.co/B/m1:latest", "m1:cloud", "no name", "\u00e9"]),
    backend=st.sampled_from([None, "a", "\u00e9"]),
    end_user=st.sampled_from([None, "a", "ab", "a\x00b"]),
)


@settings(max_examples=30, deadline=None)
@given(documents(ODD_NAMES, ODD_COUNTS, ODD_MOMENTS), FILTERS)
def test_facts_select_and_sum_as_documents_do(texts: list[str], wanted: Filter) -> None:
    """Whatever a file holds, a journal with facts gives what one without gives, and the faults."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "journal-0.db"
        write_version_1(path, texts)
        before = everything(path.parent, wanted)
        journal(path).close()

        assert everything(path.parent, wanted) == before


def everything(directory: Path, wanted: Filter) -> tuple[Any, ...]:
    """Return the records, the usage and the faults."""
    faults: list[str] = []
    records = list(AuditLog(directory, faults.append).records(wanted))
    newest = [
        record
        for segment in AuditLog(directory, faults.append).segments()
        for record in segment.backwards(wanted)
    ]
    assert newest[::-1] == records
    sums = [
        usage(AuditLog(directory, faults.append).sums(wanted, dimensions_of([by])), [by])
        for by in WAYS
    ]
    return records, sums, sorted(set(faults))


@settings(deadline=None)
@given(documents(NAMES, COUNTS, MOMENTS))
def test_facts_of_own_records_are_made_as_those_of_others(texts: list[str]) -> None:
    """The fast way gives the same row."""
    for seq, text in enumerate(texts, 1):
        document = json.loads(text)
        assert facts_of_own(seq, document, text) == facts_of(seq, document)


@pytest.fixture
def fleet(tmp_path: Path, database_url: str) -> Path:
    """Write a journal of which a part has moved, and one of another machine."""
    outcomes: list[Outcome] = ["completed", "refused", "killed"]
    for machine in ("here", "there"):
        (tmp_path / machine).mkdir()
        entries = [
            ended(
                f"{machine}{n:02}",
                n * 7200,
                key_id=f"k{n % 3}",
                key_name=("k0" if n % 6 else "bob", "k0", "alice")[n % 3],
                model=("m1:latest", "M1:latest", "m2:8b")[n % 3],
                backend=machine,
                outcome=outcomes[n % 3],
                prompt_tokens=2**70 if n == 5 else n,
                cached_tokens=None if n % 5 else n + n % 2,
                completion_tokens=None if n % 2 else n,
                tokens_source="counted" if n % 2 else "reported",
                end_user="a\x00b" if n == 7 else "a\ud800" if n == 8 else "ab",
            )
            for n in range(24)
        ]
        written(tmp_path / machine, entries)
    moved(tmp_path / "there" / "journal-0.db", database_url)
    moved(tmp_path / "here" / "journal-0.db", database_url, 13)
    ask(database_url, LACKING)  # so that sums are made of records
    return tmp_path / "here"


@pytest.mark.parametrize(
    "wanted",
    [
        ALL,
        Filter(key="bob"),
        Filter(key="k0"),  # the id of some, the name of others, both of a few
        Filter(key="k1", outcome="refused"),
        Filter(model="M1"),
        Filter(backend="there"),
        Filter(end_user="ab"),
        Filter(TimeRange(BEGAN + timedelta(hours=5), BEGAN + timedelta(hours=40))),
        Filter(reason="rate"),
    ],
)
@pytest.mark.parametrize("are_indexed", [True, False])
def test_both_stores_select_and_sum_as_documents_do(
    fleet: Path,
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    wanted: Filter,
    *,
    are_indexed: bool,
) -> None:
    """Filters and sums go through both halves; what no column can hold is read from documents."""
    if not are_indexed:
        ask(database_url, "DROP INDEX gateway_audit_by_key_name")
    monkeypatch.setattr(journal_reader, "TURN", 4)
    monkeypatch.setattr(stored, "TURN", 5)
    with closing(AuditTableReader(database_url)) as table:
        faults: list[str] = []
        whole = list(AuditLog(fleet, faults.append, table).records(ALL))
        expected = [one for one in whole if wanted.matches(one)]
        found = list(AuditLog(fleet, faults.append, table).records(wanted))
        assert [one.request_id for one in found] == [one.request_id for one in expected]
        segments = AuditLog(fleet, faults.append, table).segments()
        start_at_newest(segments, wanted, 6)
        newest = [one.request_id for one in merged(segments, wanted)]
        assert newest == [one.request_id for one in expected[-6:]]
        assert len(whole) == 46  # the two with 2**70 tokens are faults
        for dimensions in (("day",), ("key_id", "key_name"), ("model", "outcome"), ("end_user",)):
            sums = AuditLog(fleet, faults.append, table).sums(wanted, dimensions)
            singles = (group_of(one.document, dimensions) for one in expected)
            assert added(sums) == added(singles)
    assert len(set(faults)) == 2


def added(sums: Any) -> dict[tuple[str | None, ...], tuple[Counter[str], str]]:
    """Return the sums of groups, and when the last request of each began."""
    whole: dict[tuple[str | None, ...], tuple[Counter[str], str]] = {}
    for one in sums:
        assert isinstance(one, GroupSum)
        counts, latest = whole.setdefault(one.values, (Counter(), ""))
        counts.update({"requests": one.requests, **dict(zip(SUMS, one.counts, strict=True))})
        whole[one.values] = counts, max(latest, one.latest)
    return whole


def test_documents_are_read_only_where_they_are_shown(tmp_path: Path) -> None:
    """Sums read no document, and a filter none but those that it selects, whatever the length."""
    entries = [ended(f"r{n}", n, key_name="rare" if n == 3 else "k") for n in range(3000)]
    written(tmp_path, entries)
    changed(tmp_path / "journal-0.db", "UPDATE rows SET document = 'x' WHERE seq <> 4")
    source = AuditLog(tmp_path, pytest.fail)

    [used] = usage(source.sums(ALL, dimensions_of(["model"])), ["model"])
    segments = source.segments()
    start_at_newest(segments, Filter(key="rare"), 20)
    found = [record.request_id for record in merged(segments, Filter(key="rare"))]

    assert (used.names, used.requests, found) == (("m1:latest",), 3000, ["r3"])


def test_a_long_sum_is_made_in_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two turns nothing is held, so the write-ahead log can be emptied."""
    monkeypatch.setattr(journal_reader, "TURN", 10)
    with closing(still_open(tmp_path, *(ended(f"r{n}") for n in range(95)))) as living:
        sums = AuditLog(tmp_path, pytest.fail).sums(ALL, ("model",))
        first = next(sums)
        living.commit([ended("new")])
        with closing(sqlite3.connect(living.path)) as connection:
            [(is_busy, _, _)] = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rest = [one.requests for one in sums]

    assert (is_busy, first.requests, rest) == (0, 10, [10] * 8 + [6])


def test_every_column_but_a_count_is_a_dimension() -> None:
    """A new column of a record can be grouped by, or is summed."""
    assert {*FACTS} - {*SUMMED} == DIMENSIONS - {"day"}
