"""What a restore would bring back and what it would lose, by the files that are there now.

Nothing is changed: keys are read from copies, as reading a key store of an older version brings it
forward. A present file that cannot be read, which may be why there is a restore, is reported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import attrs

from ollama_gateway.backends.pausing import PausesBroken
from ollama_gateway.backup.kinds import JOURNALS, KEYS, USAGE, BackupError, Kind
from ollama_gateway.keys.key import APIKey, StoreError
from ollama_gateway.keys.sqlite import KEYS_FORMAT, SQLiteKeys
from ollama_gateway.keys.store import StoredKey
from ollama_gateway.ledger.journal import JournalError, JournalHead, count_after, head_of
from ollama_gateway.ledger.read.stored import AuditTableReader
from ollama_gateway.limits.calendar import Moment, month_of
from ollama_gateway.limits.usage_file import KeyDay, SpendingError, read_file

STORE_ERRORS = (BackupError, JournalError, PausesBroken, SpendingError, StoreError)
"""Errors of the files in a data directory; each message is one line for the operator."""


@attrs.frozen
class LostUsage:
    """The tokens by which a key's budgets would be less spent than they are."""

    key_id: str
    name: str | None
    """None if no key of this id is known."""
    day: int
    """Tokens of today."""
    month: int
    """Tokens of this month."""


@attrs.define
class Consequences:
    """What a restore would do beyond what the operator wants."""

    revived: list[APIKey] = attrs.field(factory=list)
    """Keys revoked since, as they are now; they would be valid again."""
    rotated: list[APIKey] = attrs.field(factory=list)
    """Keys whose old texts would be valid again, or whose new ones would not."""
    changed: list[APIKey] = attrs.field(factory=list)
    """Keys whose rights, limits or names would be as before."""
    lost: list[APIKey] = attrs.field(factory=list)
    """Keys made since, which would be gone."""
    usage: list[LostUsage] = attrs.field(factory=list)
    records: int = 0
    """Audit records that would be gone."""
    unknown: list[str] = attrs.field(factory=list)
    """Present files that cannot be read, a line for each."""

    def as_json(self) -> dict[str, Any]:
        """Return them for programs."""
        return {
            "revives": {"keys": _named(self.revived), "texts": _named(self.rotated)},
            "undoes": {"keys": _named(self.changed)},
            "loses": {
                "keys": _named(self.lost),
                "budgets": [attrs.asdict(lost) for lost in self.usage],
                "rows": self.records,
            },
            "unknown": self.unknown,
        }


def compare(new: Path, present: Path, scratch: Path, now: Moment) -> Consequences:
    """Compare the files of a backup in `new` with the present ones.

    Args:
        new: the directory of the extracted backup.
        present: the data directory.
        scratch: an empty directory for copies.
        now: the moment whose day and month count.

    Raises those of `STORE_ERRORS` that the backup's own files cause.

    """
    found = Consequences()
    keys_then, keys_now = _stored(new, scratch), {}
    with _reported(found):
        keys_now = _stored(present, scratch)
        _compare_keys(found, keys_then, keys_now)
    names = {id_: stored.key.name for id_, stored in (keys_then | keys_now).items()}
    spent_then = sum((_spent(path) for path in _files(USAGE, new)), Counter[KeyDay]())
    spent_now = Counter[KeyDay]()
    for path in _files(USAGE, present):
        with _reported(found):
            spent_now += _spent(path)
    found.usage = _lost_usage(spent_now - spent_then, names, now)
    heads_then = {head.identity: head for head in map(head_of, _files(JOURNALS, new))}
    for path in _files(JOURNALS, present):
        with _reported(found):
            then = heads_then.get(head_of(path).identity)
            found.records += count_after(path, then.seq if then else 0)
    return found


def moved_on(new: Path, table: AuditTableReader) -> list[str]:
    """Return the journals of a backup with all their records in PostgreSQL, and later ones too.

    Such a journal is not restored: its next records would get numbers that are taken. Raises
    DatabaseError, JournalError.
    """
    checkpoints = table.checkpoints()

    def is_behind(head: JournalHead) -> bool:
        dropped = checkpoints.get(head.identity)
        return max(table.last(head.identity), dropped.seq if dropped else 0) > head.seq

    return [path.name for path in _files(JOURNALS, new) if is_behind(head_of(path))]


def _compare_keys(
    found: Consequences, then: Mapping[str, StoredKey], now: Mapping[str, StoredKey]
) -> None:
    for id_, stored in now.items():
        key, old = stored.key, then.get(id_)
        if old is None:
            found.lost.append(key)
        elif key.revoked_at and not old.key.revoked_at:
            found.revived.append(key)
        elif not key.revoked_at and stored.secrets != old.secrets:
            found.rotated.append(key)
        elif key != old.key:
            found.changed.append(key)


def _stored(directory: Path, scratch: Path) -> dict[str, StoredKey]:
    """Return the keys of a directory, by their ids."""
    found: dict[str, StoredKey] = {}
    for path in _files(KEYS, directory):
        copy = scratch / path.name
        copy.unlink(missing_ok=True)
        KEYS_FORMAT.copy(path, copy)
        with closing(SQLiteKeys(copy)) as store:
            found |= {stored.key.id: stored for stored in store.stored()}
    return found


def _spent(path: Path) -> Counter[KeyDay]:
    """Return the tokens of a usage journal, as its next owner would count them."""
    content = read_file(path)
    return Counter(content.spent) if content else Counter()


def _lost_usage(
    lost: Mapping[KeyDay, int], names: Mapping[str, str], now: Moment
) -> list[LostUsage]:
    month, day = Counter[str](), Counter[str]()
    for (key_id, when), tokens in lost.items():
        month[key_id] += tokens if month_of(when) == now.month else 0
        day[key_id] += tokens if when == now.day else 0
    return [LostUsage(id_, names.get(id_), day[id_], month[id_]) for id_ in sorted(+month)]


@contextmanager
def _reported(found: Consequences) -> Iterator[None]:
    """Report a present file that cannot be read, and go on."""
    try:
        yield
    except STORE_ERRORS as error:
        found.unknown.append(str(error))


def _files(kind: Kind, directory: Path) -> list[Path]:
    return sorted(directory.glob(kind.pattern))


def _named(keys: Sequence[APIKey]) -> list[dict[str, str]]:
    return [{"id": key.id, "name": key.name} for key in keys]
