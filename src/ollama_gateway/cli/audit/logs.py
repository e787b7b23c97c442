"""`gatewayctl logs`: the last requests that ended, and with `--follow` all that end from now on."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from ollama_gateway.cli.audit.commands import print_records
from ollama_gateway.cli.audit.options import (
    BackendOption,
    EndpointOption,
    EndUserOption,
    FollowOption,
    KeyFilterOption,
    ModelOption,
    OutcomeOption,
    ReasonOption,
    read_outcome,
)
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.options import ConfigOption, JsonOption, WideOption
from ollama_gateway.ledger.read.filtering import Filter, TimeRange

LAST: Final = 10
"""Requests that are shown of those that have ended, as `tail` does."""


def logs(  # noqa: PLR0913, PLR0917 - one for each option
    follow: FollowOption = False,  # noqa: FBT002 - a flag
    limit: Annotated[
        int, typer.Option("--limit", "-n", min=0, metavar="N", help="Begin with the last N.")
    ] = LAST,
    key: KeyFilterOption = None,
    model: ModelOption = None,
    backend: BackendOption = None,
    outcome: OutcomeOption = None,
    reason: ReasonOption = None,
    end_user: EndUserOption = None,
    endpoint: EndpointOption = None,
    config: ConfigOption = None,
    wide: WideOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Show the last requests, one per line, and with --follow those that end from now on."""
    names = (key, model, backend, read_outcome(outcome), reason, end_user, endpoint)
    wanted = Filter(TimeRange(), *names)
    settings = load_for_stores(config)
    print_records(settings, "logs", wanted, limit, follow=follow, wide=wide, as_json=as_json)
