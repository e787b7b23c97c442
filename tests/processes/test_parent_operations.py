"""What the parent of several processes answers at the admin API: merged, and by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from ollama_gateway.backends.pausing import PauseFile
from ollama_gateway.control.actor import Actor
from ollama_gateway.errors import Unavailable
from ollama_gateway.processes.parent_operations import FOLLOW_SECONDS, ParentOperations
from ollama_gateway.server.admin_api.operation import AdminCall, AdminReply
from ollama_gateway.server.reload_handlers import ReloadReport
from ollama_gateway.storage.batcher import in_place
from tests.control.changes import ListedChanges

Clock = trio.testing.MockClock
ANN = Actor("ann", "operator")


@attrs.define
class Settings:
    """A reloader that has nothing to change."""

    async def reload(self) -> ReloadReport:
        """Change nothing."""
        return ReloadReport([])

    async def difference(self) -> list[dict[str, Any]]:
        """Find none."""
        return []

    def in_force(self) -> dict[str, Any]:
        """Return one setting."""
        return {"source": None, "settings": {"server.processes": {"value": 2, "origin": "file"}}}


@attrs.define
class Parent:
    """A parent whose processes follow the pause file after some seconds."""

    directory: Path
    lag: float = 0.5
    answers: bool = True
    changes: ListedChanges = attrs.field(factory=ListedChanges)

    @property
    def file(self) -> PauseFile:
        """The pause file."""
        return PauseFile(self.directory)

    async def status(self) -> dict[str, Any]:
        """Return the merged status."""
        if not self.answers:
            return {"ready": False, "reasons": ["no process serves"], "degraded": []}
        names = self.file.read() if trio.current_time() >= self.lag else frozenset()
        backend = {"name": "a", "priority": 1, "in_flight": 3, "paused": "a" in names}
        return {"ready": True, "backends": [backend]}

    async def ask(self, method: str, path: str) -> AdminReply:
        """Let an operator ask."""
        operations = ParentOperations(
            self.status, self.file, self.changes, Settings(), in_place
        ).all()
        for operation in operations:
            parameters = operation.match(path)
            if operation.method == method and parameters is not None:
                return await operation.serve(AdminCall(ANN, parameters))
        raise AssertionError(path)


async def test_a_pause_is_answered_when_all_follow(autojump_clock: Clock, tmp_path: Path) -> None:
    """The answer has what all processes have in flight, and comes once they have paused it."""
    parent = Parent(tmp_path)
    reply = await parent.ask("POST", "/backends/a/drain")

    assert (reply.document["paused"], reply.document["in_flight"]) == (True, 3)
    assert parent.lag <= trio.current_time() < FOLLOW_SECONDS
    assert [(one.by, one.action) for one in parent.changes.made] == [("ann", "backends.pause")]


async def test_processes_that_do_not_follow_hold_up_no_answer(
    autojump_clock: Clock, tmp_path: Path
) -> None:
    """After three seconds the answer says that the backend is not paused yet."""
    reply = await Parent(tmp_path, lag=100).ask("POST", "/backends/a/pause")

    assert reply.document["paused"] is False
    assert trio.current_time() == pytest.approx(FOLLOW_SECONDS)


async def test_without_a_process_there_are_no_backends(tmp_path: Path) -> None:
    """While no process answers, there is a state, and backends are a 503."""
    parent = Parent(tmp_path, answers=False)

    assert (await parent.ask("GET", "/status")).document["ready"] is False
    with pytest.raises(Unavailable):
        await parent.ask("GET", "/backends")


async def test_the_settings_are_the_parents(tmp_path: Path) -> None:
    """The parent reads the settings for all, so it answers for them."""
    parent = Parent(tmp_path)

    assert (await parent.ask("GET", "/config")).document == Settings().in_force()
    assert (await parent.ask("POST", "/config/reload")).document["changes"] == []
    assert [one.action for one in parent.changes.made] == ["config.reload"]
