"""Ask the running gateway what a reload would change: settings that are not in force yet."""

from __future__ import annotations

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

import attrs

from ollama_gateway.cli.admin import NoAnswer, ask, unexpected
from ollama_gateway.cli.lines import say
from ollama_gateway.cli.remote.address import AdminAddress
from ollama_gateway.printable import printable
from ollama_gateway.settings import Settings
from ollama_gateway.settings.model import SECTIONS, fields_of


@attrs.frozen
class PendingChange:
    """A setting whose value in the file or the environment is not in force."""

    path: str
    before: Any
    """In force now; None if it is a new backend."""
    after: Any
    """As read now; None if it is a removed backend."""
    needs_restart: bool


def ask_pending(address: AdminAddress) -> Sequence[PendingChange]:
    """Ask the gateway at this address.

    Raises:
        NoAnswer: no gateway answers, or it cannot tell: it is older, or its settings are wrong.

    """
    answer = ask(address, "/diff.json")
    changes = answer.value.get("changes")
    if answer.status != HTTPStatus.OK or not isinstance(changes, list):
        raise unexpected(answer)
    return [_read(change) for change in changes]


def pending_or_none(address: AdminAddress) -> Sequence[PendingChange]:
    """Do the same; nothing is pending if no gateway can tell."""
    try:
        return ask_pending(address)
    except NoAnswer:
        return ()


def say_pending(pending: Sequence[PendingChange]) -> None:
    """Print to stderr which settings are not in force, if any, and what puts them in force."""
    for needs_restart, cure in ((False, "gatewayctl reload"), (True, "a restart")):
        paths = [change.path for change in pending if change.needs_restart is needs_restart]
        if paths:
            named = printable(", ".join(paths))
            say(f"not in force before {cure}: {named}", err=True)


def in_force(pending: Sequence[PendingChange], settings: Settings) -> dict[str, Any]:
    """Return the values in force of settings that have others now, by path in these settings.

    All settings of a backend that is new have None. A removed backend, and the order, have no path.
    """
    changed = {change.path: change.before for change in pending}
    listed = [(name, name, getattr(settings, name)) for name in SECTIONS]
    listed += [
        (f"backends[{i}]", f"backends[{b.name}]", b) for i, b in enumerate(settings.backends)
    ]
    found: dict[str, Any] = {}
    for path, named, table in listed:
        for field in fields_of(type(table)):
            if named in changed:
                found[f"{path}.{field.name}"] = None
            elif f"{named}.{field.name}" in changed:
                found[f"{path}.{field.name}"] = changed[f"{named}.{field.name}"]
    return found


def _read(value: object) -> PendingChange:
    match value:
        case {"path": str(path), "before": before, "after": after, "needs_restart": bool(restart)}:
            return PendingChange(path, before, after, restart)
    raise NoAnswer
