"""`gatewayctl health`: is the gateway of these settings alive, and is it ready."""

from __future__ import annotations

from typing import Annotated, Any

import httpx
import typer

from ollama_gateway.cli.config import ConfigOption, JsonOption, load_or_exit
from ollama_gateway.cli.output import print_json
from ollama_gateway.settings import Settings

TIMEOUT = 5.0
"""Seconds for the admin listener to answer."""
ANY = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - where to reach what listens everywhere

ReadyOption = Annotated[bool, typer.Option("--ready", help="Exit by readiness, not by life.")]


def health(
    config: ConfigOption = None,
    ready: ReadyOption = False,  # noqa: FBT002 - a flag
    as_json: JsonOption = False,  # noqa: FBT002 - a flag
) -> None:
    """Exit 0 while the gateway is alive; say whether it is ready, and why not."""
    settings = load_or_exit(config).settings
    state = _ask(settings)
    if as_json:
        print_json(state)
    elif not state["alive"]:
        typer.echo(f"not running: nothing answers on {settings.server.admin_bind}")
    else:
        typer.echo("ready" if state["ready"] else f"not ready: {', '.join(state['reasons'])}")
    raise typer.Exit(0 if state["ready"] or (state["alive"] and not ready) else 1)


def _ask(settings: Settings) -> dict[str, Any]:
    bind, token = settings.server.admin_bind, settings.server.admin_token
    host = ANY.get(bind.host, bind.host)
    address = f"http://[{host}]:{bind.port}" if ":" in host else f"http://{host}:{bind.port}"
    headers = {"authorization": f"Bearer {token.reveal()}"} if token else {}
    try:
        with httpx.Client(base_url=address, trust_env=False, timeout=TIMEOUT) as client:
            client.get("/healthz").raise_for_status()
            readiness = client.get("/readyz", headers=headers).json()
            return {"alive": True, **readiness}
    except (httpx.HTTPError, ValueError):
        return {"alive": False, "ready": False, "reasons": ["not running"]}
