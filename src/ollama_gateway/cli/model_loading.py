"""What `gatewayctl models load` and `unload` run: ask the backend itself, without a gateway.

A gateway notices at its next poll.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import trio

from ollama_gateway.backends.backend import Backend
from ollama_gateway.backends.discovery import PollFailed, poll
from ollama_gateway.build_backends import build_backends, load_policies
from ollama_gateway.certificates import TLSFilesBroken
from ollama_gateway.cli.lines import exit_with, print_json, say
from ollama_gateway.cli.load_settings import load_for_stores
from ollama_gateway.cli.recording import local_changes
from ollama_gateway.control.actor import LOCAL
from ollama_gateway.control.backends import backend_named
from ollama_gateway.control.errors import ControlError
from ollama_gateway.control.hosted_model import HostedModel
from ollama_gateway.errors import GatewayError
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings

Verb = Literal["load", "unload"]


def run(verb: Verb, model: str, name: str, config: Path | None, *, as_json: bool) -> int:
    """Load or unload a model, print the result, and return the exit code."""
    settings, command = load_for_stores(config), f"gatewayctl models {verb}"
    try:
        backend = backend_named(build_backends(settings), name)
        hosted = trio.run(_found, backend, model, settings.discovery.timeout)
        change = hosted.change(LOCAL, verb)
        with local_changes(settings, command) as recorder, recorder.making(change):
            trio.run(_done, verb, hosted, settings)
    except TLSFilesBroken as error:
        exit_with(2, f"{command}: {error}")
    except (ControlError, GatewayError, PollFailed) as error:
        exit_with(1, f"{command}: {error}")
    if as_json:
        print_json({"model": hosted.name, "backend": name, "loaded": verb == "load"})
    else:
        done = "is loaded" if verb == "load" else "is unloaded once its requests have ended"
        say(f"{printable(hosted.name)} {done} at {printable(name)}")
    return 0


async def _found(backend: Backend, model: str, timeout: float) -> HostedModel:
    """Poll the backend, and find the model there."""
    try:
        listing = await poll(backend, timeout)
    except PollFailed as failure:
        raise PollFailed(f"backend {backend.name}: {failure}") from None
    backend.take_over(listing, trio.current_time())
    return HostedModel.of(backend, model)


async def _done(verb: Verb, hosted: HostedModel, settings: Settings) -> None:
    if verb == "load":
        await hosted.load(load_policies(settings), settings.race.first_chunk_timeout)
    else:
        await hosted.unload()
