"""How the backends stand in the running gateway, as its admin listener says.

What it says is checked to the last figure; anything odd, and a gateway of another version may be
odd, counts as no answer.
"""

from __future__ import annotations

from http import HTTPStatus

import attrs

from ollama_gateway.cli.admin import NoAnswer, ask
from ollama_gateway.settings import ServerSettings


@attrs.frozen
class BackendStatus:
    """One backend, as the gateway has it."""

    priority: int
    slots: int
    paused: bool | None
    """None, as with all below, is what nobody tells."""
    up: bool | None = None
    in_flight: int | None = None
    """Attempts that run there."""
    models: int | None = None
    loaded: int | None = None
    version: str | None = None

    @property
    def state(self) -> str:
        """In a word or two."""
        state = {True: "up", False: "down", None: "?"}[self.up]
        return f"paused, {state}" if self.paused else state


def ask_statuses(server: ServerSettings) -> dict[str, BackendStatus]:
    """Ask the running gateway for its backends, by name.

    Raises:
        NoAnswer: no gateway answers, or not as one would.

    """
    answer = ask(server, "/status.json")
    backends = answer.value.get("backends")
    if answer.status != HTTPStatus.OK or not isinstance(backends, list):
        raise NoAnswer
    return dict(map(_read, backends))


def _read(value: object) -> tuple[str, BackendStatus]:
    match value:
        case {
            "name": str(name),
            "priority": int(priority),
            "slots": int(slots),
            "paused": bool(paused),
            "up": bool(up),
            "in_flight": int(in_flight),
            "models": int(models),
            "loaded": int(loaded),
            "version": str() | None as version,
        }:
            return name, BackendStatus(
                priority, slots, paused, up, in_flight, models, loaded, version
            )
    raise NoAnswer
