"""The operation that tells how the gateway is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs

from ollama_gateway.control.shapes import (
    Anything,
    Fields,
    Flag,
    Integer,
    ListOf,
    MapOf,
    OrNull,
    Text,
)
from ollama_gateway.control.status import GatewayStatus
from ollama_gateway.server.admin_api.backends import BACKEND
from ollama_gateway.server.admin_api.operation import AdminCall, AdminReply, Operation
from ollama_gateway.turns import in_turns

COUNT: Final = Integer()
TEXT: Final = OrNull(Text())
STATUS: Final = Fields(
    {
        "ready": Flag("Whether requests are admitted."),
        "reasons": ListOf(Text(), "Why not."),
        "degraded": ListOf(Text(), "What is wrong all the same."),
        "settings": OrNull(Text("The file that the settings come from.")),
        "requests": Integer("Requests that run."),
        "connections": Integer("Connections of clients."),
        "waiting": Integer("Requests that wait for a backend with room."),
        "models": Integer("Models of the backends that are up."),
        "limits": Fields(
            {
                "store": Text(),
                "why_not": TEXT,
                "cause": TEXT,
                "requests": COUNT,
                "settlements_waiting": COUNT,
                "spending_file_failing": Flag(),
            }
        ),
        "catalog_copy": Fields({"cause": TEXT, "why_not": TEXT}),
        "audit": Fields(
            {
                "mode": Text(one_of=("strict", "buffered")),
                "journal": Text(),
                "rows": COUNT,
                "rows_waiting": COUNT,
                "failing": Flag(),
                "rows_unmoved": OrNull(COUNT),
                "left_alone": TEXT,
            }
        ),
        "backends": ListOf(BACKEND),
        "processes": ListOf(MapOf(Anything()), "Each process, where there are several."),
    },
    needed=("ready", "reasons", "degraded"),
)


@attrs.frozen
class StatusOperations:
    """The operation on the state of one process's gateway."""

    state: GatewayStatus

    def all(self) -> Sequence[Operation]:
        """Return the operation."""
        about = "Tell how this gateway is, and its figures."
        return [Operation("GET", "/status", "viewer", about, self._get, STATUS)]

    async def _get(self, _call: AdminCall) -> AdminReply:
        return AdminReply(await in_turns(self.state.document()))
