"""`gatewayctl serve`: run the gateway until SIGTERM or SIGINT."""

from __future__ import annotations

import sys
from functools import partial

import trio
import typer

from ollama_gateway import log
from ollama_gateway.build import Gateway, TLSFilesBroken
from ollama_gateway.cli.config import ConfigOption, load_or_exit
from ollama_gateway.keys import FILE_NAME
from ollama_gateway.keys.key import StoreError
from ollama_gateway.keys.sqlite import SQLiteKeys
from ollama_gateway.server.listener import AddressTaken
from ollama_gateway.settings import Settings
from ollama_gateway.supervisor import supervise

OPERATIONAL = (AddressTaken, StoreError, TLSFilesBroken)
"""What can keep a gateway with valid settings from starting; each with one line to say."""


def serve(config: ConfigOption = None) -> None:
    """Serve until SIGTERM or SIGINT: then drain, and exit 0; a second signal ends it at once."""
    settings = load_or_exit(config).settings
    log.configure(settings.log.level, settings.log.format)
    try:
        _say_how_to_make_a_key(settings)
        trio.run(partial(supervise, settings, on_ready=partial(_announce, settings)))
    except* OPERATIONAL as errors:
        for error in errors.exceptions:
            print(f"gatewayctl serve: {error}", file=sys.stderr)  # noqa: T201
        raise typer.Exit(1) from None


def _say_how_to_make_a_key(settings: Settings) -> None:
    """Say which store is used, and how to make a first key."""
    path = settings.storage.data_dir / FILE_NAME
    store = SQLiteKeys(path)
    try:
        keys = store.count_active()
    finally:
        store.close()
    print(f"keys: sqlite {path} ({keys} active)", file=sys.stderr)  # noqa: T201
    if keys == 0:
        print("no API key yet: make one with `gatewayctl keys create NAME`", file=sys.stderr)  # noqa: T201


def _announce(settings: Settings, gateway: Gateway, address: str) -> None:
    up = sum(backend.is_up for backend in gateway.backends.all)
    log.get_logger("serve").info(
        "serving",
        address=f"http://{address}",
        admin=f"http://{settings.server.admin_bind}",
        backends=len(gateway.backends.all),
        up=up,
        models=len(gateway.backends.catalog.models),
    )
