"""`POST /reload` of the admin listener."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import attrs

from ollama_gateway.flow.ask import Ask
from ollama_gateway.server.routes import Handler
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


Reload = Callable[[], Awaitable[ReloadReport]]
"""Puts the settings in force as they are now; raises ReloadFailed."""


def reload_handler(reload: Reload) -> Handler:
    """Return the handler: 200 with the changes, or 422 with the problems."""

    async def handle(ask: Ask) -> None:
        try:
            status, body = HTTPStatus.OK, attrs.asdict(await reload())
        except ReloadFailed as error:
            status, body = HTTPStatus.UNPROCESSABLE_ENTITY, {"problems": error.problems}
        await ask.downstream.respond(status, JSON_HEADERS, json.dumps(body).encode())

    return handle
