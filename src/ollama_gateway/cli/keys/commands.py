"""`gatewayctl keys`: create, show, change, revoke and delete API keys directly in the store.

Running gateways read the store again within a second, so no command informs them. Only `show` asks
one, for the usage of a key's limits. Every command prints on stderr which store it uses. Only
`create` and `rotate` print a key's text, once, on stdout. Each change is in the audit log before
it is made, or it is not made.

Exit codes: 1 if the store refuses (no such key, name in use) or cannot be used, 2 for errors on
the command line or in the settings.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import attrs
import typer

from ollama_gateway.cli.admin import NoAnswer
from ollama_gateway.cli.keys.limits import LimitUsage, ask_usage, usage_lines
from ollama_gateway.cli.keys.options import (
    AliasOption,
    ConcurrentOption,
    EndpointsOption,
    ExpiresOption,
    GraceOption,
    KeyArgument,
    ModelsOption,
    PerDayOption,
    PerMinuteOption,
    PerMonthOption,
    UserHeaderOption,
    YesOption,
    read_aliases,
    read_expiry,
    read_grace,
    read_header,
    read_limits,
    read_list,
)
from ollama_gateway.cli.keys.printing import COLUMNS, as_json_of, print_key, print_secret, row_of
from ollama_gateway.cli.keys.store import open_key_store
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.next_step import after_new_key
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.cli.output import confirm, count_of, is_terminal, print_json, print_table, say
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.keys.importing import read_keys
from ollama_gateway.keys.key import (
    DEFAULT_GROUPS,
    APIKey,
    KeyLimits,
    KeyRefused,
    utc_now,
)
from ollama_gateway.keys.store import Changes
from ollama_gateway.printable import printable
from ollama_gateway.settings import ServerSettings, Settings

if TYPE_CHECKING:
    from ollama_gateway.cli.keys.recorded import RecordedKeys

app = typer.Typer(no_args_is_help=True, help="Create, list, change and revoke API keys.")

MAX_IMPORT_BYTES: Final = 16 * 2**20
"""The largest file to import."""


@app.command()
def create(  # noqa: PLR0913, PLR0917 - one for each option
    name: Annotated[str, typer.Argument(help="The key's name in logs and listings.")],
    models: ModelsOption = None,
    endpoints: EndpointsOption = None,
    expires: ExpiresOption = None,
    requests_per_minute: PerMinuteOption = None,
    concurrent: ConcurrentOption = None,
    tokens_per_day: PerDayOption = None,
    tokens_per_month: PerMonthOption = None,
    user_header: UserHeaderOption = None,
    alias: AliasOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Create a key and print its text, which is not shown again.

    By default it may use all models and all endpoints but `manage`.
    """
    expires_at = read_expiry(expires) if expires is not None else None
    limits = read_limits(requests_per_minute, concurrent, tokens_per_day, tokens_per_month)
    aliases = read_aliases(alias or ())
    settings = load_for_stores(config)
    with _recorded(settings) as keys:
        key, text = keys.create(
            name,
            read_list(models) if models is not None else ("*",),
            frozenset(read_list(endpoints)) if endpoints is not None else DEFAULT_GROUPS,
            expires_at,
            KeyLimits(**limits),
            read_header(user_header) if user_header is not None else None,
            aliases,
        )
    print_secret(key, text, as_json=as_json)
    if is_terminal() and not as_json:
        for step in after_new_key(settings, text):
            say(f"next: {step}", err=True)


@app.command("list")
def list_keys(
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List all keys, including revoked ones."""
    with open_key_store(load_for_stores(config)) as store:
        keys = store.list()
    if as_json:
        print_json([as_json_of(key) for key in keys])
    else:
        print_table(COLUMNS, [row_of(key) for key in keys], wide=wide)


@app.command()
def show(
    key: KeyArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Show a key, and the usage of its limits. The key's text cannot be shown again."""
    settings = load_for_stores(config)
    with open_key_store(settings) as store:
        found = store.get(key)
    used = _used(settings.server, found)
    if as_json:
        usage = None if used is None else {n: attrs.asdict(one) for n, one in used.items()}
        print_json({**as_json_of(found), "usage": usage})
        return
    print_key(found, as_json=False)
    for line in usage_lines(used) if used is not None else ():
        say(line)


@app.command()
def update(  # noqa: PLR0913, PLR0917 - one for each option
    key: KeyArgument,
    name: Annotated[str | None, typer.Option("--name", help="A new name.")] = None,
    models: ModelsOption = None,
    endpoints: EndpointsOption = None,
    expires: ExpiresOption = None,
    requests_per_minute: PerMinuteOption = None,
    concurrent: ConcurrentOption = None,
    tokens_per_day: PerDayOption = None,
    tokens_per_month: PerMonthOption = None,
    user_header: UserHeaderOption = None,
    alias: AliasOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Change a key's name, permissions, aliases, limits or expiry; all else stays as it is."""
    changes: Changes = {}
    if name is not None:
        changes["name"] = name
    if models is not None:
        changes["models"] = read_list(models)
    if endpoints is not None:
        changes["endpoints"] = frozenset(read_list(endpoints))
    if expires is not None:
        changes["expires_at"] = read_expiry(expires)
    if user_header is not None:
        changes["user_header"] = read_header(user_header)
    if alias is not None:
        changes["aliases"] = read_aliases(alias)
    limits = read_limits(requests_per_minute, concurrent, tokens_per_day, tokens_per_month)
    if not changes and not limits:
        raise typer.BadParameter("nothing to change: see `gatewayctl keys update --help`")
    with _recorded(load_for_stores(config)) as keys:
        if limits:
            changes["limits"] = attrs.evolve(keys.store.get(key).limits, **limits)
        print_key(keys.update(key, **changes), as_json=as_json)


@app.command()
def rotate(
    key: KeyArgument,
    grace: GraceOption = "0s",
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Give a key a new text and print it once; the old text ends now, or after --grace."""
    left = read_grace(grace)
    with _recorded(load_for_stores(config)) as keys:
        found, text = keys.rotate(key, left)
    print_secret(found, text, as_json=as_json)


@app.command()
def revoke(
    key: KeyArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Revoke a key for good, in every running gateway within a second."""
    with _recorded(load_for_stores(config)) as keys:
        print_key(keys.revoke(key), as_json=as_json)


@app.command()
def delete(
    key: KeyArgument,
    yes: YesOption = False,  # noqa: FBT002 - a flag
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Delete a revoked or expired key, which cannot be undone; its audit records stay."""
    with _recorded(load_for_stores(config)) as keys:
        found = keys.store.get(key)
        if not found.is_active(utc_now()) and not yes:
            confirm(f"Delete key {found.id} ({found.name})?")
        print_key(keys.delete(found.id), as_json=as_json)


@app.command("import")
def import_keys(
    file: Annotated[
        Path, typer.Argument(help="File of lines `name,key`; - is stdin.", allow_dash=True)
    ],
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Import existing keys, all of a file or none; only their hashes are stored."""
    with _recorded(load_for_stores(config)) as keys:
        imported = keys.add_imported(read_keys(_read(file)))
    if as_json:
        print_json([as_json_of(key) for key in imported])
    else:
        say(f"imported {count_of(len(imported), 'key')}")


@contextmanager
def _recorded(settings: Settings) -> Iterator[RecordedKeys]:
    """Open the store of the settings; each change is recorded before it is made."""
    from ollama_gateway.cli.keys.recorded import RecordedKeys  # noqa: PLC0415 - see recording.py
    from ollama_gateway.cli.recording import local_changes  # noqa: PLC0415 - see there

    with (
        open_key_store(settings) as store,
        local_changes(settings, "gatewayctl keys") as recorder,
    ):
        yield RecordedKeys(store, recorder)


def _read(file: Path) -> str:
    try:
        if str(file) == "-":
            content = sys.stdin.buffer.read(MAX_IMPORT_BYTES + 1)
        else:
            with file.open("rb") as stream:
                content = stream.read(MAX_IMPORT_BYTES + 1)
    except OSError as error:
        raise KeyRefused(f"{printable(str(file))}: {error.strerror}") from None
    if len(content) > MAX_IMPORT_BYTES:
        raise KeyRefused(f"{printable(str(file))} is larger than {MAX_IMPORT_BYTES >> 20} MiB")
    try:
        return content.decode()
    except UnicodeDecodeError:
        raise KeyRefused(f"{printable(str(file))} is not UTF-8 text") from None


def _used(server: ServerSettings, key: APIKey) -> dict[str, LimitUsage] | None:
    try:
        return ask_usage(AdminAddress.of_settings(server), key.id)
    except NoAnswer:
        address = server.admin_bind
        say(f"usage is unknown: no gateway answers on {address}", err=True)
        return None
