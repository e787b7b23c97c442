"""`gatewayctl db`: prepare the PostgreSQL of `storage.database_url`, and import into it.

A role that may create tables runs `migrate` before `serve` of a new version. Gateways of the older
version may run meanwhile, and wait for none of it longer than a moment. Exit codes: 1 if the
database refuses or cannot be used, 2 for errors on the command line or in the settings.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

import typer

from ollama_gateway.cli.import_records import journals_in, move_records, print_moved
from ollama_gateway.cli.keys.store import exit_on_refusal, location_in, open_key_store
from ollama_gateway.cli.load_settings import EXIT_SETTINGS, load_for_stores
from ollama_gateway.cli.options import ConfigOption, JsonOption
from ollama_gateway.cli.output import count_of, exit_with, print_json, say, say_over
from ollama_gateway.cli.remote.here_only import here_only
from ollama_gateway.keys.key import APIKey, StoreError
from ollama_gateway.keys.location import KEYS_FILE, SQLiteLocation
from ollama_gateway.keys.store import MergedKeys, StoredKey
from ollama_gateway.ledger.daily_sums import count_batch, empty
from ollama_gateway.ledger.postgres import UPKEEP, AuditTable
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.storage.database import DatabaseError
from ollama_gateway.storage.migrations import MIGRATION_TIMEOUTS, alone, migrations, patiently
from ollama_gateway.storage.migrations import migrate as take_steps
from ollama_gateway.storage.migrations.indexes import build_indexes

if TYPE_CHECKING:
    from ollama_gateway.storage.postgres import Database

app = typer.Typer(no_args_is_help=True, help="Prepare the PostgreSQL database and import into it.")


@app.command()
@here_only("needs the database itself")
def migrate(config: ConfigOption = None, as_json: JsonOption = False) -> None:  # noqa: FBT002 - a flag
    """Create or update the tables of the database, also those of the audit log's next months."""
    settings = _settings(config)
    url = settings.storage.database_url
    assert url is not None  # noqa: S101 - `_settings` checked it
    say(f"database: {printable(str(location_in(settings)))}", err=True)
    try:
        from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

        with closing(Database(url.reveal(), MIGRATION_TIMEOUTS)) as database:
            taken = take_steps(database)
            with closing(AuditTable(url.reveal(), UPKEEP)) as table:
                made = _months_ahead(table)
            with alone(url.reveal()):
                built = build_indexes(database, say_over)
                counted = _count(database)
    except DatabaseError as error:
        say_over("")
        exit_with(1, f"gatewayctl db: {error}")
    version = migrations()[-1].version
    if as_json:
        steps = [{"version": step.version, "name": step.name} for step in taken]
        done = {"partitions": made, "indexes": built, "rows_counted": counted}
        print_json({"version": version, "applied": steps, **done})
        return
    for step in taken:
        say(f"applied {step.version:04}_{step.name}")
    for name in (*made, *built):
        say(f"made {name}")
    if counted:
        say(f"summed up {count_of(counted, 'audit record')}")
    say(f"the schema is version {version}" + ("" if taken else " already"))


@app.command("rebuild-usage")
@here_only("needs the database itself")
def rebuild_usage(config: ConfigOption = None, as_json: JsonOption = False) -> None:  # noqa: FBT002 - a flag
    """Rebuild the daily sums of `usage` from the audit records, while gateways run.

    The sums of months whose records were dropped for their age stay as they are. If the command is
    interrupted, `usage` stays right, and `gatewayctl db migrate` sums up the rest.
    """
    settings = _settings(config)
    url = settings.storage.database_url
    assert url is not None  # noqa: S101 - `_settings` checked it
    say(f"database: {printable(str(location_in(settings)))}", err=True)
    try:
        from ollama_gateway.storage.postgres import Database  # noqa: PLC0415

        with closing(Database(url.reveal(), MIGRATION_TIMEOUTS)) as database, alone(url.reveal()):
            patiently(partial(empty, database))
            counted = _count(database)
    except DatabaseError as error:
        say_over("")
        exit_with(1, f"gatewayctl db: {error}")
    if as_json:
        print_json({"rows_counted": counted})
    else:
        say(f"summed up {count_of(counted, 'audit record')}")


def _count(database: Database) -> int:
    """Count the records that the daily sums lack; return how many."""
    total = 0
    while (records := patiently(partial(count_batch, database))) is not None:
        total += records
        say_over(f"daily sums: {count_of(total, 'audit record')} summed up")
    say_over("")
    return total


def _months_ahead(table: AuditTable) -> list[str]:
    """Make the partitions of the next months and return their names.

    If another session keeps the table locked, none are made: the gateways make them later.
    """
    try:
        return patiently(lambda: table.make_partitions(table.now()))
    except DatabaseError as error:
        if not error.is_lock_conflict:
            raise
        say(f"gatewayctl db: {error}: the owner's gateways make the partitions later", err=True)
        return []


@app.command("import-local")
@here_only("reads the files of this machine")
def import_local(config: ConfigOption = None, as_json: JsonOption = False) -> None:  # noqa: FBT002 - a flag
    """Import the keys and the audit records of this machine's `storage.data_dir` into the database.

    Keys are copied, all or none. A key that the database already has does not change, except that
    one revoked here is revoked there too. The key file on this machine does not change.

    Audit records are moved out of journals that no running gateway owns. Run this command as the
    gateway's user, with the gateway's audit.chain_key.
    """
    settings = _settings(config)
    paths = journals_in(settings)
    with exit_on_refusal("gatewayctl db"):
        local = _local_keys(settings, is_needed=not paths)
    with open_key_store(settings, "gatewayctl db") as store:
        adopted = store.merge(local)
    moved = move_records(settings, paths)
    if as_json:
        print_json({**_as_json(adopted), **moved.as_json()})
    else:
        _print(adopted)
        if paths:
            print_moved(moved)
    for fault in moved.faults:
        say(f"gatewayctl db: {printable(fault)}", err=True)
    raise typer.Exit(1 if moved.faults else 0)


def _settings(config: Any) -> Settings:
    settings = load_for_stores(config)
    if settings.storage.database_url is None:
        line = "storage.database_url: is not set: set it to the URL of the database"
        exit_with(EXIT_SETTINGS, line)
    return settings


def _local_keys(settings: Settings, *, is_needed: bool) -> tuple[StoredKey, ...]:
    path = settings.storage.data_dir / KEYS_FILE
    if not path.exists() and not is_needed:
        return ()
    if not path.exists():
        raise StoreError(f"{printable(str(path))}: no such file, so there are no keys to import")
    say(f"from: {printable(str(SQLiteLocation(path)))}", err=True)
    with closing(SQLiteLocation(path).open()) as store:
        return store.stored()


def _as_json(adopted: MergedKeys) -> dict[str, list[str]]:
    return {
        "added": _ids(adopted.added),
        "revoked": _ids(adopted.revoked),
        "same": _ids(adopted.same),
        "different": _ids(adopted.different),
    }


def _print(adopted: MergedKeys) -> None:
    same = len(adopted.same)
    were = "was" if same == 1 else "were"
    say(f"added {count_of(len(adopted.added), 'key')}, {same} {were} already there")
    for key in adopted.revoked:
        say(f"revoked key {key.id} ({key.name}), as it is revoked here")
    for key in adopted.different:
        say(f"key {key.id} ({key.name}) differs from the one here: the database keeps its own")


def _ids(keys: tuple[APIKey, ...]) -> list[str]:
    return [key.id for key in keys]
