"""Usage files that another program wrote: one line each, and none is trusted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
import structlog.testing

from ollama_gateway.limits.charges import OpenRequest
from ollama_gateway.limits.contributions import read_contributions
from ollama_gateway.limits.usage_file import SpendingError, UsageFile
from ollama_gateway.limits.usage_journal import open_usage_journal
from tests.limits.spent import MONTH, TODAY, now
from tests.support.spoilt import a_directory, a_pipe, executed, garbage

SECRET = "k-not-to-be-shown"


def cut_off(path: Path) -> None:
    """Leave half of a file."""
    with closing(UsageFile(path.parent, MONTH)) as file:
        file.write({(f"{SECRET}{n}", TODAY): n for n in range(1000)}, {})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def changed(*statements: str) -> Callable[[Path], None]:
    """Put a good file with an open request there, and change it."""

    def change(path: Path) -> None:
        with closing(UsageFile(path.parent, MONTH)) as file:
            file.write({(SECRET, TODAY): 7}, {"r": OpenRequest(SECRET, TODAY, 300)})
        executed(*statements)(path)

    return change


BAD_ROW = "a row is not as this program writes it"
SPOILT: dict[str, tuple[Callable[[Path], None], str]] = {
    "a directory": (a_directory, "not a file"),
    "a pipe": (a_pipe, "not a file"),
    "garbage": (garbage, "file is not a database"),
    "cut off": (cut_off, "malformed"),
    "a newer version": (
        changed("PRAGMA user_version = 3"),
        r"newer version \(schema 3, this one knows 2\): upgrade",
    ),
    "other tables": (changed("DROP TABLE spent", "CREATE TABLE spent (x)"), "no such column"),
    "no table": (changed("DROP TABLE open"), "no such table: open"),
    "a broken schema": (
        changed(
            "PRAGMA writable_schema = ON",
            "UPDATE sqlite_schema SET name = 'k-not-to-be-shown' || char(10), sql = 'CREATE'",
        ),
        "cannot be read",
    ),
    "tokens in words": (changed("UPDATE spent SET tokens = 'many'"), BAD_ROW),
    "tokens below 0": (changed("UPDATE spent SET tokens = -1"), BAD_ROW),
    "tokens beyond all bounds": (changed("UPDATE spent SET tokens = 1 << 53"), BAD_ROW),
    "half a token": (changed("UPDATE spent SET tokens = 0.5"), BAD_ROW),
    "no tokens": (changed("UPDATE spent SET tokens = NULL"), BAD_ROW),
    "a day in words": (changed("UPDATE spent SET day = 'today'"), BAD_ROW),
    "a day after all": (changed("UPDATE spent SET day = 2932897"), BAD_ROW),
    "an open day after all": (changed("UPDATE open SET day = 1 << 62"), BAD_ROW),
    "a prompt in words": (changed("UPDATE open SET prompt = 'long'"), BAD_ROW),
    "a key of bytes": (changed("UPDATE spent SET key_id = x'ff'"), BAD_ROW),
    "a key that is no UTF-8": (
        changed("UPDATE spent SET key_id = key_id || cast(x'ff' AS TEXT)"),
        BAD_ROW,
    ),
    "a request without an id": (changed("UPDATE open SET request_id = NULL"), BAD_ROW),
    "an identity that is none": (changed("UPDATE identity SET id = 'k-not-to-be-shown'"), BAD_ROW),
    "no identity": (changed("DELETE FROM identity"), BAD_ROW),
    "two identities": (changed("INSERT INTO identity SELECT id FROM identity"), BAD_ROW),
}
each_spoilt = pytest.mark.parametrize(("spoil", "message"), SPOILT.values(), ids=SPOILT)


def bytes_of(path: Path) -> bytes | None:
    """Return a file's bytes, if it is a file."""
    return path.read_bytes() if path.is_file() else None


@each_spoilt
async def test_what_cannot_be_read_is_one_line_and_stays_as_it_is(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """The line names the file and its fault; nothing changes; the number stays free."""
    path = tmp_path / "budgets-0.db"
    spoil(path)
    before = bytes_of(path)
    with pytest.raises(SpendingError, match=message) as caught:
        async with open_usage_journal(tmp_path, now=now):
            raise AssertionError("opened")
    assert str(caught.value).startswith(str(path))
    assert str(caught.value).isprintable()
    assert SECRET not in str(caught.value)
    assert bytes_of(path) == before
    path.rename(tmp_path / "aside")
    async with open_usage_journal(tmp_path, now=now):
        assert path.is_file()


@each_spoilt
def test_what_cannot_be_read_is_left_out_of_the_others(
    tmp_path: Path, spoil: Callable[[Path], None], message: str
) -> None:
    """A broken file gets one line, and the figures of the one beside it count."""
    spoil(tmp_path / "budgets-0.db")
    with closing(UsageFile(tmp_path / "aside", MONTH)) as file:
        file.write({("k", TODAY): 7}, {})
    file.path.rename(tmp_path / "budgets-1.db")
    with structlog.testing.capture_logs() as lines:
        assert [one.totals for one in read_contributions(tmp_path, "")] == [{"k": {TODAY: 7}}]
    assert [line["event"] for line in lines] == ["spending file left out"]
    assert str(tmp_path / "budgets-0.db") in lines[0]["cause"]
    assert SECRET not in lines[0]["cause"]


@pytest.mark.parametrize("suffix", ["lock", "alive"])
def test_a_lock_that_is_none_is_one_clear_line(tmp_path: Path, suffix: str) -> None:
    """A directory in the place of a lock file is named, and its usage file is left out."""
    (tmp_path / f"budgets-0.{suffix}").mkdir()
    (tmp_path / "budgets-0.db").touch()
    with pytest.raises(SpendingError, match=rf"budgets-0\.{suffix}: Is a directory$"):
        UsageFile(tmp_path, MONTH)
    with structlog.testing.capture_logs() as lines:
        assert read_contributions(tmp_path, "") == []
    assert len(lines) == (suffix == "alive")  # a reader needs no other


def test_a_directory_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    """A file in the way of the directory is named as the reason."""
    (tmp_path / "data").write_text("in the way")
    for directory in (tmp_path / "data", tmp_path / "data" / "deeper"):
        with pytest.raises(SpendingError, match=r"/data.*: (File exists|Not a directory)$"):
            UsageFile(directory, MONTH)


def test_a_directory_that_cannot_be_written_is_one_clear_line() -> None:
    """Not even root makes files in /sys."""
    with pytest.raises(SpendingError, match=r"^/sys.*: (Permission denied|Read-only file system)$"):
        UsageFile(Path("/sys"), MONTH)
