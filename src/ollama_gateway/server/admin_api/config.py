"""Operations on the settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import attrs

from ollama_gateway.control.errors import Conflict, Problem, WrongInput
from ollama_gateway.control.recording import recorded
from ollama_gateway.control.shapes import (
    Anything,
    Fields,
    Flag,
    ListOf,
    MapOf,
    OrNull,
    Shape,
    Text,
)
from ollama_gateway.ledger.operator_change import ChangeRecorder, OperatorChange
from ollama_gateway.server.admin_api.operation import AdminCall, AdminReply, Operation
from ollama_gateway.server.reload_handlers import Reloader, ReloadFailed
from ollama_gateway.storage.batcher import Runner

MOST: Final = 100_000
"""Settings that an answer has."""
VALUE: Final = Anything("As a settings file has it; of a secret only whether it is set.")
SETTING: Final = Fields(
    {"value": VALUE, "origin": OrNull(Text("`default`, `file` or `environment`."))}
)
CONFIG: Final = Fields(
    {
        "source": OrNull(Text("The settings file.")),
        "settings": MapOf(SETTING, "By path: `server.bind`, `backends[0].url`."),
    }
)
CHANGE: Final[dict[str, Shape]] = {"path": Text(), "before": VALUE, "after": VALUE}
DIFFERENCE: Final = Fields(
    {
        "changes": ListOf(
            Fields({**CHANGE, "needs_restart": Flag("Whether a reload refuses it.")}), most=MOST
        )
    }
)
RELOADED: Final = Fields(
    {"changes": ListOf(Fields(CHANGE), most=MOST), "warnings": ListOf(Text(), most=MOST)}
)


@attrs.frozen
class ConfigOperations:
    """Operations on the settings of a gateway, which it reads again itself."""

    find_reloader: Callable[[], Reloader | None]
    recorder: ChangeRecorder
    runner: Runner

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        return [
            Operation("GET", "/config", "viewer", "Get the settings in force.", self._get, CONFIG),
            Operation(
                "GET",
                "/config/diff",
                "viewer",
                "List what a reload would change.",
                self._difference,
                DIFFERENCE,
            ),
            Operation(
                "POST",
                "/config/reload",
                "operator",
                "Put the settings in force as their file and the environment have them now.",
                self._reload,
                RELOADED,
            ),
        ]

    async def _get(self, _call: AdminCall) -> AdminReply:
        return AdminReply(self._reloader().in_force())

    async def _difference(self, _call: AdminCall) -> AdminReply:
        try:
            found = await self._reloader().difference()
        except ReloadFailed as error:
            raise _wrong(error) from None
        return AdminReply({"changes": list(found)})

    async def _reload(self, call: AdminCall) -> AdminReply:
        after: dict[str, Any] = {}
        change = OperatorChange(call.actor.name, "config.reload", "settings", None, after)
        reloader = self._reloader()
        try:
            async with recorded(self.recorder, change, self.runner):
                report = await reloader.reload()
                after["changes"] = list(report.changes)
        except ReloadFailed as error:
            raise _wrong(error) from None
        return AdminReply({"changes": list(report.changes), "warnings": list(report.warnings)})

    def _reloader(self) -> Reloader:
        reloader = self.find_reloader()
        if reloader is None:
            raise Conflict("the settings of this process were handed to it: it cannot read them")
        return reloader


def _wrong(error: ReloadFailed) -> WrongInput:
    """Return the error of the API: each problem by the path of its setting."""
    problems = []
    for line in error.problems:
        path, colon, detail = line.partition(": ")
        problems.append(Problem(path, detail) if colon else Problem("settings", line))
    return WrongInput(problems)
