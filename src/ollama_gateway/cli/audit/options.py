"""The options by which `gatewayctl audit list` and `usage` pick rows."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from ollama_gateway.cli.audit.outcomes import OUTCOMES
from ollama_gateway.settings.units import shown


def _alike(flag: str, of_what: str) -> Any:
    return typer.Option(flag, metavar=flag[2:].upper(), help=f"Only {of_what}.")


KeyFilterOption = Annotated[str | None, _alike("--key", "requests of this key, by its id or name")]
ModelOption = Annotated[str | None, _alike("--model", "requests for this model")]
BackendOption = Annotated[str | None, _alike("--backend", "requests that this backend answered")]
OutcomeOption = Annotated[
    str | None, _alike("--outcome", f"requests that ended so: {', '.join(OUTCOMES)}")
]
ReasonOption = Annotated[str | None, _alike("--reason", "requests that ended for this reason")]
EndUserOption = Annotated[str | None, _alike("--end-user", "requests for this end user")]
EndpointOption = Annotated[
    str | None, _alike("--endpoint", "requests to this path, e.g. /api/chat")
]
OpenOption = Annotated[
    bool, typer.Option("--open", help="At the end, also requests that still run: no outcome.")
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=0, metavar="N", help="The newest N alone.")
]
FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on with new rows until stopped.")
]


def read_outcome(text: str | None) -> str | None:
    """One of the outcomes that there are."""
    if text is not None and text not in OUTCOMES:
        raise typer.BadParameter(
            f"{shown(text)} is not one of {', '.join(OUTCOMES)}", param_hint="--outcome"
        )
    return text
