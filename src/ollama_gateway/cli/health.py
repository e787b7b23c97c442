"""`gatewayctl health`: whether the gateway of these settings is alive, and whether it is ready.

A container's health check runs this command every few seconds, for ever. So what it runs stands
here and needs neither typer nor rich, which would double its cost; `__main__.py` calls it directly
where `question_of` understands the arguments. All other command lines (`--help`, mistakes) go
through typer, as `health_command.py` declares them.
"""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any

import attrs

from ollama_gateway.cli.admin import AdminAnswer, NoAnswer, ask
from ollama_gateway.cli.lines import print_json, say
from ollama_gateway.cli.load_settings import load_silently
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.cli.remote.choice import HERE, GatewayChoice
from ollama_gateway.printable import printable


@attrs.frozen
class HealthQuestion:
    """What the command line asks."""

    gateway: GatewayChoice = HERE
    ready: bool = False
    """Whether the exit code tells readiness."""
    as_json: bool = False


def question_of(arguments: Sequence[str]) -> HealthQuestion | None:
    """Read the arguments after `health`; None if they are anything but plain options."""
    question, rest = HealthQuestion(), list(arguments)
    while rest:
        match rest:
            case ["--ready", *rest]:
                question = attrs.evolve(question, ready=True)
            case ["--json", *rest]:
                question = attrs.evolve(question, as_json=True)
            case ["--config", name, *rest] if name and not name.startswith("-"):
                question = attrs.evolve(question, gateway=GatewayChoice(config=Path(name)))
            case _:
                return None
    return question


def answer(question: HealthQuestion) -> int:
    """Print the state of the gateway and return the exit code."""
    address = _address(question.gateway)
    state = _state(address)
    if question.as_json:
        print_json(state)
    elif not state["alive"]:
        say(f"not running: nothing answers on {address.shown}")
    else:
        for line in _lines(state):
            say(line)
    return 0 if state["ready"] or (state["alive"] and not question.ready) else 1


def _lines(state: dict[str, Any]) -> list[str]:
    degraded = list(map(printable, state.get("degraded", ())))
    if state["ready"]:
        return [f"ready, {'; '.join(degraded)}" if degraded else "ready"]
    reasons = ", ".join(map(printable, state["reasons"]))
    return [f"not ready: {reasons}", *(f"degraded: {one}" for one in degraded)]


def _address(gateway: GatewayChoice) -> AdminAddress:
    """Return where to ask; nothing says which settings those are, as this runs all the time."""
    far = gateway.remote()
    return far or AdminAddress.of_settings(load_silently(gateway.config).settings.server)


def _state(address: AdminAddress) -> dict[str, Any]:
    try:
        if ask(address, "/healthz").status == HTTPStatus.OK:
            return {"alive": True, **_readiness(ask(address, "/readyz"))}
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
