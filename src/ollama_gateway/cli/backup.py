"""What `gatewayctl backup` and `gatewayctl restore` run: `storage.data_dir` as one archive.

Exit codes: 1 if the backup cannot be made or restored, or if the answer to the question was no; 2
for errors on the command line or in the settings, and if there is no terminal to ask on.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from ollama_gateway.backup.archive import Manifest
from ollama_gateway.backup.comparing import STORE_ERRORS, Consequences, compare, moved_on
from ollama_gateway.backup.kinds import JOURNALS, USAGE
from ollama_gateway.backup.making import back_up
from ollama_gateway.backup.restoring import Restore, open_restore
from ollama_gateway.cli import data_dir
from ollama_gateway.cli.audit.sources import place_of
from ollama_gateway.cli.keys.store import location_in
from ollama_gateway.cli.load_settings import exit_on_problems, load_for_stores, load_or_exit
from ollama_gateway.cli.output import confirm, exit_with, print_json, say, say_over
from ollama_gateway.keys.key import APIKey
from ollama_gateway.keys.location import KEYS_FILE
from ollama_gateway.limits.calendar import moment, utc_now
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.storage.database import DatabaseError

_SHOWN: Final = 20
"""Lines of one kind that are shown; `--json` has all."""


def backup(file: Path, config: Path | None, *, force: bool, as_json: bool) -> None:
    """Make the archive, and print what it holds."""
    settings = load_for_stores(config)
    keys_in = "postgresql" if settings.storage.database_url else "sqlite"
    if keys_in == "postgresql":
        say(
            f"keys and moved audit records are in {printable(str(location_in(settings)))}: back it"
            " up with its own tools; this backup holds what is only on this machine",
            err=True,
        )
    with _reporting("backup"):
        manifest = back_up(
            settings.storage.data_dir, file, keys_in=keys_in, is_forced=force, progress=_progress
        )
    say_over("")
    if as_json:
        print_json({"file": str(file), **manifest.as_json()})
    else:
        say(f"{printable(str(file))}: {_content_of(manifest)}")


def restore(file: Path, config: Path | None, *, yes: bool, as_json: bool) -> None:
    """Show what a restore would change, ask, and replace the files."""
    settings = load_or_exit(config).settings
    exit_on_problems(data_dir.writable_by_others(settings, data_dir.trusted_by_commands(settings)))
    directory, now = settings.storage.data_dir, moment(0, utc_now())
    with _reporting("restore"), open_restore(file, directory, _progress) as ready:
        say_over("")
        _leave_out_moved(settings, ready)
        found = compare(ready.new, directory, ready.scratch, now)
        if not as_json:
            say(f"{printable(str(file))}: {_content_of(ready.manifest)}")
            for line in _lines(found):
                say(line)
        shown = {"backup": ready.manifest.as_json(), **found.as_json()}
        if as_json and not yes:
            print_json({"restored": False, "kept_in": None, **shown})
            exit_with(2, "Restore? --json does not ask: add --yes")
        if not yes:
            confirm("Restore?")
        kept = ready.replace()
    if as_json:
        print_json({"restored": True, "kept_in": str(kept), **shown})
    else:
        say(f"restored; the files from before are in {printable(str(kept))}")


def _leave_out_moved(settings: Settings, ready: Restore) -> None:
    """Leave out journals whose records PostgreSQL has, if these settings name one."""
    if table := place_of(settings).table_reader():
        with closing(table):
            for name in moved_on(ready.new, table):
                ready.leave_out(name)
                say(f"{name}: not restored, as PostgreSQL has its records and later ones", err=True)


def _content_of(manifest: Manifest) -> str:
    """Return one line about a backup."""
    names = manifest.named()
    keys = "keys" if KEYS_FILE in names else f"no keys (they are in {manifest.keys_in})"
    journals = _counted(sum(map(JOURNALS.has, names)), "journal")
    usage = _counted(sum(map(USAGE.has, names)), "usage journal")
    size = sum(member.size for member in manifest.files) / 2**20
    return (
        f"as of {_shown(manifest.ended_at)}, by version {printable(manifest.version)}:"
        f" {printable(keys)}, {journals}, {usage}; {size:,.1f} MiB"
    )


def _lines(found: Consequences) -> Iterator[str]:
    """Yield what the operator should know before answering."""
    yield from _listed(
        found.revived,
        lambda key: f"revoked {_shown(key.revoked_at or key.created_at)}, would be valid again",
    )
    yield from _listed(found.rotated, lambda _: "has other texts now; those of then would be valid")
    yield from _listed(found.changed, lambda _: "has other rights, limits or another name now")
    yield from _listed(found.lost, lambda key: f"made {_shown(key.created_at)}, would be lost")
    for lost in found.usage[:_SHOWN]:
        yield (
            f"key {lost.key_id} ({printable(lost.name or 'unknown')}): its budgets would be less"
            f" spent by {lost.day:,} tokens of today, {lost.month:,} of this month"
        )
    if len(found.usage) > _SHOWN:
        yield f"... and {len(found.usage) - _SHOWN} more keys; --json has all"
    if found.records:
        yield f"{_counted(found.records, 'audit record')} would be lost"
    for fault in found.unknown:
        yield f"unknown what would change: {printable(fault)}"


def _listed(keys: Sequence[APIKey], say_what: Any) -> Iterator[str]:
    for key in keys[:_SHOWN]:
        yield f"key {key.id} ({printable(key.name)}): {say_what(key)}"
    if len(keys) > _SHOWN:
        yield f"... and {len(keys) - _SHOWN} more keys; --json has all"


def _progress(name: str, done: int, total: int) -> None:
    """Show progress in a line that the next one overwrites."""
    say_over(f"{name}: {100 * done // max(total, 1)} %")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'s' if count != 1 else ''}"


def _shown(when: datetime) -> str:
    return when.isoformat(timespec="seconds").replace("+00:00", "Z")


@contextmanager
def _reporting(command: str) -> Iterator[None]:
    """End the command with one line if it fails; SIGTERM undoes what it did, as Ctrl-C does."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except (*STORE_ERRORS, DatabaseError) as error:
        say_over("")
        exit_with(1, f"gatewayctl {command}: {printable(str(error))}")
    except OSError as error:
        say_over("")
        where = f"{error.filename}: " if error.filename else ""
        exit_with(1, f"gatewayctl {command}: {printable(f'{where}{error.strerror}')}")
    finally:
        signal.signal(signal.SIGTERM, before)
