"""What follows a change of the pause file: the running gateway follows, and requests end."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import Final, NoReturn

import typer

from ollama_gateway.cli.admin import NoAnswer
from ollama_gateway.cli.output import count_of, exit_with, print_json, say, say_over
from ollama_gateway.cli.pausing import BackendStatus, ask_statuses, statuses_of
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings

IN_FORCE_SECONDS: Final = 3.0
"""Time for a gateway to follow the file, which it reads twice a second."""
_NAP: Final = 0.1
_LOOK: Final = 0.5
"""Seconds between two looks at the requests that are left."""


def report(settings: Settings, name: str, *, is_paused: bool, as_json: bool) -> None:
    """Print the result; exit with code 1 if the running gateway does not follow it."""
    status = when_in_force(settings, name, is_paused=is_paused)
    is_in_force = status and status.paused == is_paused
    if as_json:
        in_flight = status and status.in_flight
        done = {"name": name, "paused": is_paused, "in_flight": in_flight, "in_force": is_in_force}
        print_json(done)
    elif is_in_force is not False:
        say(_done(name, status, is_paused=is_paused))
        directory = printable(str(settings.storage.data_dir))
        say(f"takes effect within a second in every gateway whose data_dir is {directory}")
    if is_in_force is False:
        _exit_unfollowed(settings)


def when_in_force(settings: Settings, name: str, *, is_paused: bool) -> BackendStatus | None:
    """Wait until the change is in force, but not longer than its time, and return the status.

    None if no gateway answers, or if it does not know the backend.
    """
    deadline = time.monotonic() + IN_FORCE_SECONDS
    status = statuses_of(settings).get(name)
    while status and status.paused != is_paused and time.monotonic() < deadline:
        time.sleep(_NAP)
        with suppress(NoAnswer):
            status = ask_statuses(settings.server).get(name)
    return status


def _done(name: str, status: BackendStatus | None, *, is_paused: bool) -> str:
    if not is_paused:
        return f"{printable(name)} is resumed: new requests go to it"
    done = f"{printable(name)} is paused: no new requests go to it"
    if status is None:
        return done
    running = {0: "none is", 1: "1 is"}.get(status.in_flight or 0, f"{status.in_flight} are")
    return f"{done}, {running} still running"


def _exit_unfollowed(settings: Settings) -> NoReturn:
    exit_with(
        1,
        f"gatewayctl backends: the gateway on {settings.server.admin_bind} does not follow; "
        "does it have another storage.data_dir?",
    )


def wait_until_idle(settings: Settings, name: str, seconds: float, *, as_json: bool) -> None:
    """Print how many requests are left, and at the end the result.

    Ends the command with code 1 if the running gateway does not follow, or if requests are left
    after `seconds`. Without a gateway nothing runs.
    """
    deadline = time.monotonic() + seconds
    status = when_in_force(settings, name, is_paused=True)
    if status is not None and not status.paused:
        _exit_unfollowed(settings)
    while status is not None and status.in_flight and time.monotonic() < deadline:
        say_over(f"{name}: {count_of(status.in_flight, 'request')} left")
        time.sleep(_LOOK)
        with suppress(NoAnswer):
            status = ask_statuses(settings.server).get(name)
    say_over("")
    _report_drained(name, status, as_json=as_json)


def _report_drained(name: str, status: BackendStatus | None, *, as_json: bool) -> None:
    left = status and status.in_flight
    if as_json:
        print_json({"name": name, "paused": True, "in_flight": left, "drained": not left})
    elif not left:
        known = "no request runs there" if status else "no gateway runs that could send requests"
        say(f"{printable(name)} is drained: {known}")
    if left:
        exit_with(1, f"gatewayctl backends: {count_of(left, 'request')} left at {printable(name)}")
    raise typer.Exit
