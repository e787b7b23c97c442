"""The operations that the parent of several processes answers itself.

Whatever is counted in each process is merged: a backend is drained once no process has a request
there. The settings are the parent's. A pause is written into the file by the parent, and answered
when all processes follow it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import anyio
import attrs

from ollama_gateway.backends.pausing import PauseFile
from ollama_gateway.control.backends import BackendDocument
from ollama_gateway.control.pausing import PauseControl
from ollama_gateway.control.status import StatusDocument
from ollama_gateway.errors import Unavailable
from ollama_gateway.ledger.operator_change import ChangeRecorder
from ollama_gateway.reasons import Reason
from ollama_gateway.server.admin_api.backends import BackendOperations
from ollama_gateway.server.admin_api.config import ConfigOperations
from ollama_gateway.server.admin_api.operation import Operation
from ollama_gateway.server.admin_api.status import StatusOperations
from ollama_gateway.server.reload_handlers import Reloader
from ollama_gateway.storage.batcher import Runner, in_thread

FOLLOW_SECONDS: Final = 3.0
"""Seconds that the processes have to follow the pause file, which they read twice a second."""
_NAP: Final = 0.1


@attrs.frozen
class ParentOperations:
    """What the parent needs for them."""

    find_status: Callable[[], Awaitable[StatusDocument]]
    """Returns the merged status."""
    file: PauseFile
    recorder: ChangeRecorder
    reloader: Reloader
    runner: Runner = in_thread

    def all(self) -> Sequence[Operation]:
        """Return the operations."""
        pausing = PauseControl(self.file, self.recorder)
        return [
            *StatusOperations(self.find_status).all(),
            *BackendOperations(self._backends, pausing, self._followed, self.runner).all(),
            *ConfigOperations(lambda: self.reloader, self.recorder, self.runner).all(),
        ]

    async def _backends(self) -> Sequence[BackendDocument]:
        found: list[BackendDocument] | None = (await self.find_status()).get("backends")
        if found is None:
            message = "no process answers, try again"
            raise Unavailable(message, reason=Reason.NO_PROCESS, retry_after=1)
        return found

    async def _followed(self, names: frozenset[str]) -> None:
        """Wait until the processes follow the file, but not longer than their time."""
        with anyio.move_on_after(FOLLOW_SECONDS):
            while True:
                found = await self._backends()
                if all(one["paused"] == (one["name"] in names) for one in found):
                    return
                await anyio.sleep(_NAP)
