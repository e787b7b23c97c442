"""`gatewayctl usage`, run in this process on real journals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.ledger.audit_logs import ESCAPE, changed, ended, ran, written
from tests.support.commands import run
from tests.support.spoilt import GARBAGE

DAY = 86_400


@pytest.fixture
def audit_log(data_dir: Path) -> Path:
    """Write the requests of two keys on two days."""
    alice: dict[str, Any] = {"key_id": "k1", "key_name": "alice", "tokens_source": "reported"}
    bob: dict[str, Any] = {"key_id": "k2", "key_name": "bob", "tokens_source": "counted"}
    written(
        data_dir,
        [
            ended("a", 0, prompt_tokens=900, cached_tokens=3, completion_tokens=100, **alice),
            ended("b", DAY, prompt_tokens=1000, completion_tokens=1000, **alice),
        ],
        [
            ended("c", 1, prompt_tokens=40, completion_tokens=10, **bob),
            ended("d", 2, outcome="refused", reason="rate", key_id="k2", key_name="bob"),
        ],
    )
    return data_dir


def test_a_table_with_bars(audit_log: Path) -> None:
    """The most tokens come first, numbers are aligned, the total stands at the end."""
    assert ran("usage") == (
        """key    requests  refused  failed  prompt  cached  completion  total  estimated
alice         2        0       0   1,900     <1%       1,100  3,000          -  ########################
bob           2        1       0      40       -          10     50       100%  #
total         4        1       0   1,940     <1%       1,110  3,050         2%
"""  # noqa: E501 - as it is printed
    )


def test_sums_as_json(audit_log: Path) -> None:
    """The output is a list of objects; a key has its id and its name."""
    assert json.loads(ran("usage", "--json")) == [
        {
            "key_id": "k1",
            "key_name": "alice",
            "requests": 2,
            "refused": 0,
            "failed": 0,
            "prompt_tokens": 1900,
            "completion_tokens": 1100,
            "counted_tokens": 0,
            "cached_tokens": 3,
            "cached_of_tokens": 900,
            "total_tokens": 3000,
        },
        {
            "key_id": "k2",
            "key_name": "bob",
            "requests": 2,
            "refused": 1,
            "failed": 0,
            "prompt_tokens": 40,
            "completion_tokens": 10,
            "counted_tokens": 50,
            "cached_tokens": None,
            "cached_of_tokens": 0,
            "total_tokens": 50,
        },
    ]


def test_days_stand_in_their_order(audit_log: Path) -> None:
    """Days are in UTC, and in order."""
    days = json.loads(ran("usage", "--by", "day", "--json"))

    assert [(one["day"], one["total_tokens"]) for one in days] == [
        ("2026-01-02", 1050),
        ("2026-01-03", 2000),
    ]


@pytest.mark.parametrize("by", ["key", "end-user", "model", "backend", "day", "outcome"])
def test_every_way_to_group(audit_log: Path, by: str) -> None:
    """Every grouping has the same total."""
    groups = json.loads(ran("usage", "--by", by, "--json"))

    assert sum(one["total_tokens"] for one in groups) == 3050


def test_what_is_summed_up_can_be_picked(audit_log: Path) -> None:
    """Records can be selected by time, key and model."""
    [one] = json.loads(ran("usage", "--key", "alice", "--since", "2026-01-03", "--json"))

    assert one["total_tokens"] == 2000
    assert json.loads(ran("usage", "--until", "2026-01-02", "--json")) == []


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--by", "colour"], "end-user"),
        (["--by", "key,day,model"], "takes 2 at most"),
        (["--by", "key,key"], "names one thing twice"),
        (["--by", "day", "--per", "day"], "names one thing twice"),
        (["--per", "year"], "not one of day, month"),
    ],
)
def test_an_unknown_way_is_exit_2(audit_log: Path, options: list[str], told: str) -> None:
    """The error names the valid ones."""
    result = run("usage", *options)

    assert result.exit_code == 2
    assert told in result.stderr


def test_two_ways_in_a_table(audit_log: Path) -> None:
    """Each has its column; a period may be given as one of the ways, or by itself."""
    shown = ran("usage", "--by", "key,day")

    assert [line.split()[:3] for line in shown.splitlines()] == [
        ["key", "day", "requests"],
        ["alice", "2026-01-02", "1"],
        ["alice", "2026-01-03", "1"],
        ["bob", "2026-01-02", "2"],
        ["total", "4", "1"],
    ]
    assert ran("usage", "--by", "key", "--per", "day") == shown
    [alice, bob] = json.loads(ran("usage", "--by", "key", "--per", "month", "--json"))
    assert (alice["key_name"], alice["month"], alice["total_tokens"]) == ("alice", "2026-01", 3000)
    assert (bob["key_name"], bob["month"], bob["total_tokens"]) == ("bob", "2026-01", 50)


def test_sums_as_csv(audit_log: Path) -> None:
    """Lines end as RFC 4180 has it, and the columns are the fields of the JSON."""
    [head, alice, bob, rest] = run("usage", "--csv").stdout_bytes.decode().split("\n")

    objects = json.loads(ran("usage", "--json"))
    assert head == ",".join(objects[0]) + "\r"
    for row, one in ((alice, objects[0]), (bob, objects[1])):
        assert row == ",".join("" if x is None else str(x) for x in one.values()) + "\r"
    assert rest == ""


@pytest.mark.parametrize(
    ("name", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("+1", "'+1"),
        ("-1", "'-1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ('a "b", c', '"a ""b"", c"'),
        ("=a,b", '"\'=a,b"'),
        ("a\r\nb", '"""a\\r\\nb"""'),
    ],
)
def test_names_are_no_formulas(data_dir: Path, name: str, cell: str) -> None:
    """A name that a client has chosen is a text to a spreadsheet, in one line."""
    written(data_dir, [ended("a", end_user=name)])

    [_, row] = ran("usage", "--by", "end-user", "--csv").splitlines()

    assert row.startswith(f"{cell},1,0,0,")


def test_edited_facts_that_cannot_be_summed(audit_log: Path) -> None:
    """One line names the journal, and the sums cover the others; exit 1."""
    changed(audit_log / "journal-0.db", "UPDATE facts SET prompt_tokens = ?", 2**63 - 1)

    result = run("usage", "--json")

    assert (result.exit_code, len(json.loads(result.stdout))) == (1, 1)
    assert result.stderr.startswith(f"gatewayctl usage: {audit_log}/journal-0.db: ")
    assert result.stderr.count("\n") == 1


def test_a_broken_journal_is_exit_1(audit_log: Path) -> None:
    """The sums cover the readable journals."""
    (audit_log / "journal-2.db").write_bytes(GARBAGE)

    result = run("usage", "--json")

    assert (result.exit_code, len(json.loads(result.stdout))) == (1, 2)
    assert "journal-2.db" in result.stderr


def test_hostile_names_do_not_reach_the_terminal(data_dir: Path) -> None:
    """Names are printed escaped."""
    written(data_dir, [ended("a", key_name=ESCAPE)])

    shown = ran("usage")

    assert all(line.isprintable() for line in shown.splitlines())
    assert "\\u001b[31mred" in shown
