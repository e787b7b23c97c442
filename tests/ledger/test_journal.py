"""The journal on real files: commits, killed and recovered requests, trimming, and failures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from ollama_gateway.ledger.journal import Journal, JournalError
from ollama_gateway.ledger.ownership import has_intents, own_journal, recover
from tests.ledger.records import BEGAN, KEY, final, ids, intent, journal, stored
from tests.support.spoilt import GARBAGE, a_directory, a_pipe, executed, garbage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a journal."""
    return tmp_path / "data" / "journal-0.db"


def test_an_admitted_request_becomes_one_row(path: Path) -> None:
    """Its finished record replaces its intent."""
    with closing(journal(path)) as opened:
        opened.commit([intent("a"), intent("b")])
        assert (ids(path), has_intents(path)) == ([], True)
        opened.commit([final("b"), final("a")])

    assert (ids(path), has_intents(path)) == (["b", "a"], False)
    assert json.loads(stored(path)[0].document)["outcome"] == "completed"


def test_what_is_written_twice_is_there_once(path: Path) -> None:
    """A commit whose outcome was in doubt may be repeated, in the same batch or later."""
    with closing(journal(path)) as opened:
        opened.commit([final("a"), final("a"), intent("a")])
        opened.commit([intent("a"), final("a"), final("b")])

    assert (ids(path), has_intents(path)) == (["a", "b"], False)


def test_the_first_end_of_a_request_stands(path: Path) -> None:
    """Finished rows are never changed."""
    with closing(journal(path)) as opened:
        opened.commit([final("a")])
        opened.commit([final("a", minutes=9)])

    assert json.loads(stored(path)[0].document)["started_at"] == BEGAN.isoformat(
        timespec="microseconds"
    )


def test_what_a_killed_process_left_open_was_killed(path: Path) -> None:
    """The next owner ends the request, and the chain goes on."""
    with closing(journal(path)) as opened:
        opened.commit([final("a"), intent("b")])
    with closing(journal(path)) as opened:
        opened.commit([final("c")])

    assert ids(path) == ["a", "b", "c"]
    document = json.loads(stored(path)[1].document)
    assert (document["outcome"], document["reason"]) == ("killed", "killed")


def test_many_that_were_left_open_are_ended_by_turns(path: Path) -> None:
    """Each transaction ends a thousand; all end before anything else."""
    with closing(journal(path)) as opened:
        opened.commit([intent(f"r{number}") for number in range(2500)])
    with closing(journal(path)) as opened:
        assert opened.head.seq == 2500
        opened.commit([final("new")])

    assert len(ids(path)) == 2501
    assert not has_intents(path)


def test_a_thread_that_hangs_in_a_journal_keeps_others_out(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next thread gets an error instead of hanging; later everything works."""
    monkeypatch.setattr("ollama_gateway.storage.sqlite.HANGING_SECONDS", 0.01)
    with closing(journal(path)) as opened:
        opened._file.in_use.acquire()
        with pytest.raises(JournalError, match="the file system does not answer"):
            opened.commit([final("a")])
        with pytest.raises(JournalError, match="the file system does not answer"):
            opened.trim(BEGAN.timestamp())
        opened._file.in_use.release()
        opened.commit([final("a")])

    assert ids(path) == ["a"]


def test_each_process_has_a_journal_of_its_own(tmp_path: Path) -> None:
    """A process takes the lowest unowned number, also one that was given up."""
    with own_journal(tmp_path, is_strict=True, key=KEY) as first:
        with own_journal(tmp_path, is_strict=True, key=KEY) as second:
            assert (first.path.name, second.path.name) == ("journal-0.db", "journal-1.db")
        with own_journal(tmp_path, is_strict=True, key=KEY) as third:
            assert third.path.name == "journal-1.db"


def test_unowned_journals_are_recovered(tmp_path: Path) -> None:
    """Open requests in them are ended; journals of living processes stay untouched."""
    with own_journal(tmp_path, is_strict=False, key=KEY) as living:
        living.commit([intent("lives")])
        with own_journal(tmp_path, is_strict=False, key=KEY) as dying:
            dying.commit([final("a"), intent("dies")])

        assert recover(tmp_path, key=KEY) == []

        assert has_intents(living.path)
        assert ids(dying.path) == ["a", "dies"]


def test_a_broken_journal_does_not_keep_others_from_being_recovered(tmp_path: Path) -> None:
    """The broken one is named, and the next one is recovered."""
    (tmp_path / "journal-0.db").write_bytes(GARBAGE)
    with closing(journal(tmp_path / "journal-1.db")) as dying:
        dying.commit([intent("dies")])

    [fault] = recover(tmp_path, key=KEY)

    assert "journal-0.db: file is not a database" in fault
    assert ids(tmp_path / "journal-1.db") == ["dies"]


def test_old_rows_are_trimmed_and_the_chain_holds(path: Path) -> None:
    """The oldest records are dropped; the last of them becomes the checkpoint."""
    with closing(journal(path)) as opened:
        opened.commit([final(f"r{minute}", minutes=minute) for minute in range(10)])

        assert opened.trim(BEGAN.timestamp() + 4 * 60) == 4
        assert ids(path) == [f"r{minute}" for minute in range(4, 10)]
        assert opened.trim(BEGAN.timestamp() + 4 * 60) == 0
        assert opened.trim(BEGAN.timestamp() + 99 * 60) == 6
        opened.commit([final("new")])

    assert ids(path) == ["new"]
    assert stored(path)[0].seq == 11


def test_records_past_their_time_go_from_unowned_journals(tmp_path: Path) -> None:
    """Records past their time are dropped from journals of ended processes; younger ones stay."""
    path = tmp_path / "journal-0.db"
    with closing(journal(path)) as ended:
        ended.commit([final(f"r{minute}", minutes=minute) for minute in range(4)])

    assert recover(tmp_path, BEGAN.timestamp() + 2 * 60, key=KEY) == []

    assert ids(path) == ["r2", "r3"]


def fill(opened: Journal) -> None:
    """Write records for ever."""
    for number in itertools.count():
        opened.commit([final(f"r{number}")])


def test_a_full_disk_loses_nothing(path: Path) -> None:
    """A transaction that does not fit leaves nothing; once there is room it is repeated."""
    with closing(journal(path, max_bytes=100_000)) as opened:
        with pytest.raises(JournalError, match="full"):
            fill(opened)
        count = opened.head.seq
        assert count == len(ids(path)) > 10
        opened.trim(BEGAN.timestamp() + 60)

        opened.commit([final(f"r{count}")])

    assert ids(path) == [f"r{count}"]
    assert stored(path)[0].seq == count + 1


def odd_intent(path: Path) -> None:
    """An intent that is no record."""
    journal(path).close()
    executed("INSERT INTO intents VALUES ('a', '[1')")(path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (a_directory, "not a file"),
        (a_pipe, "not a file"),
        (garbage, "file is not a database"),
        (executed("PRAGMA user_version = 99"), "schema 99, this one knows 3"),
        (odd_intent, "a row is not as this program writes it"),
    ],
)
def test_what_is_no_journal_is_a_clear_error(
    path: Path, spoil: Callable[[Path], None], said: str
) -> None:
    """One line that names the file, at the start."""
    path.parent.mkdir()
    spoil(path)

    with pytest.raises(JournalError, match=said) as error:
        journal(path)

    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_checkpoint_never_goes_back(path: Path) -> None:
    """Two gateways may move the same records; the slower one changes nothing."""
    with closing(journal(path)) as opened:
        opened.commit([final("a"), final("b")])
        first, second = stored(path)
        assert (opened.drop(second), opened.drop(first), opened.checkpoint.seq) == (2, 0, 2)
    with closing(journal(path)) as opened:
        opened.commit([final("c")])
        assert [record.seq for record in stored(path)] == [3]


def test_a_journal_that_is_replaced_in_use_takes_nothing_more(path: Path) -> None:
    """SQLite would keep writing to a file without a name."""
    with closing(journal(path)) as opened:
        opened.commit([final("a")])
        path.rename(path.with_suffix(".old"))
        with pytest.raises(JournalError, match="is gone"):
            opened.commit([final("b")])
        path.touch()
        with pytest.raises(JournalError, match="was replaced"):
            opened.commit([final("b")])


def test_a_journal_is_for_its_owner_alone(path: Path) -> None:
    """Other users of the machine cannot read it."""
    journal(path).close()

    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
