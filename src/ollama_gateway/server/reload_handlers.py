"""`POST /reload` and `GET /diff.json` of the admin listener."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, Protocol

import attrs

from ollama_gateway.flow.ask import Ask
from ollama_gateway.wire.headers import Headers

JSON_HEADERS: Final[Headers] = [(b"content-type", b"application/json")]


class ReloadFailed(Exception):
    """The settings cannot be put in force; nothing has changed.

    Args:
        problems: each a line without any secret, which begins with a setting's path.

    """

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems: Final = tuple(problems)


@attrs.frozen
class ReloadReport:
    """What a reload has changed."""

    changes: Sequence[Mapping[str, Any]]
    """The `path` of each setting with its values `before` and `after`, without secrets."""
    warnings: Sequence[str] = ()
    """Values that are allowed but doubtful."""


class Reloader(Protocol):
    """Reloads the settings of a gateway."""

    async def reload(self) -> ReloadReport:
        """Put the settings in force as they are now; raises ReloadFailed and changes nothing."""
        ...

    def in_force(self) -> Mapping[str, Any]:
        """Return the settings in force, without secrets (`control/config.py`)."""
        ...

    async def difference(self) -> Sequence[Mapping[str, Any]]:
        """Return what a reload would change: `needs_restart` says what it would refuse.

        Raises ReloadFailed if the settings are wrong.
        """
        ...


@attrs.frozen
class ReloadHandlers:
    """The handlers of the admin listener: 200, or 422 with the problems."""

    reloader: Reloader

    async def reload(self, ask: Ask) -> None:
        """Answer `POST /reload` with what has changed."""
        try:
            await _respond(ask, HTTPStatus.OK, attrs.asdict(await self.reloader.reload()))
        except ReloadFailed as error:
            await _refuse(ask, error)

    async def difference(self, ask: Ask) -> None:
        """Answer `GET /diff.json` with what a reload would change."""
        try:
            await _respond(ask, HTTPStatus.OK, {"changes": await self.reloader.difference()})
        except ReloadFailed as error:
            await _refuse(ask, error)


async def _refuse(ask: Ask, error: ReloadFailed) -> None:
    await _respond(ask, HTTPStatus.UNPROCESSABLE_ENTITY, {"problems": error.problems})


async def _respond(ask: Ask, status: HTTPStatus, body: object) -> None:
    await ask.downstream.respond(status, JSON_HEADERS, json.dumps(body).encode())
