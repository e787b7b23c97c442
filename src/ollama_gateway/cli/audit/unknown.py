"""End a command whose filter is mistyped."""

from __future__ import annotations

from functools import partial

from ollama_gateway.cli.audit.sources import place_of
from ollama_gateway.cli.known_names import backend_names, key_names_and_ids, model_names
from ollama_gateway.cli.output import exit_with
from ollama_gateway.ledger.read.filtering import Filter
from ollama_gateway.settings import Settings


def exit_if_unknown(settings: Settings, wanted: Filter, command: str) -> None:
    """End the command with code 1 if a name in a filter that matched nothing is known nowhere."""
    from ollama_gateway.control.unknown_filters import unknown_in  # noqa: PLC0415 - seldom needed

    names = {
        "key": partial(key_names_and_ids, settings),
        "model": partial(model_names, settings),
        "backend": partial(backend_names, settings),
    }
    if lines := unknown_in(place_of(settings), wanted, names):
        exit_with(1, *(f"gatewayctl {command}: {line}" for line in lines))
