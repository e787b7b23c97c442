"""`gatewayctl health`: whether the gateway of these settings is alive, and whether it is ready."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any

import typer

from ollama_gateway.cli.admin import AdminAnswer, NoAnswer, ask
from ollama_gateway.cli.config import ConfigOption, JsonOption, load_silently
from ollama_gateway.cli.output import print_json, say
from ollama_gateway.printable import printable
from ollama_gateway.settings import ServerSettings

ReadyOption = Annotated[bool, typer.Option("--ready", help="Exit 0 only if it is ready.")]


def health(
    config: ConfigOption = None,
    ready: ReadyOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Exit 0 if the gateway is alive; say whether it is ready, and if not, why."""
    server = load_silently(config).settings.server
    state = _state(server)
    if as_json:
        print_json(state)
    elif not state["alive"]:
        say(f"not running: nothing answers on {server.admin_bind}")
    else:
        say(
            "ready"
            if state["ready"]
            else f"not ready: {', '.join(map(printable, state['reasons']))}"
        )
        for reason in state.get("degraded", ()):
            say(f"degraded: {printable(reason)}")
    raise typer.Exit(0 if state["ready"] or (state["alive"] and not ready) else 1)


def _state(server: ServerSettings) -> dict[str, Any]:
    try:
        if ask(server, "/healthz").status == HTTPStatus.OK:
            return {"alive": True, **_readiness(ask(server, "/readyz"))}
    except NoAnswer:
        pass
    return {"alive": False, "ready": False, "reasons": ["not running"]}


def _readiness(answer: AdminAnswer) -> dict[str, Any]:
    match answer.value:
        case {"ready": bool(), "reasons": [*reasons]} if all(isinstance(r, str) for r in reasons):
            degraded = answer.value.get("degraded", [])
            if isinstance(degraded, list) and all(isinstance(reason, str) for reason in degraded):
                return answer.value
    return {"ready": False, "reasons": [f"readiness is unknown: /readyz answered {answer.status}"]}
