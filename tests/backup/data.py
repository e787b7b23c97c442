"""A data directory as gateways leave it, its backups, and what is in it after a restore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ollama_gateway.backends.pausing import PauseFile
from ollama_gateway.backup.archive import Manifest
from ollama_gateway.backup.making import back_up
from ollama_gateway.backup.restoring import Restore, open_restore
from ollama_gateway.keys.key import APIKey
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.limits.calendar import Moment, moment
from ollama_gateway.limits.charges import OpenRequest
from ollama_gateway.limits.usage_file import KeyDay, UsageFile, read_file
from ollama_gateway.storage.data_files import data_files
from tests.ledger.records import final, intent, journal
from tests.limits.spent import MONTH, TODAY, now

NOW: Moment = moment(0, now())


def nothing(*_: object) -> None:
    """Take progress, or a wait, and do nothing."""


def filled(directory: Path, *, spent: int = 100) -> tuple[APIKey, str]:
    """Fill a directory: a key with its text, three records, one open request, usage, a pause."""
    with closing(SQLiteKeys(directory / "keys.db")) as store:
        key, text = store.create("alice")
    with closing(journal(directory / "journal-0.db")) as opened:
        opened.commit([final("1"), final("2"), final("3"), intent("open")])
    spend(directory, {(key.id, TODAY): spent}, {"open": OpenRequest(key.id, TODAY, 7)})
    PauseFile(directory).add("gpu-1")
    return key, text


def spend(
    directory: Path, spent: dict[KeyDay, int], opened: dict[str, OpenRequest] | None = None
) -> None:
    """Write the usage of a gateway that has ended."""
    with closing(UsageFile(directory, MONTH)) as file:
        file.write(spent, opened or {})


def spent_in(directory: Path) -> dict[KeyDay, int]:
    """Return the usage, as the next gateway will count it."""
    content = read_file(directory / "budgets-0.db")
    assert content is not None
    return dict(content.spent)


def backed_up(
    directory: Path,
    target: Path,
    progress: Callable[[str, int, int], None] = nothing,
    settle: Callable[[], None] = nothing,
    *,
    is_forced: bool = False,
) -> Manifest:
    """Make a backup."""
    return back_up(
        directory,
        target,
        keys_in="sqlite",
        is_forced=is_forced,
        progress=progress,
        settle=settle,
    )


@contextmanager
def opened(archive: Path, directory: Path) -> Iterator[Restore]:
    """Open a restore."""
    with open_restore(archive, directory, nothing) as ready:
        yield ready


def restored(archive: Path, directory: Path) -> Path:
    """Restore a backup; return where the files from before are."""
    with opened(archive, directory) as ready:
        return ready.replace()


def contents(directory: Path) -> dict[str, bytes]:
    """Return the files of a data directory byte for byte, without locks and SQLite's own files."""
    found = [path for path in data_files(directory) if path.suffix in {".db", ".json"}]
    return {path.name: path.read_bytes() for path in found}


def names_in(directory: Path) -> list[str]:
    """Return the names in a directory."""
    return sorted(path.name for path in directory.iterdir())
