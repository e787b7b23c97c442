"""`gatewayctl admin-tokens`: who may use the control surface of running gateways, and as what.

The tokens are in the store of the keys, which running gateways read again within a second. Only
`create` prints a token's text, once, on stdout.

Exit codes: 1 if the store refuses (no such token, name in use) or cannot be used, 2 for errors on
the command line or in the settings.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from ollama_gateway.cli.keys.options import ExpiresOption, read_expiry
from ollama_gateway.cli.keys.store import open_key_store
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.cli.output import print_json, print_table, say
from ollama_gateway.cli.table import Column
from ollama_gateway.control.actor import LOCAL, ROLES
from ollama_gateway.control.admin_tokens import (
    create_admin_token,
    list_admin_tokens,
    revoke_admin_token,
)
from ollama_gateway.printable import printable
from ollama_gateway.settings.units import shown

app = typer.Typer(
    no_args_is_help=True, help="Create, list and revoke the tokens of the admin listener."
)

COMMAND: Final = "gatewayctl admin-tokens"
COLUMNS: Final = (
    Column("name"),
    Column("role"),
    Column("status", 1),
    Column("created", 3),
    Column("expires", 2),
)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The token's name in audit records and listings.")
]
RoleOption = Annotated[
    str,
    typer.Option(
        "--role",
        metavar="ROLE",
        help="viewer: read; operator: also pause, cancel, reload and load; admin: all.",
    ),
]


@app.command()
def create(
    name: NameArgument,
    role: RoleOption,
    expires: ExpiresOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Create an admin token and print its text, which is not shown again."""
    if role not in ROLES:
        message = f"{shown(role)} is none of {', '.join(ROLES)}"
        raise typer.BadParameter(message, param_hint="--role")
    expires_at = read_expiry(expires) if expires is not None else None
    from ollama_gateway.cli.recording import local_changes  # noqa: PLC0415 - `list` needs none

    settings = load_for_stores(config)
    with open_key_store(settings, COMMAND) as store, local_changes(settings, COMMAND) as recorder:
        made = create_admin_token(store, recorder, LOCAL, name, role, expires_at)
    if as_json:
        print_json(made)
        return
    say(made["token"])
    say(f"This is {name}, with the role {role}. It is not shown again.", err=True)


@app.command("list")
def list_tokens(
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """List all admin tokens, including revoked ones; never their texts."""
    with open_key_store(load_for_stores(config), COMMAND) as store:
        found = list_admin_tokens(store)
    if as_json:
        print_json(found)
    else:
        print_table(COLUMNS, [_row(token) for token in found], wide=wide)


@app.command()
def revoke(
    name: NameArgument,
    config: ConfigOption = None,
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Revoke an admin token for good, in every running gateway within a second."""
    from ollama_gateway.cli.recording import local_changes  # noqa: PLC0415 - `list` needs none

    settings = load_for_stores(config)
    with open_key_store(settings, COMMAND) as store, local_changes(settings, COMMAND) as recorder:
        revoked = revoke_admin_token(store, recorder, LOCAL, name)
    if as_json:
        print_json(revoked)
    else:
        say(f"revoked {printable(name)}, since {revoked['revoked_at']}")


def _row(token: dict[str, Any]) -> tuple[str, ...]:
    fields = ("name", "role", "status", "created_at", "expires_at")
    return tuple(token[field] or "-" for field in fields)
