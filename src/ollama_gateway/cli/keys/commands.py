"""`gatewayctl keys`: create, show, change, revoke and delete API keys.

On this machine that is done directly in the store. Running gateways read the store again within a
second, so no command informs them; only `show` asks one, for the usage of a key's limits. Every
command prints on stderr which store it uses. Only `create` and `rotate` print a key's text, once,
on stdout. Each change is in the audit log before it is made, or it is not made.

Exit codes: 1 if the store refuses (no such key, name in use) or cannot be used, 2 for errors on
the command line or in the settings.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import attrs
import typer

from ollama_gateway.cli.admin import NoAnswer, unanswered
from ollama_gateway.cli.keys.limits import LimitUsage, ask_usage, usage_lines
from ollama_gateway.cli.keys.options import (
    AliasOption,
    ConcurrentOption,
    EndpointsOption,
    ExpiresOption,
    GraceOption,
    KeyArgument,
    MatchOption,
    ModelsOption,
    OneKeyArgument,
    PerDayOption,
    PerMinuteOption,
    PerMonthOption,
    UserHeaderOption,
    YesOption,
    read_given,
    read_grace,
)
from ollama_gateway.cli.keys.port import Given, KeyPort, open_keys
from ollama_gateway.cli.keys.printing import (
    COLUMNS,
    print_changes,
    print_key,
    print_secret,
    row_of,
)
from ollama_gateway.cli.options import JsonOption, WideOption
from ollama_gateway.cli.output import confirm, count_of, is_terminal, print_json, print_table, say
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.cli.remote.anywhere import anywhere
from ollama_gateway.cli.remote.choice import HERE, GatewayChoice
from ollama_gateway.keys.key import KeyRefused
from ollama_gateway.printable import printable

app = typer.Typer(no_args_is_help=True, help="Create, list, change and revoke API keys.")

MAX_IMPORT_BYTES: Final = 16 * 2**20
"""The largest file to import."""


@app.command()
@anywhere
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
    gateway: GatewayChoice = HERE,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Create a key and print its text, which is not shown again.

    By default it may use all models and all endpoints but `manage`.
    """
    given = read_given(
        models=models,
        endpoints=endpoints,
        expires=expires,
        limits=(requests_per_minute, concurrent, tokens_per_day, tokens_per_month),
        user_header=user_header,
        aliases=alias,
    )
    with open_keys(gateway) as keys:
        made = keys.create({"name": name, **given})
        print_secret(made, as_json=as_json)
        if is_terminal() and not as_json:
            for step in keys.next_steps(made["key"]):
                say(f"next: {step}", err=True)


@app.command("list")
@anywhere
def list_keys(
    gateway: GatewayChoice = HERE,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List all keys, including revoked ones."""
    with open_keys(gateway) as keys:
        found = keys.list()
    if as_json:
        print_json(found)
    else:
        print_table(COLUMNS, [row_of(key) for key in found], wide=wide)


@app.command()
@anywhere
def show(
    key: KeyArgument,
    gateway: GatewayChoice = HERE,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Show a key, and the usage of its limits. The key's text cannot be shown again."""
    with open_keys(gateway) as keys:
        found = keys.get(key)
        used = _used(keys.address, found["id"])
    if as_json:
        usage = None if used is None else {n: attrs.asdict(one) for n, one in used.items()}
        print_json({**found, "usage": usage})
        return
    print_key(found, as_json=False)
    for line in usage_lines(used) if used is not None else ():
        say(line)


@app.command()
@anywhere
def update(  # noqa: PLR0913, PLR0917 - one for each option
    key: OneKeyArgument = None,
    match: MatchOption = None,
    yes: YesOption = False,  # noqa: FBT002 - a flag
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
    gateway: GatewayChoice = HERE,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Change a key's name, permissions, aliases, limits or expiry; all else stays as it is.

    With --match all keys of such names are changed, or none; first it shows what will change.
    """
    given = read_given(
        name=name,
        models=models,
        endpoints=endpoints,
        expires=expires,
        limits=(requests_per_minute, concurrent, tokens_per_day, tokens_per_month),
        user_header=user_header,
        aliases=alias,
    )
    if not given:
        raise typer.BadParameter("nothing to change: see `gatewayctl keys update --help`")
    if (key is None) == (match is None):
        raise typer.BadParameter("name one KEY, or give --match")
    if match is not None and name is not None:
        raise typer.BadParameter("names are unique: it does not go with --match", param_hint="name")
    with open_keys(gateway) as keys:
        if key is not None:
            print_key(keys.update(key, given), as_json=as_json)
        elif match is not None:
            _update_matching(keys, match, given, yes=yes, wide=wide, as_json=as_json)


def _update_matching(
    keys: KeyPort, match: str, given: Given, *, yes: bool, wide: bool, as_json: bool
) -> None:
    if not yes:
        pairs = keys.update_matching(match, given, dry_run=True)
        if not as_json:
            print_changes(pairs, wide=wide)
        if pairs:
            confirm(f"Change {count_of(len(pairs), 'key')}?")
    changed = keys.update_matching(match, given, dry_run=False)
    if as_json:
        print_json([pair["after"] for pair in changed])
    else:
        say(f"changed {count_of(len(changed), 'key')}")


@app.command()
@anywhere
def rotate(
    key: KeyArgument,
    grace: GraceOption = "0s",
    gateway: GatewayChoice = HERE,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Give a key a new text and print it once; the old text ends now, or after --grace."""
    left = read_grace(grace)
    with open_keys(gateway) as keys:
        print_secret(keys.rotate(key, left.total_seconds()), as_json=as_json)


@app.command()
@anywhere
def revoke(
    key: KeyArgument,
    gateway: GatewayChoice = HERE,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Revoke a key for good, in every running gateway within a second."""
    with open_keys(gateway) as keys:
        print_key(keys.revoke(key), as_json=as_json)


@app.command()
@anywhere
def delete(
    key: KeyArgument,
    yes: YesOption = False,  # noqa: FBT002 - a flag
    gateway: GatewayChoice = HERE,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Delete a revoked or expired key, which cannot be undone; its audit records stay."""
    with open_keys(gateway) as keys:
        found = keys.get(key)
        if found["status"] != "active" and not yes:
            confirm(f"Delete key {found['id']} ({found['name']})?")
        print_key(keys.delete(found["id"]), as_json=as_json)


@app.command("import")
@anywhere
def import_keys(
    file: Annotated[
        Path,
        typer.Argument(
            help="CSV with a header, JSON lines, or lines `name,key`; - is stdin.", allow_dash=True
        ),
    ],
    gateway: GatewayChoice = HERE,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Import existing keys, all of a file or none; only their hashes are stored."""
    from ollama_gateway.control.key_files import keys_in  # noqa: PLC0415 - few need CSV

    with open_keys(gateway) as keys:
        imported = keys.add(keys_in(_read(file)))
    if as_json:
        print_json(imported)
    else:
        say(f"imported {count_of(len(imported), 'key')}")


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


def _used(address: AdminAddress, key_id: str) -> dict[str, LimitUsage] | None:
    try:
        return ask_usage(address, key_id)
    except NoAnswer as error:
        say(f"usage is unknown: {unanswered(address, error)}", err=True)
        return None
