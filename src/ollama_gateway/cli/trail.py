"""How commands read the trail, and print what may have no end."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from ollama_gateway.ledger.reading import Journals
from ollama_gateway.settings import Settings
from ollama_gateway.settings.units import printable


def teller(command: str) -> Callable[[str], None]:
    """Tells a line on stderr, in the name of a command."""
    return lambda line: typer.echo(f"gatewayctl {command}: {printable(line)}", err=True)


@contextmanager
def opened(settings: Settings, command: str) -> Iterator[Journals]:
    """The trail of these settings. What of it cannot be read is told, and makes exit code 1."""
    faults: list[str] = []
    tell = teller(command)

    def complain(fault: str) -> None:
        faults.append(fault)
        tell(fault)

    journals = Journals(settings.storage.data_dir, complain)
    if not journals.strands() and not faults:
        tell_of_none(settings, command)
    yield journals
    if faults:
        raise typer.Exit(1)


def tell_of_none(settings: Settings, command: str) -> None:
    """Say where there are no journals: a wrong directory is the easiest mistake to make here."""
    teller(command)(f"there are no journals in {settings.storage.data_dir}")


@contextmanager
def readable_in_part(command: str) -> Iterator[None]:
    """Let whoever reads stop reading (`| head`): then the command is done."""
    try:
        yield
    except OSError as error:
        # Else Python would try to write what is left, and complain at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise typer.Exit(0) from None
        teller(command)(f"cannot write: {error.strerror}")
        raise typer.Exit(1) from None


@contextmanager
def until_stopped() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM end the block, as that is how it is meant to end."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
