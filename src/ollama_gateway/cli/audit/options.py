"""The options by which `gatewayctl audit list` and `usage` select records."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from ollama_gateway.cli.audit.outcomes import OUTCOMES
from ollama_gateway.cli.completion import complete_backend, complete_key, complete_model
from ollama_gateway.settings.units import shown

FIRST: Final = 200
"""Records from which the widths of a table are taken."""


def _only(flag: str, requests: str, complete: Any = None) -> Any:
    return typer.Option(
        flag, metavar=flag[2:].upper(), help=f"Only {requests}.", autocompletion=complete
    )


KeyFilterOption = Annotated[
    str | None, _only("--key", "requests of this key, by its id or name", complete_key)
]
ModelOption = Annotated[str | None, _only("--model", "requests for this model", complete_model)]
BackendOption = Annotated[
    str | None, _only("--backend", "requests that this backend answered", complete_backend)
]
OutcomeOption = Annotated[
    str | None, _only("--outcome", f"requests with this outcome: {', '.join(OUTCOMES)}")
]
ReasonOption = Annotated[str | None, _only("--reason", "requests that ended for this reason")]
EndUserOption = Annotated[str | None, _only("--end-user", "requests for this end user")]
EndpointOption = Annotated[str | None, _only("--endpoint", "requests to this path, e.g. /api/chat")]
OpenOption = Annotated[
    bool,
    typer.Option("--open", help="Also show requests that still run on this machine, at the end."),
]
LimitOption = Annotated[
    int | None, typer.Option("--limit", min=0, metavar="N", help="Only the newest N.")
]
FollowOption = Annotated[
    bool, typer.Option("--follow", "-f", help="Wait for new records until stopped.")
]


def read_outcome(text: str | None) -> str | None:
    """Check that an outcome exists."""
    if text is not None and text not in OUTCOMES:
        raise typer.BadParameter(
            f"{shown(text)} is not one of {', '.join(OUTCOMES)}", param_hint="--outcome"
        )
    return text
